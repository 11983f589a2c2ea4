"""Processes that start in milliseconds: forked from one that has imported everything and runs no thread.

The processes do what they would do in a new interpreter; only the imports are done. Run as a module, it takes
orders as lines of JSON; `Zygote` is the other end.
"""

import gc
import importlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from batch_pipeline_tests.faults.boundaries import Boundaries

# A process that is still there after this long hangs: it is killed, and its test fails.
PATIENCE_SECONDS = 120.0
_TIMED_OUT = -999


@dataclass(frozen=True)
class Work:
    """What a process does.

    Attributes:
        call: `module:function`; its int result is the exit code.
        arguments: the function's, as JSON.
        folder: gets the process's output, and `log` where it says so.
        environment: changes to the environment; None unsets.
        log: name of the file of its boundaries; None: they are not looked at.
        fatal: owner and number of the boundary at which it dies.
        dagster_home, watched: as `Boundaries` has them.
    """

    call: str
    arguments: Sequence[Any]
    folder: Path
    environment: Mapping[str, str | None] = field(default_factory=dict)
    log: str | None = None
    fatal: tuple[str, int] | None = None
    dagster_home: Path = Path("/nowhere")
    watched: Path | None = None

    def to_json(self) -> dict[str, Any]:
        return {
            "call": self.call,
            "arguments": list(self.arguments),
            "folder": str(self.folder),
            "environment": dict(self.environment),
            "log": self.log and str(self.folder / self.log),
            "fatal": self.fatal,
            "dagster_home": str(self.dagster_home),
            "watched": self.watched and str(self.watched),
        }


@dataclass(frozen=True)
class Ended:
    """How a process ended: its exit code, negative for a signal; and all that it wrote."""

    code: int
    output: str

    @property
    def killed(self) -> bool:
        return self.code == -signal.SIGKILL


class Zygote:
    """The process that the others are forked from. Use it as a context manager."""

    def __init__(self, warm: Work) -> None:
        """Imports whatever `warm` imports; `warm` itself runs in a child, since it may leave threads behind."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__],
            # Its threads would be lost in a fork.
            env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._outputs: dict[int, Path] = {}
        if self._ask(warm=warm.to_json()) != 0:
            raise AssertionError((warm.folder / "output").read_text("utf-8"))

    def run(self, work: Work, patience: float = PATIENCE_SECONDS) -> Ended:
        return self.wait(self.start(work), patience)

    def start(self, work: Work) -> int:
        """The process's id; `wait` must follow."""
        process = self._ask(start=work.to_json())
        self._outputs[process] = work.folder / "output"
        return process

    def wait(self, process: int, patience: float = PATIENCE_SECONDS) -> Ended:
        """Raises AssertionError for a process that hangs, after killing it."""
        code = self._ask(wait=process, patience=patience)
        output = self._outputs.pop(process).read_text("utf-8", "replace")
        assert code != _TIMED_OUT, f"a process hung for {patience} s:\n{output}"
        return Ended(code, output)

    def _ask(self, **order: Any) -> int:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the zygote is gone"
        return int(answer)

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _serve() -> None:
    # Standard output carries the answers; nothing that is imported may write there.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        order = json.loads(line)
        if "warm" in order:
            answer = _warm(order["warm"])
        elif "start" in order:
            answer = _fork(order["start"])
        else:
            answer = _wait(order["wait"], order["patience"])
        answers.write(f"{answer}\n")
        answers.flush()


def _warm(work: dict[str, Any]) -> int:
    names = Path(work["folder"]) / "modules"
    child = _fork(work, names)
    code = _wait(child, PATIENCE_SECONDS)
    if code == 0:
        for name in names.read_text().splitlines():
            with suppress(ImportError):
                importlib.import_module(name)
        names_of = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
        # A fork copies one thread only; the allocator's is the one that starts itself anew.
        others = names_of - {Path("/proc/self/comm").read_text().strip(), "jemalloc_bg_thd"}
        assert not others, f"threads that a fork would lose: {others}"
        _share()
    return code


def _share() -> None:
    """What costs every process the same: certificates, which loopback needs not, and pages that gc would copy."""
    from httpcore2 import _ssl

    original = _ssl.default_ssl_context
    shared = original()
    for module in list(sys.modules.values()):
        if getattr(module, "default_ssl_context", None) is original:
            vars(module)["default_ssl_context"] = lambda **_: shared
    gc.collect()
    gc.freeze()


def _fork(work: dict[str, Any], modules: Path | None = None) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        _become(work)
        module, _, name = work["call"].partition(":")
        code = getattr(importlib.import_module(module), name)(*work["arguments"])
        if modules is not None:
            modules.write_text("\n".join(list(sys.modules)))
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - whatever it is, the child must end here
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _become(work: dict[str, Any]) -> None:
    folder = Path(work["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for name, value in work["environment"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if work["log"] is not None:
        fatal = tuple(work["fatal"]) if work["fatal"] else None
        watched = Path(work["watched"]) if work["watched"] else None
        Boundaries(Path(work["log"]), Path(work["dagster_home"]), fatal, watched).install()


def _wait(child: int, patience: float) -> int:
    deadline = time.monotonic() + patience
    pause = 0.001
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > deadline:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return _TIMED_OUT
        time.sleep(pause)
        pause = min(pause * 1.5, 0.02)


if __name__ == "__main__":
    _serve()
    os._exit(0)
