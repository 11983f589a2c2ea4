"""`batch-pipeline` in processes of its own, as a shell or a scheduler starts it."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from batch_pipeline_tests import forked
from batch_pipeline_tests.forked import BATCH_PIPELINE, Forked


def start(*arguments: str, file_size: int | None = None) -> Forked:
    """With the interrupt handling of a terminal's foreground job; `file_size` limits what it may write."""
    return forked.start(BATCH_PIPELINE, *arguments, file_size=file_size)


def start_anew(*arguments: str) -> "subprocess.Popen[str]":
    """As `start`, in a new interpreter, which takes seconds to import what it needs."""
    return subprocess.Popen(
        [sys.executable, "-c", BATCH_PIPELINE, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )


def finish(process: "Forked | subprocess.Popen[str]") -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    output, errors = process.communicate(timeout=240)
    return process.wait(), output, errors


def wait_until(condition: Callable[[], object], what: str) -> None:
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    raise AssertionError(f"waited two minutes for {what}")


def hears_sigterm(process: "Forked | subprocess.Popen[str]") -> bool:
    """Whether the process has a handler of its own for SIGTERM (Linux)."""
    assert process.poll() is None, finish(process)
    status = Path(f"/proc/{process.pid}/status").read_text()
    (mask,) = (line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(mask, 16) >> (signal.SIGTERM - 1) & 1)


def run_at_once(*loads: tuple[str, str]) -> list[dict[str, object]]:
    """The scorecards of one `run` per (workload, day), all started together; each must be promoted."""
    processes = [start("run", name, "--date", day, "--json") for name, day in loads]
    done = [finish(process) for process in processes]
    for code, _, errors in done:
        assert code == 0, errors
        assert "Traceback" not in errors
    return [json.loads(output) for _, output, _ in done]
