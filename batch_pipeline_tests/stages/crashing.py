"""Nights that are killed: a child process that dies by SIGKILL just before one of its lasting steps.

Run as a module, in a process of its own without threads, because it forks.

    python -m batch_pipeline_tests.stages.crashing sweep FOLDER
    python -m batch_pipeline_tests.stages.crashing once WORKLOAD_FOLDER DAY STEP

`sweep` drives one small night after the other, each killed one step later than the one before, resumes it
in a new process, and prints a line of JSON for each. `once` promotes a load and dies at a step.
"""

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import wraps
from itertools import count
from pathlib import Path
from typing import Any

from batch_pipeline_tests.night import Night, rows

# Rows of a night: few, since every night is driven twice.
ROWS = 2
_UNRESOLVED = "nothing more of this load is sent"


@dataclass(frozen=True)
class Crash:
    """One night of a sweep: where it was killed, and what became of it when it was resumed."""

    step: int
    label: str
    outcome: str  # promoted, or unresolved
    promoted: int
    leftovers: list[str]


def sweep(folder: Path) -> list[Crash]:
    """All nights, from one killed at its first step to one that was killed at its last."""
    return [Crash(**json.loads(line)) for line in _run("sweep", str(folder)).stdout.splitlines()]


def kill_promotion(night: Night, step: str) -> None:
    """Promotes the load in another process, which dies just before `step`."""
    done = _run("once", str(night.folder), night.context.load, step, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def _run(*arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", __spec__.name, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not check or done.returncode == 0, done.stderr
    return done


class _Steps:
    """Counts the steps of this process after which something lasts, and ends it before the n-th."""

    def __init__(self, fatal: Callable[[int, str], bool], note: Path) -> None:
        self._fatal = fatal
        self._note = note
        self._taken = 0

    def __call__(self, label: str) -> None:
        self._taken += 1
        if self._fatal(self._taken, label):
            self._note.write_text(label)
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        from sqlalchemy import Engine, event

        from batch_pipeline.claude.client import BatchesApi
        from batch_pipeline.warehouse import metrics, promoted

        written = [""]

        @event.listens_for(Engine, "before_cursor_execute")
        def _remember(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if not statement.startswith("SELECT"):
                written[0] = " ".join(statement.replace('"', "").split()[:3])

        @event.listens_for(Engine, "commit")
        def _commit(_connection: Any) -> None:
            self(f"commit {written[0]}")

        self._before(Path, "replace", lambda path, *_: f"rename in {path.parent.name}")
        self._before(shutil, "move", lambda *_: "move a download")
        self._before(BatchesApi, "create", lambda *_: "post")
        self._after(BatchesApi, "create", "answered")
        self._after(metrics, "_create", "measures half written")
        self._after(promoted, "_count", "table half written")

    def _before(self, owner: Any, name: str, label: Callable[..., str]) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def step(*arguments: Any, **options: Any) -> Any:
            self(label(*arguments))
            return original(*arguments, **options)

        setattr(owner, name, step)

    def _after(self, owner: Any, name: str, label: str) -> None:
        original = getattr(owner, name)

        @wraps(original)
        def step(*arguments: Any, **options: Any) -> Any:
            result = original(*arguments, **options)
            self(label)
            return result

        setattr(owner, name, step)


def _forked(work: Callable[[], None]) -> int:
    """Runs `work` in a child process; its exit status, negative for a signal."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException:  # noqa: BLE001 - whatever it is, the child must end here
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _sweep(folder: Path) -> None:
    _import_what_a_night_imports(folder)
    for n in count(1):
        place = folder / str(n)
        os.environ["BATCH_PIPELINE_STATE"] = str(place / "state")
        place.mkdir(parents=True)
        note, end = place / "label", place / "end"

        def night(place: Path = place, n: int = n) -> Night:
            return Night.make(place, source=rows(ROWS, start=ROWS * n), golden=1)

        def crash(n: int = n, note: Path = note, night: Callable[[], Night] = night) -> None:
            made = night()
            _Steps(lambda taken, _label: taken == n, note).install()
            made.settle()
            made.publish()

        def resume(end: Path = end, night: Callable[[], Night] = night) -> None:
            end.write_text(json.dumps(_resume(night())))

        status = _forked(crash)
        if status == 0:
            return
        if status != -signal.SIGKILL or _forked(resume) != 0:
            raise SystemExit(f"step {n} ended otherwise than by being killed and resumed")
        promoted, outcome, leftovers = json.loads(end.read_text())
        print(json.dumps(asdict(Crash(n, note.read_text(), outcome, promoted, leftovers))))  # noqa: T201


def _import_what_a_night_imports(folder: Path) -> None:
    # Once, rather than in every child; and in a child, since it would leave threads behind.
    names = folder / "modules"
    os.environ["BATCH_PIPELINE_STATE"] = str(folder / "first" / "state")

    def first() -> None:
        night = Night.make(folder / "first", source=rows(1, start=3000), golden=0)
        night.settle()
        night.publish()
        names.write_text("\n".join(sys.modules))

    folder.mkdir()
    if _forked(first) != 0:
        raise SystemExit("a night without a crash failed")
    for name in names.read_text().splitlines():
        with suppress(ImportError):
            importlib.import_module(name)


def _resume(night: Night) -> tuple[int, str, list[str]]:
    from batch_pipeline.errors import PipelineError

    promoted, outcome = 0, "promoted"
    try:
        night.settle()
        promoted = night.publish().promotion.rows
    except PipelineError as error:
        if _UNRESOLVED not in str(error):
            raise
        outcome = "unresolved"
    state = night.context.settings.state
    left = [
        str(path.relative_to(state))
        for path in state.rglob("*")
        if path.suffix == ".tmp" or path.parent.name == "chunks" or "tmp" in path.parent.parts[-1:]
    ]
    return promoted, outcome, left


def _once(place: Path, day: str, step: str) -> None:
    from batch_pipeline.settings import Settings
    from batch_pipeline.stages.context import LoadContext
    from batch_pipeline.stages.promote import promote
    from batch_pipeline.workload.catalogue import find_workload

    settings = Settings.from_environment()
    context = LoadContext.open(find_workload(place.name, settings), day, settings)
    _Steps(lambda _taken, label: label == step, place / "label").install()
    promote(context)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["sweep", folder]:
            _sweep(Path(folder))
        case ["once", place, day, step]:
            _once(Path(place), day, step)
        case other:
            raise SystemExit(f"unknown: {other}")
