"""A ledger that many machines share: who may change a load, outages, and what a person is told."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import event, inspect, text

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger import Ledger
from batch_pipeline.ledger.outages import SCHEMA, LedgerAwayError
from batch_pipeline.ledger.postgres import LockLostError, PostgresHome
from batch_pipeline.ledger.schema import VERSION, _migrate, bring_up_to_date, recorded_version
from batch_pipeline.settings import Settings
from batch_pipeline_tests.ledger.test_ledger import DAY, begun, chunk, submit
from batch_pipeline_tests.postgres import PASSWORD, PostgresServer, running

_HOLDER = """
import sys
from pathlib import Path
from batch_pipeline.ledger import Ledger
with Ledger(Path(sys.argv[1]), 5, sys.argv[2]).hold("w", sys.argv[3], wait_seconds=20):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def url(postgres: PostgresServer) -> str:
    return postgres.url()


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """One that may be stopped."""
    with running() as server:
        yield server


def holder(folder: Path, url: str, day: str = DAY) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(folder), url, day],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def end_sessions(server: PostgresServer, url: str) -> None:
    """Breaks every connection to the ledger, as a restart of the server does."""
    with closing(psycopg.connect(server.dsn("postgres"), autocommit=True)) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s",
            [url.rpartition("/")[2]],
        )


# One at a time


def test_a_load_that_another_process_holds_is_free_once_that_is_killed(
    tmp_path: Path, url: str
) -> None:
    process = holder(tmp_path, url)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    ledger = Ledger(tmp_path / "elsewhere", 5, url)
    with ledger.try_hold("w", DAY) as held:
        assert not held
    with ledger.hold("w", "2026-11-19", wait_seconds=0):
        pass
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with ledger.hold("w", DAY, wait_seconds=10):
        pass


