"""The warehouse in a DuckLake on Postgres: many processes write at once, and nothing is lost, doubled or half.

DuckDB's extensions are there for an older DuckDB than the one that the tests run on, so all of it happens in
processes of their own, on the overlay of `make ducklake`.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import Settings
from batch_pipeline.warehouse import check_warehouse
from batch_pipeline_tests.postgres import PASSWORD, USER, PostgresServer
from batch_pipeline_tests.warehouse.lakes import LAKES, new_lake, overlay, python, with_overlay

LOADS = ["2026-01-01", "2026-01-02", "2026-01-03"]
_WRITER = "batch_pipeline_tests.warehouse.lake_writer"
_numbers = count(1000)


@pytest.fixture
def server(postgres: PostgresServer) -> str:
    """Where the lakes' databases are, as libpq takes it."""
    overlay()
    return f"host={postgres.host} port={postgres.port} user={USER} password={PASSWORD}"


@pytest.fixture
def lake(server: str, tmp_path: Path) -> Settings:
    return new_lake(server, tmp_path, next(_numbers))


def environment(lake: Settings, **more: str) -> dict[str, str]:
    assert lake.warehouse is not None
    return with_overlay(
        {
            **os.environ,
            "BATCH_PIPELINE_STATE": str(lake.state),
            "BATCH_PIPELINE_WAREHOUSE": lake.warehouse,
            **more,
        }
    )


def ask(lake: Settings, query: str) -> Any:
    """The rows of a query, asked by a process that has the overlay."""
    script = (
        "import json, sys\n"
        "from batch_pipeline.settings import Settings\n"
        "from batch_pipeline.warehouse import warehouse\n"
        "with warehouse(Settings.from_environment()) as connection:\n"
        "    print(json.dumps(connection.execute(sys.argv[1]).fetchall(), default=str))"
    )
    done = python("-c", script, query, environment=environment(lake))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def start(lake: Settings, workload: str, *loads: str, rows: int = 300) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", _WRITER, str(lake.state), workload, str(rows), *loads],
        env=environment(lake),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(*writers: "subprocess.Popen[str]") -> None:
    for writer in writers:
        _, errors = writer.communicate(timeout=200)
        assert writer.returncode == 0, errors


def test_what_holds_of_the_file_holds_of_the_lake(server: str) -> None:
    """The same tests, in a process of its own."""
    folder = Path(__file__).parent
    files = [
        str(folder / f"test_{name}.py")
        for name in ("promoted_table", "rollback", "history", "night")
    ]
    done = python(
        *("-m", "pytest", *files, "-q", "-p", "no:cacheprovider", "-n", "0"),
        environment={**os.environ, LAKES: server},
    )
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout


def test_loads_of_several_workloads_are_written_at_once_by_four_processes(lake: Settings) -> None:
    """The first of them makes the lake, whichever it is."""
    names = ["invoices", "letters", "questions", "tickets"]
    ended(*[start(lake, name, *LOADS) for name in names])
    for name in names:
        owned = ask(lake, f"SELECT _load, count(*) FROM promoted.{name} GROUP BY ALL")
        assert owned == [[LOADS[-1], 300]]
    measured = ask(
        lake, "SELECT workload, load, count(*) FROM metrics.nights GROUP BY ALL ORDER BY ALL"
    )
    assert measured == [[name, load, 1] for name in names for load in LOADS]


def test_promotions_of_one_table_at_once_leave_one_row_for_each_key(lake: Settings) -> None:
    """Without a key that the engine keeps unique, both would insert it."""
    ended(*[start(lake, "questions", load) for load in (*LOADS, "2026-01-04")])
    assert ask(
        lake, "SELECT _load, count(*), count(DISTINCT id) FROM promoted.questions GROUP BY ALL"
    ) == [["2026-01-04", 300, 300]]
    kept = ask(
        lake, 'SELECT _load, count(*) FROM promoted."_covered_questions" GROUP BY ALL ORDER BY ALL'
    )
    assert kept == [[load, 300] for load in LOADS]


def test_writers_that_are_killed_leave_whole_loads_and_promoting_again_completes_them(
    lake: Settings,
) -> None:
    ended(start(lake, "questions", "2025-12-31", rows=20_000))
    for wait in (1.0, 1.6):
        killed = start(lake, "questions", *LOADS, rows=20_000)
        time.sleep(wait)
        killed.send_signal(signal.SIGKILL)
        killed.communicate()
        counted = ask(lake, "SELECT count(*), count(DISTINCT _load) FROM promoted.questions")
        assert counted == [[20_000, 1]]
    ended(start(lake, "questions", *LOADS, rows=20_000))
    assert ask(lake, "SELECT _load, count(*) FROM promoted.questions GROUP BY ALL") == [
        [LOADS[-1], 20_000]
    ]
    entered = ask(lake, "SELECT load, count(*) FROM promoted._promotions GROUP BY ALL ORDER BY ALL")
    assert entered == [["2025-12-31", 1], *([load, 1] for load in LOADS)]


