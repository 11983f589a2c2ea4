"""Processes that do one thing, watched at their boundaries and killed at one of them."""

import importlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from httpcore2 import _ssl

from batch_pipeline_tests import forked
from batch_pipeline_tests.faults.boundaries import Boundaries
from batch_pipeline_tests.forked import Forked

# A process that is still there after this long hangs: it is killed, and its test fails.
PATIENCE_SECONDS = 120.0
_SCRIPT = """
import json, sys
from batch_pipeline_tests.faults.work import perform
perform(json.loads(sys.argv[1]))
"""
# Certificates, which loopback needs not, are read once and shared by all the processes that are forked.
_certificates = _ssl.default_ssl_context
_SHARED = _certificates()


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


@dataclass(frozen=True)
class Started:
    """A process at work; `wait` must follow."""

    process: Forked
    output: Path

    def wait(self) -> Ended:
        """Raises AssertionError for a process that hangs, after killing it."""
        try:
            code = self.process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = None
        before, after = self.process.communicate()
        output = self.output.read_text("utf-8", "replace") if self.output.is_file() else ""
        assert code is not None, f"a process hung for {PATIENCE_SECONDS} s:\n{output}"
        return Ended(code, before + after + output)


def start(work: Work) -> Started:
    process = forked.start(_SCRIPT, json.dumps(work.to_json()))
    return Started(process, work.folder / "output")


def run(work: Work) -> Ended:
    return start(work).wait()


def perform(work: dict[str, Any]) -> NoReturn:
    """In the process itself: does the work and dies of it, or ends with its result."""
    code = 70
    try:
        _become(work)
        module, _, name = work["call"].partition(":")
        code = getattr(importlib.import_module(module), name)(*work["arguments"])
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:  # noqa: BLE001 - whatever it is, the process must end here
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _become(work: dict[str, Any]) -> None:
    folder = Path(work["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(output, 1)
    os.dup2(output, 2)
    for module in list(sys.modules.values()):
        if getattr(module, "default_ssl_context", None) is _certificates:
            vars(module)["default_ssl_context"] = lambda **_: _SHARED
    for name, value in work["environment"].items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value
    if work["log"] is not None:
        fatal = tuple(work["fatal"]) if work["fatal"] else None
        watched = Path(work["watched"]) if work["watched"] else None
        Boundaries(Path(work["log"]), Path(work["dagster_home"]), fatal, watched).install()
