"""SIGTERM and Ctrl-C at any moment of `run`: exit 4, one JSON object, no traceback, and the next call goes on."""

import ctypes
import json
import os
import signal
import sqlite3
import sys
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from itertools import cycle
from pathlib import Path

import pytest

from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.cli.commands import (
    finish,
    hears_sigterm,
    start,
    start_anew,
    wait_until,
)
from batch_pipeline_tests.forked import Forked
from batch_pipeline_tests.night import DAY, Night, account_of

RUN = ("run", "questions", "--date", DAY, "--json")
# Seconds after the command began to listen: while it imports, checks, sends, waits and reads back.
DELAYS = (0.0, 1.0, 2.5)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")


@pytest.fixture
def made(night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch) -> Night:
    night_made = night()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night_made.folder.parent))
    return night_made


def run_started(night: Night) -> bool:
    """Whether Dagster's history holds a run that has started."""
    (path,) = (night.context.settings.state / "dagster").rglob("runs.db")
    with closing(sqlite3.connect(path)) as history:
        return ("STARTED",) in history.execute("SELECT status FROM runs").fetchall()


def run_in_a_step(made: Night) -> Forked:
    """`run`, in the step that waits for whoever holds the load."""
    process = start(*RUN)
    assert "submit" in process.stderr.readline()
    wait_until(partial(run_started, made), "the step to begin")
    return process


def send_to_another_thread(pid: int, number: int) -> None:
    """As the kernel may do with a signal for a process whose main thread has one to handle already."""
    tid = max(int(task.name) for task in Path(f"/proc/{pid}/task").iterdir())
    assert tid != pid
    assert ctypes.CDLL(None, use_errno=True).tgkill(pid, tid, number) == 0


def test_a_stop_at_any_moment_is_exit_4_with_json_and_the_next_call_goes_on(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulator = simulate(turnaround_seconds=1)
    stopped = 0
    for delay, which in zip(DELAYS, cycle([signal.SIGTERM, signal.SIGINT])):
        # Only a new interpreter takes its time to import, and can be stopped meanwhile.
        process = start(*RUN) if delay else start_anew(*RUN)
        wait_until(partial(hears_sigterm, process), "the command to listen")
        time.sleep(delay)
        process.send_signal(which)
        code, output, errors = finish(process)
        assert code in (0, 4), errors
        assert output.count("\n") == 1
        card = json.loads(output)
        assert (card["workload"], card["load"]) == ("questions", DAY)
        assert "Traceback" not in errors
        if code == 4:
            stopped += 1
            assert "call again" in errors
    assert stopped >= 2

    code, output, errors = finish(start(*RUN))
    assert code == 0, errors
    assert json.loads(output)["promoted_rows"] == 12
    assert len(account_of(simulator)["batches"]) == 1


def test_the_first_stop_lets_the_step_under_way_come_to_its_end(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulator = simulate(turnaround_seconds=3600)
    with made.ledger.hold("questions", DAY):
        process = run_in_a_step(made)
        process.send_signal(signal.SIGTERM)
        assert "once more stops at once" in process.stderr.readline()
    code, _, errors = finish(process)
    assert code == 4, errors
    assert len(account_of(simulator)["batches"]) == 1
    assert len(made.ledger.batches(made.context.record())) == 1


def test_a_second_stop_does_not_wait_for_the_step_under_way(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulate()
    with made.ledger.hold("questions", DAY):  # the step waits for this, five minutes if need be
        process = run_in_a_step(made)
        process.send_signal(signal.SIGTERM)
        assert "once more stops at once" in process.stderr.readline()
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        code, output, errors = finish(process)
    assert code == 4
    assert json.loads(output)["requests"] == 0
    assert "Traceback" not in errors


def test_a_run_starts_no_process_that_could_outlive_it(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    """Nor does Dagster turn its output aside, which would be lost when it is stopped within a step."""
    simulate()
    with made.ledger.hold("questions", DAY):
        process = run_in_a_step(made)
        time.sleep(1)
        here = Path(f"/proc/{process.pid}")
        children = [path.read_text() for path in here.glob("task/*/children")]
        outputs = [str((here / "fd" / number).readlink()) for number in ("1", "2")]
        process.kill()
        process.communicate()
    assert not any(children)
    assert all(output.startswith("pipe:") for output in outputs)


def test_a_stop_is_heard_whichever_thread_the_kernel_gives_it_to(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulate()
    with made.ledger.hold("questions", DAY):
        process = run_in_a_step(made)
        send_to_another_thread(process.pid, signal.SIGTERM)
        assert "once more stops at once" in process.stderr.readline()
        send_to_another_thread(process.pid, signal.SIGINT)
        code, _, _ = finish(process)
    assert code == 4


def test_an_interrupt_that_the_starter_ignores_stays_ignored(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    """As in a shell's background job, where Ctrl-C is meant for somebody else."""
    simulate()
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        child = os.posix_spawn(
            sys.executable,
            [sys.executable, "-c", "from batch_pipeline.cli import main; main()", *RUN[:-1]],
            os.environ,
            file_actions=[
                (os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0o600) for fd in (1, 2)
            ],
        )
    finally:
        signal.signal(signal.SIGINT, before)
    wait_until(lambda: made.ledger.load("questions", DAY) is not None, "the load to begin")
    os.kill(child, signal.SIGINT)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
