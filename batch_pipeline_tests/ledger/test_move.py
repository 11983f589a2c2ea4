"""A ledger moves into another database: whole, once, and the old one says where it went."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select
from sqlalchemy.exc import DBAPIError

from batch_pipeline.cli import main
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger import Ledger, move
from batch_pipeline.ledger.move import move_ledger
from batch_pipeline.ledger.tables import metadata
from batch_pipeline.settings import Settings
from batch_pipeline_tests.ledger.test_ledger import DAY, begun, chunk, submit
from batch_pipeline_tests.old_state.restore import restore_ledger
from batch_pipeline_tests.postgres import PASSWORD, PostgresServer

# Dies at its n-th commit, just before it or just after.
_KILLED = """
import os, signal, sys
from sqlalchemy import Engine, event
from batch_pipeline.ledger.move import move_ledger
from batch_pipeline.ledger.home import SqliteHome
left = int(sys.argv[3])
def step(*_):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
event.listen(Engine, "before_cursor_execute", step)
event.listen(Engine, "commit", step)
move_ledger(sys.argv[1], sys.argv[2])
"""


@pytest.fixture
def full(tmp_path: Path) -> Ledger:
    """A ledger with a batch, an open intent and a decision."""
    ledger = Ledger(tmp_path / "state")
    record = begun(ledger)
    for name in ("c1", "c2"):
        ledger.record_intent(chunk(record, name))
    submit(ledger, "c1", "b1")
    ledger.update_load(record, stopped="'quoted'; {braces} \N{SNOWMAN}")
    ledger.record_promotion(begun(ledger, day="2026-11-19"), rows=10, fingerprint="f")
    ledger.record_override(record, fingerprint="f", reason="r", requested_by="kim")
    return ledger


def source(folder: Path) -> str:
    return f"sqlite:{folder / 'state' / 'ledger.sqlite'}"


def content(ledger: Ledger) -> dict[str, list[tuple[object, ...]]]:
    with ledger._home.engine.connect() as connection:
        return {
            table.name: [
                tuple(row)
                for row in connection.execute(select(table).order_by(*table.primary_key.columns))
            ]
            for table in metadata.sorted_tables
        }


def test_every_record_arrives_as_it_was(
    full: Ledger, tmp_path: Path, postgres: PostgresServer
) -> None:
    before, url = content(full), postgres.url()
    moved = move_ledger(source(tmp_path), url)
    assert moved.records["chunks"] == 2
    assert content(Ledger(tmp_path, 5, url)) == before


def test_the_old_ledger_says_where_it_went_and_begins_nothing_more(
    full: Ledger, tmp_path: Path, postgres: PostgresServer
) -> None:
    record, url = full.load("w", DAY), postgres.url()
    assert record
    move_ledger(source(tmp_path), url)
    with pytest.raises(ConfigurationError, match=r"was moved to 127\.0\.0\.1:") as error:
        Ledger(tmp_path / "state")
    assert PASSWORD not in str(error.value)
    with pytest.raises(Exception, match="no such table"):  # one that had it open before
        full.record_intent(chunk(record, "c9"))


def test_a_ledger_goes_back_to_a_file(
    full: Ledger, tmp_path: Path, postgres: PostgresServer
) -> None:
    before, url = content(full), postgres.url()
    move_ledger(source(tmp_path), url)
    back = tmp_path / "back"
    move_ledger(url, f"sqlite:{back / 'ledger.sqlite'}")
    assert content(Ledger(back)) == before
    with pytest.raises(ConfigurationError, match="was moved to"):
        Ledger(tmp_path, 5, url)


def test_an_old_releases_ledger_is_brought_up_to_date_on_the_way(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    (tmp_path / "state").mkdir()
    path = restore_ledger(tmp_path / "state")
    with closing(sqlite3.connect(path)) as old:
        loads = old.execute("SELECT count(*) FROM loads").fetchone()[0]
    url = postgres.url()
    assert move_ledger(source(tmp_path), url).records["loads"] == loads > 0
    assert Ledger(tmp_path, 5, url).generations()


def test_killed_at_any_moment_it_is_finished_by_the_next_call(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    codes, number = [], 1
    while 0 not in codes:
        folder, url = tmp_path / str(number), postgres.url()
        ledger = Ledger(folder / "state")
        submit_one = begun(ledger)
        ledger.record_intent(chunk(submit_one))
        before = content(ledger)
        arguments = [sys.executable, "-c", _KILLED, source(folder), url, str(number)]
        codes.append(subprocess.run(arguments, check=False).returncode)
        if codes[-1]:
            assert codes[-1] == -signal.SIGKILL
            move_ledger(source(folder), url)
        assert content(Ledger(folder, 5, url)) == before
        number += 7  # between commits a death changes nothing
    assert len(codes) > 3


def test_a_ledger_that_is_not_empty_is_left_alone(
    full: Ledger, tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.url()
    begun(Ledger(tmp_path, 5, url), day="2026-01-01")
    before = content(full)
    with pytest.raises(ConfigurationError, match=r"holds records already \(1 loads"):
        move_ledger(source(tmp_path), url)
    assert content(full) == before
    assert len(Ledger(tmp_path, 5, url).generations()) == 1


def test_a_ledger_that_is_being_worked_on_is_left_alone(
    full: Ledger, tmp_path: Path, postgres: PostgresServer
) -> None:
    url = postgres.url()
    with full.hold("w", DAY), pytest.raises(PipelineError, match="A process is working on w 2026"):
        move_ledger(source(tmp_path), url)
    assert Ledger(tmp_path, 5, url).generations() == []
    assert full.load("w", DAY) is not None


def test_nothing_is_begun_in_a_shared_ledger_while_it_is_moved(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an intent, after which money may flow, would stay behind."""
    url, copy = postgres.url(), move._copy
    begun(Ledger(tmp_path, 5, url), day="2026-01-01")
    other = Ledger(tmp_path, 0.3, url)

    record = other.load("w", "2026-01-01")
    assert record
    later = chunk(replace(record, load="2026-01-02"))

    def meanwhile(*arguments: Any) -> bool:
        with pytest.raises(DBAPIError, match="lock timeout"):
            other.record_intent(later)
        return copy(*arguments)

    monkeypatch.setattr(move, "_copy", meanwhile)
    move_ledger(url, f"sqlite:{tmp_path / 'file' / 'ledger.sqlite'}")
    assert Ledger(tmp_path / "file").intents() == []
    with pytest.raises(DBAPIError, match="does not exist"):
        other.record_intent(later)


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["migrate", *arguments])