def test_the_snapshot_before_each_promotion_can_be_read_again(lake: Settings) -> None:
    ended(start(lake, "questions", *LOADS[:2], rows=50))
    [[before]] = ask(lake, f"SELECT snapshot FROM promoted._promotions WHERE load = '{LOADS[1]}'")
    then = ask(
        lake,
        f"SELECT _load, count(*) FROM promoted.questions AT (VERSION => {before}) GROUP BY ALL",
    )
    assert then == [[LOADS[0], 50]]


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[PostgresServer]:
    from batch_pipeline_tests.postgres import running

    overlay()
    with running() as server:
        yield server


def test_a_catalogue_that_is_started_again_meanwhile_is_waited_for(
    own_server: PostgresServer, tmp_path: Path
) -> None:
    words = f"host={own_server.host} port={own_server.port} user={USER} password={PASSWORD}"
    lake = new_lake(words, tmp_path, next(_numbers))
    ended(start(lake, "questions", LOADS[0], rows=50))
    later = [*LOADS, *[f"2026-02-{day:02}" for day in range(1, 20)]]
    writer = start(lake, "questions", *later, rows=50)
    time.sleep(1.5)
    own_server.stop()
    time.sleep(1.5)
    own_server.start()
    _, errors = writer.communicate(timeout=200)
    if writer.returncode == -signal.SIGABRT and "ROLLBACK" in errors:
        # In the middle of a transaction DuckDB's extension may end the process; whoever calls again goes on.
        ended(start(lake, "questions", *later, rows=50))
    else:
        assert writer.returncode == 0, errors
    assert ask(lake, "SELECT _load, count(*) FROM promoted.questions GROUP BY ALL") == [
        ["2026-02-19", 50]
    ]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (("port=", "port=1 hostaddr=127.0.0.1 options="), "cannot be reached"),
        ((PASSWORD, "secret-not-it"), "refuses the connection: password authentication failed"),
        (("dbname=lake", "dbname=nowhere"), "refuses the connection: database .* does not exist"),
        (
            ("ducklake:postgres:", "ducklake:postgres:nonsense "),
            "cannot be opened; write its address",
        ),
    ],
    ids=["away", "password", "database", "nonsense"],
)
def test_a_catalogue_that_does_not_let_us_in_is_told_in_a_sentence_without_the_password(
    lake: Settings, change: tuple[str, str], sentence: str
) -> None:
    assert lake.warehouse is not None
    script = (
        "from batch_pipeline.errors import PipelineError\n"
        "from batch_pipeline.settings import Settings\n"
        "from batch_pipeline.warehouse import check_warehouse\n"
        "try:\n"
        "    check_warehouse(Settings.from_environment())\n"
        "except PipelineError as error:\n"
        "    print(error)"
    )
    address = lake.warehouse.replace(*change)
    done = python("-c", script, environment=environment(lake, BATCH_PIPELINE_WAREHOUSE=address))
    assert done.returncode == 0, done.stderr
    assert re.search(sentence, done.stdout), done.stdout
    assert done.stdout.count("\n") == 1
    assert PASSWORD not in done.stdout + done.stderr
    assert "secret-not-it" not in done.stdout + done.stderr


def test_another_folder_of_files_than_the_lakes_is_refused(lake: Settings, tmp_path: Path) -> None:
    ended(start(lake, "questions", LOADS[0], rows=5))
    done = python(
        *("-m", _WRITER, str(tmp_path), "questions", "5", LOADS[0]),
        environment=environment(lake, BATCH_PIPELINE_STATE=str(tmp_path / "other")),
    )
    assert done.returncode == 1
    assert "keeps its files in another folder" in done.stderr


def test_a_duckdb_that_has_no_extensions_is_told_so_with_what_to_install(tmp_path: Path) -> None:
    """This very process: PyPI has no extensions for its DuckDB."""
    settings = Settings.from_environment(
        {
            "BATCH_PIPELINE_STATE": str(tmp_path),
            "BATCH_PIPELINE_WAREHOUSE": "ducklake:postgres:dbname=a host=127.0.0.1 password=hidden",
        }
    )
    with pytest.raises(ConfigurationError) as raised:
        check_warehouse(settings)
    told = str(raised.value)
    assert "has no extension ducklake that it can load" in told
    assert (
        "`pip install duckdb==1.5.5 duckdb-extension-ducklake==1.5.5 "
        "duckdb-extension-postgres-scanner==1.5.5`" in told
    )
    assert "hidden" not in told