def test_nothing_is_begun_for_a_load_whose_lock_went_to_another(
    tmp_path: Path, postgres: PostgresServer, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_pipeline.ledger.postgres._GONE_SECONDS", 0.2)
    ledger, other = Ledger(tmp_path, 5, url), Ledger(tmp_path / "other", 5, url)
    record = begun(ledger)
    with ledger.hold("w", DAY):
        end_sessions(postgres, url)
        with other.hold("w", DAY, wait_seconds=5):
            with pytest.raises(LockLostError, match="w 2026-11-20"):
                ledger.record_intent(chunk(record))
            with pytest.raises(LockLostError):
                ledger.require_hold("w", DAY)
    assert ledger.intents() == []


def test_nothing_is_begun_for_a_load_that_another_has_held_meanwhile_whatever_it_did(
    tmp_path: Path, postgres: PostgresServer, url: str
) -> None:
    ledger, other = Ledger(tmp_path, 5, url), Ledger(tmp_path / "other", 5, url)
    record = begun(ledger)
    with ledger.hold("w", DAY):
        end_sessions(postgres, url)
        for _ in range(2):
            with other.hold("w", DAY, wait_seconds=5):
                begun(other, generation=2)
        with pytest.raises(LockLostError):
            ledger.record_intent(chunk(record))
        with pytest.raises(LockLostError):
            ledger.require_hold("w", DAY)
    assert ledger.intents() == []


def test_nothing_is_begun_for_a_load_of_which_another_sent_meanwhile(
    tmp_path: Path, postgres: PostgresServer, url: str
) -> None:
    ledger, other = Ledger(tmp_path, 5, url), Ledger(tmp_path / "other", 5, url)
    record = begun(ledger)
    with ledger.hold("w", DAY):
        end_sessions(postgres, url)
        with other.hold("w", DAY, wait_seconds=5):
            other.record_intent(chunk(record, "theirs"))
        with pytest.raises(LockLostError):
            ledger.record_intent(chunk(record, "ours"))
    assert [c.chunk_id for c in ledger.intents()] == ["theirs"]


def test_a_lock_that_broke_is_taken_again_where_nobody_else_had_it(
    tmp_path: Path, postgres: PostgresServer, url: str
) -> None:
    ledger, other = Ledger(tmp_path, 5, url), Ledger(tmp_path / "other", 5, url)
    record = begun(ledger)
    with ledger.hold("w", DAY):
        ledger.record_intent(chunk(record, "c1"))
        end_sessions(postgres, url)
        ledger.record_intent(chunk(record, "c2"))
        with other.try_hold("w", DAY) as held:
            assert not held
        # And again, with what it has sent itself meanwhile.
        end_sessions(postgres, url)
        ledger.record_intent(chunk(record, "c3"))
    assert len(ledger.intents()) == 3
    with other.try_hold("w", DAY) as held:
        assert held


# Outages


def test_a_ledger_that_is_away_for_a_while_is_waited_for(
    tmp_path: Path, own_server: PostgresServer
) -> None:
    url = own_server.url()
    ledger = Ledger(tmp_path, 30, url)
    record = begun(ledger)
    with ledger.hold("w", DAY):
        ledger.record_intent(chunk(record))
        own_server.stop()
        back = threading.Timer(1.0, own_server.start)
        back.start()
        submit(ledger, "c1", "b1")  # what the API said while it was away
        back.join()
        ledger.record_intent(chunk(record, "c2"))
    assert [b.batch_id for b in ledger.batches(record)] == ["b1"]
    assert [c.chunk_id for c in ledger.intents()] == ["c2"]


def test_a_ledger_that_stays_away_is_a_sentence_without_its_password(
    tmp_path: Path, own_server: PostgresServer
) -> None:
    url = own_server.url()
    ledger = Ledger(tmp_path, 0.3, url)
    own_server.stop()
    try:
        with pytest.raises(LedgerAwayError) as error:
            ledger.load("w", DAY)
    finally:
        own_server.start()
    said = str(error.value)
    assert f"127.0.0.1:{own_server.port}/" in said
    assert "BATCH_PIPELINE_LEDGER" in said
    assert PASSWORD not in said


def test_a_batch_that_was_written_down_before_the_connection_broke_is_written_once(
    tmp_path: Path, url: str
) -> None:
    ledger = Ledger(tmp_path, 5, url)
    record = begun(ledger)
    ledger.record_intent(chunk(record))
    submit(ledger, "c1", "b1")
    submit(ledger, "c1", "b1")  # the commit went through, and its answer was lost
    assert [b.batch_id for b in ledger.batches(record)] == ["b1"]
    with pytest.raises(PipelineError, match="b2"):
        submit(ledger, "c1", "b2")


# Wrong configuration


def wrong(url: str, tmp_path: Path) -> str:
    settings = replace(Settings.from_environment(), state=tmp_path, ledger=url)
    with pytest.raises(PipelineError) as error:
        Ledger.existing(settings)
    said = str(error.value)
    assert "BATCH_PIPELINE_LEDGER" in said
    assert PASSWORD not in said
    assert "wrong-password" not in said
    assert "\n" not in said
    return said


def test_a_server_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        before = time.monotonic()
        said = wrong(f"postgresql+psycopg://u:{PASSWORD}@127.0.0.1:{port}/d", tmp_path)
        assert time.monotonic() - before < 60  # not the two minutes of an outage
    assert f"127.0.0.1:{port}/d" in said
    assert "refused" in said


def test_a_wrong_password_is_not_tried_again(postgres: PostgresServer, tmp_path: Path) -> None:
    url = postgres.url("postgres").replace(PASSWORD, "wrong-password")
    assert "password authentication failed" in wrong(url, tmp_path)
    with pytest.raises(ConfigurationError):
        Ledger(tmp_path, 60, url)


def test_a_database_that_is_missing_is_named(postgres: PostgresServer, tmp_path: Path) -> None:
    assert 'database "nowhere" does not exist' in wrong(postgres.url("nowhere"), tmp_path)


def test_an_account_that_may_not_make_the_schema_is_told_what_it_needs(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    database = postgres.database()
    with closing(psycopg.connect(postgres.dsn(database), autocommit=True)) as connection:
        name = f"guest_{os.getpid()}"
        connection.execute(
            sql.SQL("CREATE ROLE {} LOGIN PASSWORD 'wrong-password'").format(sql.Identifier(name))
        )
    url = f"postgresql+psycopg://{name}:wrong-password@127.0.0.1:{postgres.port}/{database}"
    with pytest.raises(ConfigurationError) as error:
        Ledger(tmp_path, 60, url)
    assert "schema batch_pipeline" in str(error.value)
    assert "permission denied" in str(error.value)
    assert "wrong-password" not in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://u@h:port/d",
        "postgresql+psycopg://",
        "postgresql+psycopg://h",
        f"postgresql+psycopg://u:{PASSWORD}@wrong-password@h/d",  # an @ that is not encoded
    ],
)
def test_an_address_that_is_none_is_shown_how_to_be_written(url: str, tmp_path: Path) -> None:
    assert "postgresql+psycopg://user:password@host" in wrong(url, tmp_path)


def test_looking_for_a_ledger_makes_none(url: str, tmp_path: Path) -> None:
    settings = replace(Settings.from_environment(), state=tmp_path, ledger=url)
    assert Ledger.existing(settings) is None
    with closing(psycopg.connect(url.replace("+psycopg", ""))) as connection:
        found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'batch_pipeline'")
        assert found.fetchall() == []
    Ledger.of(settings)
    assert Ledger.existing(settings) is not None