def test_the_command_moves_the_states_ledger_to_where_the_environment_says(
    tmp_path: Path, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environment()
    begun(Ledger(settings.state))
    monkeypatch.setenv("BATCH_PIPELINE_LEDGER", postgres.url())
    done = call()
    assert done.exit_code == 0, done.stderr
    assert "1 loads, 0 batches" in done.stdout
    assert PASSWORD not in done.output
    assert Ledger.of(Settings.from_environment()).load("w", DAY) is not None
    again = call()
    assert again.exit_code == 2
    assert "was moved to" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Say where the ledger is to be"),
        (["--to", "mysql://x"], "A ledger is named sqlite:"),
        (["--to", "sqlite:elsewhere.db"], "is not named ledger.sqlite"),
        (["--from", "sqlite:nowhere/ledger.sqlite", "--to", "postgresql://u@h/d"], "no ledger"),
    ],
)
def test_wrong_use_is_one_sentence(arguments: list[str], said: str) -> None:
    done = call(*arguments)
    assert done.exit_code == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(Path.cwd().glob("nowhere"))


def test_a_target_that_cannot_be_reached_leaves_the_ledger_as_it_is(
    full: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_pipeline.ledger.move.BUSY_WAIT_SECONDS", 0.2)
    before = content(full)
    done = call("--from", source(tmp_path), "--to", f"postgresql://u:{PASSWORD}@127.0.0.1:9/d")
    assert done.exit_code == 4
    assert "127.0.0.1:9/d cannot be reached" in done.stderr
    assert PASSWORD not in done.stderr
    assert content(full) == before
