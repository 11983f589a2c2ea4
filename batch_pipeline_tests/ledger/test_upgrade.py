"""A ledger of an older release becomes one of this release, or stays as it was."""

import shutil
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Ledger
from batch_pipeline.ledger.schema import VERSION
from batch_pipeline_tests.old_state.restore import restore_ledger

NEWEST = f"{VERSION:04}"

# Dies just before its n-th statement, commit or rename; prints how many it took when it lived.
KILLED_AT = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import Engine, event
import alembic.command, alembic.runtime.migration, alembic.script
from batch_pipeline.ledger import Ledger

state, results = Path(sys.argv[1]), []

def dies_at(n, folder):
    taken = 0
    def step(*_):
        nonlocal taken
        taken += 1
        if taken == n:
            os.kill(os.getpid(), signal.SIGKILL)
    event.listen(Engine, "before_cursor_execute", step)
    event.listen(Engine, "commit", step)
    replace = Path.replace
    Path.replace = lambda path, to: (step(), replace(path, to))[1]
    Ledger(folder)

n = 0
for folder in sorted(state.iterdir()):
    n += 1
    child = os.fork()
    if child == 0:
        try:
            dies_at(n, folder)
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    print(status, flush=True)
    if status == 0:
        break
"""

# Says when it is about to wait for the ledger's write lock.
OPEN = """
import sys
from pathlib import Path
from sqlalchemy import Engine, event
from batch_pipeline.ledger import Ledger

@event.listens_for(Engine, "before_cursor_execute")
def tell(_connection, _cursor, statement, *_):
    if statement.startswith("BEGIN"):
        print("waits", flush=True)

print(Ledger(Path(sys.argv[1])).newest_load("questions"), "alembic" in sys.modules)
"""


def query(path: Path, sql: str) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(sql).fetchall()


def schema(path: Path) -> dict[str, Any]:
    """Every table's columns by name with type, nullability and place in the key, and its unique indexes."""
    found: dict[str, Any] = {}
    for (table,) in query(path, "SELECT name FROM sqlite_master WHERE type = 'table'"):
        columns = query(
            path, f"SELECT name, type, \"notnull\", pk FROM pragma_table_info('{table}')"
        )
        indexes = [
            (
                unique,
                origin,
                [c for (c,) in query(path, f"SELECT name FROM pragma_index_info('{i}')")],
            )
            for i, unique, origin in query(
                path, f"SELECT name, \"unique\", origin FROM pragma_index_list('{table}')"
            )
        ]
        found[table] = {"columns": sorted(columns), "indexes": sorted(indexes)}
    return found


def content(path: Path) -> dict[str, list[Any]]:
    """All rows, the columns of the first release only."""
    old = {
        "loads": "workload, load, generation, phase, gate, created_at, promoted_rows",
        "chunks": "chunk_id, token, state, sha256, intended_at, closed_at, note",
        "batches": "batch_id, chunk_id, api, status, succeeded, errored, created_at, collected_at",
    }
    return {
        table: query(path, f"SELECT {columns} FROM {table} ORDER BY 1, 2")
        for table, columns in old.items()
    }


