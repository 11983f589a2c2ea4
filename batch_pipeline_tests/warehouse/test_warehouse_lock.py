"""The warehouse's file is one process's at a time: others wait, with a bound."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batch_pipeline.errors import PipelineError
from batch_pipeline.warehouse import WarehouseLockedError, warehouse, warehouse_path

_HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


@contextmanager
def held_elsewhere(state: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that has the warehouse open until its standard input is closed."""
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(warehouse_path(state))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdin
    assert holder.stdout
    try:
        assert holder.stdout.readline() == "held\n"
        yield holder
    finally:
        holder.stdin.close()
        holder.wait()
        holder.stdout.close()


@pytest.mark.parametrize("read_only", [False, True])
def test_it_waits_until_the_other_process_is_done(tmp_path: Path, *, read_only: bool) -> None:
    with held_elsewhere(tmp_path) as holder:
        assert holder.stdin
        threading.Timer(0.3, holder.stdin.close).start()
        with warehouse(tmp_path, read_only=read_only, wait_seconds=60) as connection:
            assert connection.execute("SELECT 1").fetchall() == [(1,)]


def test_it_says_who_to_look_for_when_it_lasts(tmp_path: Path) -> None:
    with (
        held_elsewhere(tmp_path),
        pytest.raises(
            WarehouseLockedError,
            match=r"warehouse\.duckdb was locked by another process for 0\.2 s; close any",
        ),
        warehouse(tmp_path, wait_seconds=0.2),
    ):
        pass


def test_a_file_that_is_no_warehouse_is_refused_at_once_in_a_sentence(tmp_path: Path) -> None:
    warehouse_path(tmp_path).write_text("something else\n" * 1000)
    with (
        pytest.raises(PipelineError, match=r"warehouse .* cannot be opened: .*not a valid DuckDB"),
        warehouse(tmp_path, wait_seconds=60),
    ):
        pass


def test_an_error_within_leaves_nothing_half_written(tmp_path: Path) -> None:
    with warehouse(tmp_path) as connection:
        connection.execute("CREATE TABLE t (i INTEGER)")
    with pytest.raises(ZeroDivisionError), warehouse(tmp_path) as connection:
        connection.execute("BEGIN")
        connection.execute("INSERT INTO t VALUES (1)")
        _ = 1 / 0
    with warehouse(tmp_path) as connection:
        assert connection.execute("FROM t").fetchall() == []
