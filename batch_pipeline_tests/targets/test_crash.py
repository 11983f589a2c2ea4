"""A promotion or rollback that is killed, cut off or met by another: the target is as before, or as after."""

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from threading import Thread
from typing import Any

import psycopg
import pytest

from batch_pipeline.errors import PipelineError
from batch_pipeline.postgres.session import ConnectionLostError, Session
from batch_pipeline.targets.parquet import ParquetTarget
from batch_pipeline.targets.postgres import PostgresTarget
from batch_pipeline_tests import forked
from batch_pipeline_tests.postgres import PASSWORD, PostgresServer, running
from batch_pipeline_tests.targets.promoting import Desk

OLD = [(f"k{n}", "old") for n in range(6)]
NEW = [(f"k{n}", "new") for n in range(2, 8)]

# Dies before, or after, its call of that number to the server.
DYING = """
import json, os, signal, sys
from pathlib import Path
from batch_pipeline.postgres.session import Session
from batch_pipeline.targets.postgres import PostgresTarget
from batch_pipeline_tests.targets.promoting import Desk

folder, fatal, after, work = json.loads(sys.argv[1])
calls = 0

def counted(call):
    def run(*arguments):
        global calls
        calls += 1
        if calls == fatal and not after:
            os.kill(os.getpid(), signal.SIGKILL)
        done = call(*arguments)
        if calls == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        return done
    return run

for name in ("rows", "run", "fill", "commit"):
    setattr(Session, name, counted(getattr(Session, name)))
desk = Desk(PostgresTarget("SALES_DB", "public", "questions"), Path(folder))
if work == "roll back":
    desk.roll_back("2026-01-02")
else:
    desk.promote("2026-01-02", [tuple(row) for row in work], fingerprint="new")
print(calls)
"""


@pytest.fixture
def ask(
    postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Any]]:
    address = postgres.dsn(postgres.database())
    monkeypatch.setenv("SALES_DB", address)
    with closing(psycopg.connect(address, autocommit=True)) as connection:
        yield lambda statement: connection.execute(statement.encode()).fetchall()


def die(folder: Path, fatal: int, *, after: bool, work: Any) -> tuple[int, str]:
    folder.mkdir(exist_ok=True)
    process = forked.start(DYING, json.dumps([str(folder), fatal, after, work]))
    output, errors = process.communicate(timeout=120)
    return process.wait(), output or errors


@pytest.mark.parametrize("work", [NEW, "roll back"], ids=["a promotion", "a rollback"])
def test_killed_anywhere_the_table_is_as_before_or_as_after(
    ask: Callable[[str], Any], tmp_path: Path, work: Any
) -> None:
    desk = Desk(PostgresTarget("SALES_DB", "public", "questions"), tmp_path)
    desk.promote("2026-01-01", [("k0", "first"), ("k9", "first")])
    desk.promote("2026-01-02", OLD)

    def state() -> list[Any]:
        return [
            ask(f"SELECT {columns} ORDER BY 1, 2, 3")
            for columns in (
                "id, label, _load FROM questions",
                "load, key, row->>'label' FROM _covered_rows",
                "load, fingerprint, rolled_back_by FROM _promotions",
            )
        ]

    old = state()
    # Not the count of one that goes through: by then the work would be done.
    code, said = die(tmp_path / "whole", -1, after=False, work=work)
    assert code == 0, said
    calls, new = int(said), state()
    assert new != old
    assert calls > 15
    # Back to the old state, then killed at some moments on the way to the new one.
    desk.promote("2026-01-02", OLD)
    ask(
        "WITH x AS (DELETE FROM _promotions WHERE fingerprint = 'new' OR rolled_back_at IS NOT NULL RETURNING 1) SELECT 1"
    )
    if work == "roll back":
        desk.promote("2026-01-02", OLD)
    assert state()[:2] == old[:2]
    old = state()
    for fatal in sorted({*range(8, calls - 2, 6), calls - 1, calls}):
        code, said = die(tmp_path / str(fatal), fatal, after=False, work=work)
        assert code == -signal.SIGKILL, said
        assert state() == old, fatal
    code, said = die(tmp_path / "committed", calls, after=True, work=work)
    assert code == -signal.SIGKILL, said
    assert state()[:2] == new[:2]
    code, said = die(tmp_path / "again", -1, after=True, work=work)
    assert code == 0, said
    assert state()[:2] == new[:2]


