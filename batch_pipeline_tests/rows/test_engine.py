"""One DuckDB for a process, and connections that see nothing of each other."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import duckdb
import pytest

from batch_pipeline.rows.query import querying

LIMIT = "SELECT value FROM duckdb_settings() WHERE name = 'memory_limit'"


def test_what_one_makes_no_other_sees(tmp_path: Path) -> None:
    with querying(tmp_path) as one:
        one.execute("CREATE TEMP TABLE mine AS SELECT 1 AS n")
        one.execute("SET VARIABLE mine = 1")
        with querying(tmp_path) as other:
            with pytest.raises(duckdb.CatalogException):
                other.execute("FROM mine")
            assert other.execute("SELECT getvariable('mine')").fetchall() == [(None,)]
        assert one.execute("FROM mine").fetchall() == [(1,)]
    with querying(tmp_path) as later, pytest.raises(duckdb.CatalogException):
        later.execute("FROM mine")


def test_it_is_made_once_for_a_folder(tmp_path: Path) -> None:
    """What is not temporary would be everybody's: it shows that it is one database."""
    with querying(tmp_path) as one:
        one.execute("CREATE TABLE everybodys AS SELECT 1 AS n")
    with querying(tmp_path) as again:
        assert again.execute("FROM everybodys").fetchall() == [(1,)]
    with querying(tmp_path / "elsewhere") as other, pytest.raises(duckdb.CatalogException):
        other.execute("FROM everybodys")


def test_a_folder_in_use_keeps_its_database(tmp_path: Path) -> None:
    with querying(tmp_path / "one") as one:
        one.execute("CREATE TEMP TABLE mine AS SELECT 1 AS n")
        with querying(tmp_path / "other") as other:
            assert other.execute("SELECT 2").fetchall() == [(2,)]
        assert one.execute("FROM mine").fetchall() == [(1,)]


def test_each_says_how_much_memory_it_may_use_and_takes_none_away(tmp_path: Path) -> None:
    with querying(tmp_path, memory=500 << 20) as one:
        assert one.execute(LIMIT).fetchall() == [("500.0 MiB",)]
        with querying(tmp_path, memory=300 << 20) as other:
            assert other.execute(LIMIT).fetchall() == [("500.0 MiB",)]
    with querying(tmp_path, memory=300 << 20) as later:
        assert later.execute(LIMIT).fetchall() == [("300.0 MiB",)]


def test_threads_may_use_it_side_by_side(tmp_path: Path) -> None:
    found: list[int] = []

    def work(n: int) -> None:
        with querying(tmp_path) as connection:
            connection.execute(f"CREATE TEMP TABLE t AS FROM range({n})")
            found.append(connection.execute("SELECT count(*) FROM t").fetchall()[0][0])

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(8))


def test_a_forked_process_makes_its_own(tmp_path: Path) -> None:
    with querying(tmp_path) as connection:
        connection.execute("SELECT 1")
        child = os.fork()
        if not child:
            with querying(tmp_path) as own:
                ok = own.execute("SELECT count(*) FROM range(100000)").fetchall() == [(100_000,)]
            os._exit(0 if ok else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_nothing_is_said_when_the_interpreter_ends(tmp_path: Path) -> None:
    code = (
        "from pathlib import Path\nfrom batch_pipeline.rows.query import querying\n"
        f"with querying(Path({str(tmp_path)!r})) as c: c.execute('SELECT 1')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"", b"")
