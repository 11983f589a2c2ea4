"""A warehouse of an older release becomes one of this release, or stays as it was."""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import duckdb
import pytest

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.warehouse import (
    GateRecord,
    LoadRecord,
    Measure,
    schema,
    warehouse,
    write_metrics,
)
from batch_pipeline_tests.old_state.restore import restore_warehouse

NEWEST = len(schema.STEPS) + 1


def mark_closed_gates(connection: duckdb.DuckDBPyConnection) -> None:
    """A step that a later release might take: a column that is filled from what is there."""
    connection.execute("ALTER TABLE IF EXISTS metrics.gates ADD COLUMN closed BOOLEAN")
    connection.execute("UPDATE metrics.gates SET closed = NOT promote")


def fail(connection: duckdb.DuckDBPyConnection) -> None:
    mark_closed_gates(connection)
    raise ZeroDivisionError


def die(connection: duckdb.DuckDBPyConnection) -> None:
    mark_closed_gates(connection)
    os.kill(os.getpid(), signal.SIGKILL)


def with_steps(patch: pytest.MonkeyPatch, *steps: schema.Step) -> None:
    patch.setattr(schema, "STEPS", (*schema.STEPS, *steps))


def query(path: Path, sql: str) -> list[Any]:
    """Looks without any code of ours."""
    with duckdb.connect(str(path), read_only=True) as connection:
        return connection.execute(sql).fetchall()


def content(path: Path) -> dict[str, list[Any]]:
    """Every table of the file, definition and rows."""
    found = {}
    for home, table, sql in query(path, "SELECT schema_name, table_name, sql FROM duckdb_tables()"):
        found[f"{home}.{table}"] = [sql, *query(path, f'FROM "{home}"."{table}" ORDER BY ALL')]
    return found


def versions(path: Path) -> list[int]:
    return [n for (n,) in query(path, "SELECT version FROM metrics.schema_version ORDER BY ALL")]


def test_a_new_file_is_at_the_newest_version(tmp_path: Path) -> None:
    with warehouse(tmp_path):
        pass
    assert versions(tmp_path / "warehouse.duckdb") == [NEWEST]


def test_the_first_releases_file_gets_a_version_and_keeps_all_it_has(tmp_path: Path) -> None:
    path = restore_warehouse(tmp_path)
    before = content(path)
    with warehouse(tmp_path):
        pass
    after = content(path)
    assert after.pop("metrics.schema_version")
    # Nothing was rolled back, and nothing is known of what a promotion then replaced.
    was, now = before.pop("promoted._promotions")[1:], after.pop("promoted._promotions")[1:]
    assert now == [(*line, None, None, None, None, None) for line in was]
    assert after == before
    assert len(before["promoted.questions"]) == 1 + 7
    assert versions(path) == [NEWEST]
    assert query(path, "SELECT DISTINCT cost_usd FROM metrics.scorecards") == [(0.0002435,)]


def test_a_new_loads_metrics_go_beside_the_old_ones(tmp_path: Path) -> None:
    path = restore_warehouse(tmp_path)
    old = set(query(path, "FROM metrics.measures"))
    write_metrics(
        tmp_path,
        LoadRecord("questions", "2026-11-17", 1, "declared"),
        fingerprint="f",
        measures=[Measure("coverage", 1, 1, 1.0)],
        gate=GateRecord(promote=True, reasons=["all is well"], override_reason=None),
    )
    assert old < set(query(path, "FROM metrics.measures"))
    assert query(path, "SELECT load, coverage FROM metrics.scorecards ORDER BY ALL") == [
        ("2026-11-16", 1.0),
        ("2026-11-16", 1.0),
        ("2026-11-17", 1.0),
    ]