# Beside others


def test_it_lives_beside_others_in_one_database(postgres: PostgresServer, tmp_path: Path) -> None:
    database = postgres.database()
    with closing(psycopg.connect(postgres.dsn(database), autocommit=True)) as connection:
        connection.execute("CREATE TABLE loads (theirs int)")
        connection.execute("CREATE TABLE alembic_version (version_num text)")
        connection.execute("INSERT INTO alembic_version VALUES ('dagster')")
    ledger = Ledger(tmp_path, 5, postgres.url(database))
    begun(ledger)
    with closing(psycopg.connect(postgres.dsn(database))) as connection:
        assert connection.execute("SELECT count(*) FROM public.loads").fetchall() == [(0,)]
        found = connection.execute("SELECT version_num FROM public.alembic_version").fetchall()
        assert found == [("dagster",)]


def test_what_sqlite_takes_is_taken(tmp_path: Path, url: str) -> None:
    ledger = Ledger(tmp_path, 5, url)
    record = begun(ledger, by="r" * 500)
    ledger.update_load(record, stopped="a sentence with \0 in it")
    found = ledger.load("w", DAY)
    assert found is not None
    assert found.stopped == "a sentence with \N{REPLACEMENT CHARACTER} in it"
    assert found.requested_by == "r" * 500


def tables_of(home: PostgresHome) -> dict[str, tuple[object, ...]]:
    """Columns with whether they may be null, keys and indexes, by table."""
    look = inspect(home.engine)
    return {
        name: (
            sorted((c["name"], c["nullable"]) for c in look.get_columns(name, SCHEMA)),
            sorted(look.get_pk_constraint(name, SCHEMA)["constrained_columns"]),
            sorted(
                (str(i["column_names"]), bool(i["unique"])) for i in look.get_indexes(name, SCHEMA)
            ),
        )
        for name in look.get_table_names(SCHEMA)
    }


def test_every_step_of_the_schema_leads_to_the_newest_there_too(postgres: PostgresServer) -> None:
    migrated, new = PostgresHome(postgres.url(), 5), PostgresHome(postgres.url(), 5)
    with migrated.only_here() as connection:
        _migrate(connection)
    bring_up_to_date(new)
    assert recorded_version(migrated) == recorded_version(new) == f"{VERSION:04}"
    assert "holds" in tables_of(new)
    assert tables_of(migrated) == tables_of(new)


def test_a_ledger_of_the_step_before_is_migrated_with_what_it_holds(
    postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.url()
    begun(Ledger(tmp_path, 5, url))
    home = PostgresHome(url, 5)
    with home.only_here() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0005'"))
        for column in ("rolled_back_at", "rolled_back_by", "rollback_reason"):
            connection.execute(text(f"ALTER TABLE loads DROP COLUMN {column}"))
        connection.execute(text("DROP TABLE holds"))
    found = Ledger(tmp_path, 5, url).load("w", DAY)
    assert found is not None
    assert found.source_rows == 10
    assert found.rolled_back_at is None
    with home.only_here() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(ConfigurationError, match="a newer release wrote it"):
        Ledger(tmp_path, 5, url)


@pytest.mark.parametrize("moment", ["INSERT INTO chunks", "answer to INSERT INTO chunks"])
def test_an_intent_during_which_the_session_breaks_is_committed_once(
    tmp_path: Path, postgres: PostgresServer, url: str, moment: str
) -> None:
    ledger, other = Ledger(tmp_path, 5, url), Ledger(tmp_path / "other", 5, url)
    record = begun(ledger)
    struck: list[str] = []

    def strike(_c: object, cursor: Any, statement: str, *_rest: object) -> None:
        if statement.startswith(moment.removeprefix("answer to ")) and not struck:
            struck.append(statement)
            end_sessions(postgres, url)
            if moment.startswith("answer"):
                cursor.execute("SELECT 1")  # fails, as reading the answer would have

    name = "after_cursor_execute" if moment.startswith("answer") else "before_cursor_execute"
    assert isinstance(ledger._home, PostgresHome)
    event.listen(ledger._home._sessions, name, strike)
    with ledger.hold("w", DAY):
        ledger.record_intent(chunk(record))
        assert struck
        with other.try_hold("w", DAY) as held:
            assert not held
        ledger.record_intent(chunk(record, "c2"))
    assert sorted(c.chunk_id for c in other.intents()) == ["c1", "c2"]
