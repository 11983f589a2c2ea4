"""A disk that is full: one sentence, exit 4, nothing lost, and with room the next call goes on."""

import errno
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest

from batch_pipeline.obstacles import NoRoomError, obstacle
from batch_pipeline.simulator import Simulator
from batch_pipeline.warehouse import warehouse
from batch_pipeline_tests.cli.commands import finish, start
from batch_pipeline_tests.night import DAY, Night, account_of

RUN = ("run", "questions", "--date", DAY, "--json")
# Bytes: the ledger outgrows the first, Dagster's tables and event logs the second.
LIMITS = (1_000, 150_000)


@pytest.fixture
def made(night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch) -> Night:
    night_made = night()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night_made.folder.parent))
    return night_made


def test_run_says_that_there_is_no_room_and_goes_on_when_there_is(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulator = simulate()
    for limit in LIMITS:
        code, output, errors = finish(start(*RUN, file_size=limit))
        assert code == 4, (limit, errors)
        assert json.loads(output)["gate"] is None or json.loads(output)["promoted_rows"] == 0
        assert "Traceback" not in errors, limit
        last = errors.splitlines()[-1]
        assert last.startswith("batch-pipeline: "), errors
        assert "There is no room left to write" in last, errors
        assert str(made.context.settings.state) in last
        assert "call again" in last

    code, output, errors = finish(start(*RUN))
    assert code == 0, errors
    assert json.loads(output)["promoted_rows"] == 12
    account = account_of(simulator)
    assert [batch["id"] for batch in account["batches"]] == [
        batch.batch_id for batch in made.ledger.batches(made.context.record())
    ]
    assert len(account["batches"]) == 1


def test_a_promotion_without_room_leaves_the_warehouse_whole_and_is_done_again(
    simulate: Callable[..., Simulator], night: Callable[..., Night]
) -> None:
    """In a child of this process, without Dagster: only then does the warehouse outgrow the limit first."""
    simulate(known=3000)
    made = night(count=3000)
    made.settle()
    state = made.context.settings.state
    failures = 0
    for limit in (2_000, 20_000, 60_000, 100_000, 150_000, 300_000):
        child = os.fork()
        if child == 0:
            try:
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
                made.publish()
            except BaseException as error:  # noqa: BLE001 - the child must end here
                os._exit(3 if obstacle(error) else 1)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 3), limit
        failures += code == 3
        promoted = made.context.record().promoted_at is not None
        assert promoted == (code == 0)
        with warehouse(state) as connection:
            tables = connection.execute(
                "SELECT count(*) FROM duckdb_tables() WHERE schema_name = 'promoted' AND "
                "table_name = 'questions'"
            ).fetchall()[0][0]
            rows = 0
            if tables:
                rows = connection.execute("SELECT count(*) FROM promoted.questions").fetchall()[0][
                    0
                ]
        assert rows in ((3000,) if promoted else (0, 3000)), limit
    assert failures >= 3
    made.publish()
    with warehouse(state) as connection:
        held = "SELECT count(*), count(DISTINCT id) FROM promoted.questions"
        assert connection.execute(held).fetchall() == [(3000, 3000)]


_WRITERS = """
import resource, sys, sqlite3, duckdb, pyarrow as pa, pyarrow.parquet as pq
from pathlib import Path
from sqlalchemy import create_engine, text
from batch_pipeline.obstacles import obstacle
place = Path(sys.argv[1])
if sys.argv[2:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
many = "SELECT i, md5(i::VARCHAR) AS a, md5((i + 1)::VARCHAR) AS b FROM range(200000) t(i)"
def warehouse():
    connection = duckdb.connect(str(place / "w.duckdb"))
    connection.execute(f"CREATE TABLE t AS {many}")
    connection.execute("CHECKPOINT")
def parquet():
    duckdb.execute(f"COPY ({many}) TO '{place}/d.parquet' (FORMAT parquet)")
def arrow():
    pq.write_table(pa.table({"a": [str(i) * 9 for i in range(300000)]}), str(place / "a.parquet"))
def file():
    (place / "f").write_bytes(b"x" * 10_000_000)
def ledger():
    with create_engine(f"sqlite:///{place}/l.sqlite").begin() as connection:
        connection.execute(text("CREATE TABLE t (a)"))
        connection.execute(text("INSERT INTO t VALUES (zeroblob(10000000))"))
def spilled():
    connection = duckdb.connect(config={"memory_limit": "20MB", "temp_directory": str(place / "s"), "threads": 1})
    connection.execute("SELECT count(*) FROM (SELECT *, row_number() OVER (ORDER BY b, a) FROM "
                       "(SELECT i, md5(i::VARCHAR) AS a, md5((i + 1)::VARCHAR) AS b FROM range(2000000) t(i)))")
for writer in (warehouse, parquet, arrow, file, ledger, spilled):
    try:
        writer()
    except Exception as error:
        found = obstacle(error)
        print(writer.__name__, type(found).__name__, "" if found else repr(error)[:300], flush=True)
    else:
        print(writer.__name__, "wrote", flush=True)
    for path in place.rglob("*"):
        if path.is_file(): path.unlink()
"""
_WRITTEN = ("warehouse", "parquet", "arrow", "file", "ledger")


def _written(folder: Path, *limited: str) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", _WRITERS, str(folder), *limited],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(line.split(" ", 1) for line in done.stdout.splitlines())


def test_a_limit_on_file_sizes_is_recognised_whoever_writes(tmp_path: Path) -> None:
    said = _written(tmp_path, "limited")
    assert {name: said[name].strip() for name in _WRITTEN} == dict.fromkeys(_WRITTEN, "NoRoomError")
    assert said["spilled"].strip() in ("NoRoomError", "wrote"), said


def test_a_full_file_system_is_recognised_whoever_writes(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"a small tmpfs cannot be mounted here: {mounted.stderr.strip()}")
    try:
        said = _written(tmp_path)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
    assert {name: said[name].strip() for name in _WRITTEN} == dict.fromkeys(_WRITTEN, "NoRoomError")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EACCES, "Permission denied"),
        OSError("No such thing"),
        duckdb.IOException("IO Error: Could not set lock on file"),
        ValueError("File not found"),
        KeyError("x"),
    ],
)
def test_other_errors_are_not_taken_for_a_full_disk(error: Exception) -> None:
    assert obstacle(error) is None


def test_the_sentence_names_the_file_and_is_found_behind_other_errors(tmp_path: Path) -> None:
    try:
        try:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "x.parquet"))
        except OSError as error:
            raise RuntimeError("while writing") from error
    except RuntimeError as error:
        found = obstacle(error)
    assert isinstance(found, NoRoomError)
    assert f"There is no room left to write {tmp_path}/x.parquet: the disk is full" in str(found)