def everything(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


def version(path: Path) -> list[Any]:
    return query(path, "SELECT version_num FROM alembic_version")


def start(script: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdout=subprocess.PIPE, text=True
    )


def test_a_new_ledger_is_at_the_newest_version(tmp_path: Path) -> None:
    Ledger(tmp_path)
    assert version(tmp_path / "ledger.sqlite") == [(NEWEST,)]
    assert not list(tmp_path.glob("ledger.v*"))


def test_the_newest_version_is_the_last_step(tmp_path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", "batch_pipeline.ledger:migrations")
    steps = [step.revision for step in ScriptDirectory.from_config(config).walk_revisions()]
    assert steps == [f"{n:04}" for n in range(VERSION, 0, -1)]


def test_a_migrated_ledger_has_the_tables_of_a_new_one(tmp_path: Path) -> None:
    old = restore_ledger(tmp_path / "old")
    Ledger(tmp_path / "old")
    Ledger(tmp_path / "new")
    new = schema(tmp_path / "new" / "ledger.sqlite")
    migrated = schema(old)
    assert set(migrated) == set(new)
    for table, expected in new.items():
        assert migrated[table] == expected, table


def test_what_the_first_release_wrote_is_all_there(tmp_path: Path) -> None:
    path = restore_ledger(tmp_path)
    before = content(path)
    ledger = Ledger(tmp_path)
    assert content(path) == before
    record = ledger.load("questions", "2026-11-17")
    assert record is not None
    assert [batch.retries for batch in ledger.batches(record)] == [0, 0, 0]


def test_a_chunk_without_an_answer_is_looked_for_where_its_load_was_sent(tmp_path: Path) -> None:
    path = restore_ledger(tmp_path)
    ledger = Ledger(tmp_path)
    record = ledger.load("questions", "2026-11-18")
    assert record is not None
    [(sent_to,)] = query(path, "SELECT DISTINCT api FROM batches")
    assert [(chunk.state.value, chunk.api) for chunk in ledger.chunks(record)] == [
        ("submitted", sent_to),
        ("intent", sent_to),
    ]


@pytest.mark.parametrize(
    "missing",
    [
        ["TABLE loads", "TABLE overrides", "INDEX chunks_of_load"],
        ["TABLE loads", "TABLE batches", "TABLE chunks"],
    ],
)
def test_a_ledger_whose_tables_were_half_made_is_completed(
    tmp_path: Path, missing: list[str]
) -> None:
    path = restore_ledger(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        for what in missing:
            connection.execute(f"DROP {what}")
    Ledger(tmp_path)
    Ledger(tmp_path / "new")
    assert schema(path) == schema(tmp_path / "new" / "ledger.sqlite")


def test_a_copy_of_the_old_ledger_is_kept_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = restore_ledger(tmp_path)
    before = schema(path), content(path)
    Ledger(tmp_path)
    copy = tmp_path / "ledger.v1.sqlite"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    assert (schema(copy), content(copy)) == before


def test_the_copy_holds_what_was_still_in_the_write_ahead_log(tmp_path: Path) -> None:
    path = restore_ledger(tmp_path)
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE chunks SET note = 'late'")
        other.commit()
        assert (tmp_path / "ledger.sqlite-wal").stat().st_size > 0
        Ledger(tmp_path)
    assert query(tmp_path / "ledger.v1.sqlite", "SELECT DISTINCT note FROM chunks") == [("late",)]


def test_opening_again_changes_nothing_and_leaves_alembic_alone(tmp_path: Path) -> None:
    path = restore_ledger(tmp_path)
    Ledger(tmp_path)
    copy = tmp_path / "ledger.v1.sqlite"
    copy.unlink()
    before = everything(path)
    with start(OPEN, str(tmp_path)) as other:
        assert other.communicate()[0] == "2026-11-18 False\n"
    assert everything(path) == before
    assert not copy.exists()


@pytest.mark.parametrize("recorded", [f"{VERSION + 1:04}", "9f3c"])
def test_a_newer_ledger_is_refused_and_left_alone(tmp_path: Path, recorded: str) -> None:
    Ledger(tmp_path)
    path = tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [recorded])
        connection.commit()
    before = everything(path)
    with pytest.raises(ConfigurationError) as refused:
        Ledger(tmp_path)
    assert str(refused.value) == (
        f"The ledger {path} has schema version {recorded} and this release knows {NEWEST} at most, so a newer "
        "release wrote it; install that release again, or set BATCH_PIPELINE_STATE to another folder."
    )
    assert everything(path) == before


@pytest.mark.parametrize("old", [True, False], ids=["old", "new"])
def test_two_processes_that_open_it_at_once_both_succeed(tmp_path: Path, *, old: bool) -> None:
    path = restore_ledger(tmp_path) if old else tmp_path / "ledger.sqlite"
    with closing(sqlite3.connect(path, isolation_level=None)) as lock:
        lock.execute("PRAGMA journal_mode=WAL")
        lock.execute("BEGIN IMMEDIATE")
        both = [start(OPEN, str(tmp_path)) for _ in range(2)]
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == "waits\n"
        lock.execute("ROLLBACK")
        ends = [(process.communicate()[0], process.returncode) for process in both]
    assert [code for _, code in ends] == [0, 0]
    # One of them migrated; the other found it done.
    migrated = [text.split()[-1] == "True" for text, _ in ends]
    assert sum(migrated) == (1 if old else 0)
    assert version(path) == [(NEWEST,)]


def test_a_kill_at_any_step_leaves_the_old_ledger_or_the_new_one(tmp_path: Path) -> None:
    path = restore_ledger(tmp_path / "old")
    old, rows = schema(path), content(path)
    Ledger(tmp_path / "new")
    new = schema(tmp_path / "new" / "ledger.sqlite")
    folders = [tmp_path / "killed" / f"{n:03}" for n in range(80)]
    for folder in folders:
        shutil.copytree(tmp_path / "old", folder)

    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT, str(tmp_path / "killed")],
        capture_output=True,
        text=True,
        check=True,
    )
    ends = [int(line) for line in done.stdout.split()]

    assert ends[-1] == 0, "every one was killed: the steps outnumber the folders"
    assert len(ends) > 20
    assert set(ends[:-1]) == {-9}
    found = []
    for folder in folders[: len(ends)]:
        path = folder / "ledger.sqlite"
        found.append(schema(path))
        assert content(path) == rows
        Ledger(folder)
        assert (schema(path), content(path)) == (new, rows)
        assert content(folder / "ledger.v1.sqlite") == rows
    assert all(each in (old, new) for each in found)
    assert old in found
