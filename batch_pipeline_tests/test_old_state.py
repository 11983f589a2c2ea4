"""A state folder of the first release, opened by this one: old_state/README.md says what is in it."""

import csv
import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from batch_pipeline.cli import main
from batch_pipeline.ledger import Ledger
from batch_pipeline.simulator import Simulator
from batch_pipeline.warehouse import warehouse
from batch_pipeline_tests.night import account_of
from batch_pipeline_tests.old_state.restore import RECORDED, OldState, restore

ANSWERS = RECORDED / "answers"
DONE = "2026-11-16"
MIDDLE = "2026-11-17"
LOST = "2026-11-18"


@pytest.fixture
def old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OldState:
    restored = restore(tmp_path)
    monkeypatch.setenv("BATCH_PIPELINE_STATE", str(restored.state))
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(restored.workloads))
    return restored


@pytest.fixture
def simulator(old: OldState, monkeypatch: pytest.MonkeyPatch) -> Iterator[Simulator]:
    """The simulator with the batches of that state, back at another port."""
    with Simulator(old.scenario, state_dir=old.simulator) as running:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", running.telling_url)
        yield running


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def recorded_scorecard(workload: str) -> dict[str, Any]:
    card: dict[str, Any] = json.loads((ANSWERS / f"{workload}.scorecard.json").read_text())
    return card


def told_again(card: dict[str, Any], recorded: dict[str, Any]) -> dict[str, Any]:
    """What was recorded, as it is now: a later release may add measures, and say more of the gate's reasons."""
    now = {name: card[name] for name in recorded}
    return now | {"gate": card["gate"] and card["gate"] | {"reasons": recorded["gate"]["reasons"]}}


def lines(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def sent(simulator: Simulator) -> int:
    return len(account_of(simulator)["batches"])


@pytest.mark.parametrize("workload", ["questions", "dear_questions"])
def test_a_load_that_is_done_keeps_its_scorecard(old: OldState, workload: str) -> None:
    shown = call("scorecard", workload, "--date", DONE, "--json")
    assert shown.exit_code == 0, shown.stderr
    recorded = recorded_scorecard(workload)
    card = json.loads(shown.stdout)
    assert told_again(card, recorded) == recorded


def test_its_promoted_rows_are_exported_as_before(old: OldState, tmp_path: Path) -> None:
    exported = call("export", "questions", "--date", DONE, "--to", str(tmp_path / "rows.csv"))
    assert exported.exit_code == 0, exported.stderr
    assert lines(tmp_path / "rows.csv") == lines(ANSWERS / "questions.csv")


@pytest.mark.parametrize("workload", ["questions", "dear_questions"])
def test_its_dispositions_are_what_they_were(old: OldState, tmp_path: Path, workload: str) -> None:
    done = call("dispositions", workload, "--date", DONE, "--to", str(tmp_path / "rows.csv"))
    assert done.exit_code == 0, done.stderr
    assert lines(tmp_path / "rows.csv") == lines(ANSWERS / f"{workload}.dispositions.csv")


def test_running_a_load_that_is_done_sends_nothing(old: OldState, simulator: Simulator) -> None:
    before = account_of(simulator)
    assert call("run", "questions", "--date", DONE).exit_code == 0
    assert call("run", "dear_questions", "--date", DONE).exit_code == 3
    assert account_of(simulator) == before


def test_a_load_in_the_middle_is_promoted_and_nothing_is_sent_again(
    old: OldState, simulator: Simulator, tmp_path: Path
) -> None:
    before = sent(simulator)
    ran = call("run", "questions", "--date", MIDDLE, "--json")
    assert ran.exit_code == 0, ran.stderr
    assert sent(simulator) == before
    # The same rows, so the same measures as the load of the day before.
    recorded = recorded_scorecard("questions")
    card = json.loads(ran.stdout)
    assert told_again(card, recorded) == {**recorded, "load": MIDDLE}
    assert promoted(old, MIDDLE) == ["r00000", "r00001", "r00002", "r00003", "r00005", "r00006", "r00007"]  # fmt: skip


def test_a_batch_whose_create_call_was_never_answered_is_found_and_not_sent_again(
    old: OldState, simulator: Simulator
) -> None:
    before = sent(simulator)
    ran = call("run", "questions", "--date", LOST, "--json")
    assert ran.exit_code == 0, ran.stderr
    # The row that climbs is all that was left to send.
    assert sent(simulator) == before + 1
    ledger = Ledger(old.state)
    record = ledger.load("questions", LOST)
    assert record is not None
    assert sorted(batch.adopted or "" for batch in ledger.batches(record)) == ["", "", "confirmed"]
    recorded = recorded_scorecard("questions")
    card = json.loads(ran.stdout)
    assert told_again(card, recorded) == {**recorded, "load": LOST}


def test_opening_it_a_second_time_changes_nothing(old: OldState) -> None:
    Ledger(old.state)
    with warehouse(old.state):
        pass
    first = everything(old)
    Ledger(old.state)
    with warehouse(old.state):
        pass
    assert everything(old) == first


@pytest.mark.parametrize("command", ["run", "scorecard"])
def test_a_newer_releases_state_is_refused_in_one_sentence(
    old: OldState, simulator: Simulator, command: str
) -> None:
    Ledger(old.state)
    with closing(sqlite3.connect(old.state / "ledger.sqlite")) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '0099'")
        connection.commit()
    before = everything(old)
    refused = call(command, "questions", "--date", MIDDLE)
    assert refused.exit_code == 2
    [sentence] = refused.stderr.splitlines()
    assert "has schema version 0099" in sentence
    assert everything(old) == before


def test_a_newer_releases_warehouse_is_refused_when_the_load_is_published(
    old: OldState, simulator: Simulator
) -> None:
    with warehouse(old.state) as connection:
        connection.execute("UPDATE metrics.schema_version SET version = 99")
    refused = call("run", "questions", "--date", MIDDLE)
    assert refused.exit_code == 2, refused.stderr
    assert "has schema version 99" in refused.stderr
    assert promoted(old, MIDDLE) == []


def promoted(old: OldState, load: str) -> list[str]:
    with duckdb.connect(str(old.state / "warehouse.duckdb"), read_only=True) as connection:
        found = connection.execute(
            "SELECT id FROM promoted.questions WHERE _load = ? ORDER BY id", [load]
        )
        return [key for (key,) in found.fetchall()]


def everything(old: OldState) -> dict[str, Any]:
    """The ledger's statements, and every other file byte for byte."""
    with closing(sqlite3.connect(old.state / "ledger.sqlite")) as connection:
        found: dict[str, Any] = {"ledger": list(connection.iterdump())}
    for file in sorted(old.state.rglob("*")):
        if file.is_file() and not file.name.startswith("ledger.sqlite"):
            found[str(file.relative_to(old.state))] = file.read_bytes()
    return found