@pytest.mark.parametrize("first", [False, True], ids=["v1", "v2"])
def test_steps_are_taken_once_in_order_from_where_the_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, first: bool
) -> None:
    path = restore_warehouse(tmp_path)
    if first:
        with warehouse(tmp_path):
            pass
    with_steps(monkeypatch, mark_closed_gates)
    for _ in range(2):
        with warehouse(tmp_path):
            pass
    assert query(path, "SELECT promote, closed FROM metrics.gates ORDER BY ALL") == [
        (False, True),
        (True, False),
    ]
    assert versions(path) == ([NEWEST, NEWEST + 1] if first else [NEWEST + 1])


def test_a_version_table_without_a_version_counts_as_the_first_releases(tmp_path: Path) -> None:
    with warehouse(tmp_path) as connection:
        connection.execute("DELETE FROM metrics.schema_version")
    with warehouse(tmp_path):
        pass
    assert versions(tmp_path / "warehouse.duckdb") == [NEWEST]


def test_reading_only_brings_an_old_file_up_to_date_first(tmp_path: Path) -> None:
    path = restore_warehouse(tmp_path)
    with warehouse(tmp_path, read_only=True) as connection:
        assert connection.execute("FROM metrics.gates").fetchall()
        with pytest.raises(duckdb.InvalidInputException):
            connection.execute("DELETE FROM metrics.gates")
    assert versions(path) == [NEWEST]


def test_opening_again_writes_nothing(tmp_path: Path) -> None:
    path = restore_warehouse(tmp_path)
    with warehouse(tmp_path):
        pass
    before = path.read_bytes()
    with warehouse(tmp_path):
        pass
    assert path.read_bytes() == before


def test_threads_of_one_process_may_open_an_old_file_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_steps(monkeypatch, mark_closed_gates)
    for n in range(10):
        path = restore_warehouse(tmp_path / str(n))
        together = Barrier(4)

        def look(_: int, state: Path = path.parent, together: Barrier = together) -> int:
            together.wait()
            with warehouse(state) as connection:
                return len(connection.execute("FROM metrics.gates").fetchall())

        with ThreadPoolExecutor(4) as threads:
            assert list(threads.map(look, range(4))) == [2, 2, 2, 2]
        assert versions(path) == [NEWEST + 1]


@pytest.mark.parametrize("read_only", [False, True])
def test_a_newer_file_is_refused_and_left_alone(tmp_path: Path, *, read_only: bool) -> None:
    path = restore_warehouse(tmp_path)
    with warehouse(tmp_path) as connection:
        connection.execute(f"UPDATE metrics.schema_version SET version = {NEWEST + 1}")
    before = content(path)
    with (
        pytest.raises(ConfigurationError) as refused,
        warehouse(tmp_path, read_only=read_only),
    ):
        pass
    assert str(refused.value) == (
        f"The warehouse {path} has schema version {NEWEST + 1} and this release knows {NEWEST} at most, so a "
        "newer release wrote it; install that release again, or set BATCH_PIPELINE_STATE to another folder."
    )
    assert content(path) == before


def test_a_step_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = restore_warehouse(tmp_path)
    before = content(path)
    with monkeypatch.context() as patch:
        with_steps(patch, fail)
        with pytest.raises(ZeroDivisionError), warehouse(tmp_path):
            pass
    assert content(path) == before
    with warehouse(tmp_path):
        pass
    assert versions(path) == [NEWEST]


def test_a_kill_within_a_step_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = restore_warehouse(tmp_path)
    before = content(path)
    assert _open_in_a_process_that_takes("die", tmp_path) == -signal.SIGKILL
    assert content(path) == before
    assert _open_in_a_process_that_takes("mark_closed_gates", tmp_path) == 0
    assert versions(path) == [NEWEST + 1]


def _open_in_a_process_that_takes(step: str, state: Path) -> int:
    script = (
        "import sys; from pathlib import Path; from batch_pipeline.warehouse import schema, warehouse\n"
        f"from {__name__} import {step} as step\n"
        "schema.STEPS = (*schema.STEPS, step)\n"
        "with warehouse(Path(sys.argv[1])): pass"
    )
    command: Sequence[str] = [sys.executable, "-c", script, str(state)]
    return subprocess.run(command, check=False).returncode