@pytest.mark.parametrize("moment", ["fill", "run", "commit"])
def test_a_server_that_goes_away_in_the_middle_is_a_sentence_and_the_next_call_finishes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    with running() as server:
        monkeypatch.setenv("SALES_DB", address := server.dsn(server.database()))
        desk = Desk(PostgresTarget("SALES_DB", "public", "questions"), tmp_path)
        desk.promote("2026-01-01", OLD)
        original = getattr(Session, moment)

        def gone(self: Session, *arguments: Any) -> Any:
            if moment != "run" or arguments[0].startswith("UPDATE"):
                server.stop()
            return original(self, *arguments)

        with monkeypatch.context() as patched:
            patched.setattr(Session, moment, gone)
            with pytest.raises(ConnectionLostError, match="the Postgres of SALES_DB broke") as lost:
                desk.promote("2026-01-02", NEW)
        assert PASSWORD not in str(lost.value)
        with pytest.raises(PipelineError, match="does not answer"):
            desk.promote("2026-01-02", NEW)
        server.start()
        with closing(psycopg.connect(address)) as connection:
            assert connection.execute("SELECT DISTINCT _load FROM questions").fetchall() == [
                ("2026-01-01",)
            ]
        assert desk.promote("2026-01-02", NEW).written == 6


def test_promotions_of_one_table_at_once_wait_for_each_other(
    ask: Callable[[str], Any], tmp_path: Path
) -> None:
    """The very first ones, too, which make the tables."""
    failed: list[BaseException] = []

    def promote(day: int) -> None:
        folder = tmp_path / str(day)
        folder.mkdir()
        desk = Desk(PostgresTarget("SALES_DB", "sales", "questions"), folder)
        try:
            for _ in range(2):
                desk.promote(f"2026-01-0{day}", [(f"k{n}", f"day {day}") for n in range(day)])
        except BaseException as error:  # noqa: BLE001 - shown in the test's own thread
            failed.append(error)

    threads = [Thread(target=promote, args=[day]) for day in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert ask("SELECT id, label FROM sales.questions ORDER BY id") == [
        (f"k{n}", "day 6") for n in range(6)
    ]
    assert ask("SELECT count(*) FROM sales._promotions") == [(6,)]
    assert ask("SELECT count(*) FROM sales._covered_rows") == [(1 + 2 + 3 + 4 + 5,)]


def test_a_table_that_somebody_keeps_locked_is_waited_for_with_an_end(
    ask: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk(PostgresTarget("SALES_DB", "public", "questions"), tmp_path)
    desk.promote("2026-01-01", OLD)
    monkeypatch.setattr("batch_pipeline.postgres.session._LOCK_SECONDS", 1)
    with closing(psycopg.connect(os.environ["SALES_DB"])) as other:
        other.execute("LOCK TABLE questions")
        with pytest.raises(PipelineError, match="Another session kept a lock"):
            desk.promote("2026-01-02", NEW)
    assert desk.promote("2026-01-02", NEW).written == 6


def test_a_rollback_of_a_folder_that_was_killed_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It dies between the note that says why and the removal of the load's file."""
    desk = Desk(ParquetTarget(str(tmp_path / "out")), tmp_path)
    desk.promote("2026-01-01", OLD)

    def dies(self: Path, *, missing_ok: bool = False) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", dies)
        with pytest.raises(KeyboardInterrupt):
            desk.roll_back("2026-01-01")
    assert (tmp_path / "out" / "2026-01-01.parquet").exists()
    done = desk.roll_back("2026-01-01")
    assert done is not None
    assert done.removed == 6
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["_rolled_back"]
    notes: Sequence[Path] = list((tmp_path / "out" / "_rolled_back").glob("*.json"))
    assert len(notes) == 1
