"""`batch-pipeline run`, as a script calls it: exit codes, JSON on standard output, going on after a stop."""

import json
import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batch_pipeline.cli import main
from batch_pipeline.ledger import Ledger
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.cli.commands import start
from batch_pipeline_tests.night import DAY, Night, account_of
from batch_pipeline_tests.stages.watching import posts

KEYS = {
    "workload", "load", "source_rows", "dispositions", "coverage", "validity", "validity_all_tiers",
    "escalation_rate", "cost_usd", "cost_per_good_row_usd", "unpriced_requests", "golden", "baseline", "gate", "batches", "requests",
    "results", "tokens", "cache_hit_rate", "promoted_rows", "asked_once", "reused", "estimate", "savings",
}  # fmt: skip


@pytest.fixture
def made(night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch) -> Night:
    night_made = night()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night_made.folder.parent))
    return night_made


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_promoted_is_exit_0_with_one_json_object_and_nothing_else(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulate()
    done = call("run", "questions", "--date", DAY, "--json")

    assert done.exit_code == 0, done.stderr
    card = json.loads(done.stdout)
    assert set(card) == KEYS
    assert card["gate"] == {"promote": True, "reasons": card["gate"]["reasons"]}
    assert card["golden"] == {"score": 1.0, "n": 5, "baseline": 0.9, "drop_points": -10.0}
    assert card["dispositions"] == {"validated": 12, "quarantined": 0, "human_review": 0}
    assert "wave 1 · tier 0 claude-haiku-4-5 · 1 batch · 17 requests" in done.stderr


def test_calling_again_changes_nothing(simulate: Callable[..., Simulator], made: Night) -> None:
    simulator = simulate()
    first = call("run", "questions", "--date", DAY, "--json")
    again = call("run", "questions", "--date", DAY, "--json")

    assert again.exit_code == 0
    assert again.stdout == first.stdout
    assert len(account_of(simulator)["batches"]) == 1


def test_held_is_exit_3_with_the_reasons(simulate: Callable[..., Simulator], made: Night) -> None:
    simulate(models={"*": {"wrong": 1.0}})
    done = call("run", "questions", "--date", DAY, "--json")
    again = call("run", "questions", "--date", DAY, "--json")

    assert done.exit_code == again.exit_code == 3
    card = json.loads(done.stdout)
    assert card["gate"]["promote"] is False
    assert "golden score 0 of 5" in card["gate"]["reasons"][0]
    assert card["promoted_rows"] == 0


def test_a_held_load_is_promoted_with_a_reason(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulate(models={"*": {"wrong": 1.0}})
    call("run", "questions", "--date", DAY)
    done = call("promote", "questions", "--date", DAY, "--reason", "the labels were renamed")

    assert done.exit_code == 0, done.stderr
    card = json.loads(call("scorecard", "questions", "--json").stdout)
    assert card["gate"]["promote"] is True
    assert card["gate"]["reasons"][0].startswith("override: the labels were renamed (")
    assert card["promoted_rows"] == 12


def test_out_of_time_is_exit_4_and_the_next_call_goes_on(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulator = simulate(turnaround_seconds=4)
    early = call("run", "questions", "--date", DAY, "--max-wait", "0", "--json")
    later = call("run", "questions", "--date", DAY, "--json")

    assert early.exit_code == 4
    card = json.loads(early.stdout)
    assert set(card) == KEYS
    assert card["gate"] is None
    assert card["requests"] == 17
    assert "call again" in early.stderr
    assert later.exit_code == 0
    assert len(account_of(simulator)["batches"]) == 1


def test_a_lost_answer_is_looked_for_and_the_load_promoted(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulator = simulate(calls=[{"on": "create", "fault": "drop_after_accepting"}])
    done = call("run", "questions", "--date", DAY, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["promoted_rows"] == 12
    assert "is a chunk's whose answer was lost: adopted" in done.stderr
    assert len(account_of(simulator)["batches"]) == 1


def test_a_batch_that_does_not_appear_is_exit_4_and_nothing_more_is_sent(
    simulate: Callable[..., Simulator], made: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "300")
    simulator = simulate(calls=[{"on": "create", "fault": "drop_before_accepting"}])
    for _ in range(2):
        done = call("run", "questions", "--date", DAY, "--json", "--max-wait", "1")
        assert done.exit_code == 4
        assert json.loads(done.stdout)["gate"] is None
        assert "nothing more of the load is sent until that is settled" in done.stderr
    assert posts(simulator) == 1


def test_another_address_than_the_load_was_sent_to_is_exit_2_and_nothing_is_sent(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulator = simulate(calls=[{"on": "create", "fault": "drop_before_accepting"}])
    made.submit()
    [chunk] = made.ledger.chunks(made.context.record())
    with closing(sqlite3.connect(made.context.settings.state / "ledger.sqlite")) as ledger, ledger:
        ledger.execute("UPDATE chunks SET api = 'https://api.anthropic.com'")
    done = call("run", "questions", "--date", DAY, "--json", "--max-wait", "3")
    assert done.exit_code == 2, done.stderr
    assert "was sent to https://api.anthropic.com, but ANTHROPIC_BASE_URL now names" in done.stderr
    assert posts(simulator) == 1
    assert made.ledger.chunks(made.context.record())[0].state is chunk.state


def test_a_refusal_for_now_is_waited_out_and_the_load_promoted(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulator = simulate(
        calls=[{"on": "create", "nth": 1, "fault": "status", "status": 429, "retry_after": 1}]
    )
    done = call("run", "questions", "--date", DAY, "--json")
    assert done.exit_code == 0, done.stderr
    assert "Sending waits until" in done.stderr
    assert "Nothing is to be done." in done.stderr
    assert posts(simulator) == 2


def test_a_spend_limit_is_exit_4_with_its_sentence_and_the_next_call_tries_once(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulator = simulate(
        calls=[
            {
                "on": "create",
                "first": 2,
                "fault": "status",
                "status": 429,
                "error_code": "enforced_spend_limit_reached",
                "message": "Your organization has reached its monthly spend limit",
                "retry_after": 3600,
            }
        ]
    )
    for n in (1, 2):
        done = call("run", "questions", "--date", DAY, "--json")
        assert done.exit_code == 4
        assert "Your organization has reached its monthly spend limit" in done.stderr
        assert "[enforced_spend_limit_reached]" in done.stderr
        assert posts(simulator) == n
    done = call("run", "questions", "--date", DAY, "--json")
    assert done.exit_code == 0, done.stderr
    assert (posts(simulator), len(account_of(simulator)["batches"])) == (3, 1)


def test_an_api_that_is_not_there_is_exit_4_with_json(
    monkeypatch: pytest.MonkeyPatch, made: Night
) -> None:
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    done = call("run", "questions", "--date", DAY, "--json", "--max-wait", "1")

    assert done.exit_code == 4
    assert set(json.loads(done.stdout)) == KEYS
    assert "No connection to the API could be made" in done.stderr


def test_a_killed_run_is_taken_up_again(simulate: Callable[..., Simulator], made: Night) -> None:
    simulator = simulate(turnaround_seconds=6)
    process = start("run", "questions", "--date", DAY, "--json")
    _wait_for_batch(made.ledger)
    process.kill()
    process.communicate()

    assert call("run", "questions", "--date", DAY, "--json").exit_code == 0
    assert len(account_of(simulator)["batches"]) == 1


def test_resend_pays_again_and_says_so_in_its_help(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulator = simulate()
    first = json.loads(call("run", "questions", "--date", DAY, "--json").stdout)
    again = json.loads(call("run", "questions", "--date", DAY, "--json", "--resend").stdout)

    assert len(account_of(simulator)["batches"]) == 2
    assert again["cost_usd"] == pytest.approx(2 * first["cost_usd"])
    assert again["promoted_rows"] == 12
    assert "paid again" in call("run", "--help").stdout


def test_export_and_dispositions_write_the_documented_columns(
    simulate: Callable[..., Simulator], made: Night, tmp_path: Path
) -> None:
    simulate(rows=[{"contains": "number 3 ", "fault": "refusal"}])
    call("run", "questions", "--date", DAY)
    promoted, fates = tmp_path / "promoted.csv", tmp_path / "fates.csv"

    assert call("export", "questions", "--date", DAY, "--to", str(promoted)).exit_code == 0
    assert call("dispositions", "questions", "--date", DAY, "--to", str(fates)).exit_code == 0
    as_parquet = tmp_path / "promoted.parquet"
    assert call("export", "questions", "--date", DAY, "--to", str(as_parquet)).exit_code == 0

    lines = promoted.read_text().splitlines()
    assert lines[0] == "id,label,_tier,_model,_batch_id,_load"
    assert len(lines) == 12
    assert lines[1].startswith("r00000,billing,0,claude-haiku-4-5")
    assert fates.read_text().splitlines()[:5] == [
        "key,disposition,reason,tier,attempts",
        "r00000,validated,,0,1",
        "r00001,validated,,0,1",
        "r00002,validated,,0,1",
        "r00003,human_review,refusal,1,2",
    ]
    assert as_parquet.stat().st_size


def test_export_of_a_held_load_is_exit_3_and_writes_nothing(
    simulate: Callable[..., Simulator], made: Night, tmp_path: Path
) -> None:
    simulate(models={"*": {"wrong": 1.0}})
    call("run", "questions", "--date", DAY)
    target = tmp_path / "x.csv"
    done = call("export", "questions", "--date", DAY, "--to", str(target))
    assert done.exit_code == 3
    assert not target.exists()


@pytest.mark.parametrize("command", ["scorecard", "export", "dispositions"])
def test_asking_for_a_load_that_was_never_begun_is_exit_2(
    made: Night, command: str, tmp_path: Path
) -> None:
    options = [] if command == "scorecard" else ["--to", str(tmp_path / "x.csv")]
    done = call(command, "questions", "--date", "2026-11-01", *options)
    assert done.exit_code == 2
    assert "There is no load 2026-11-01 of questions" in done.stderr


def _wait_for_batch(ledger: Ledger) -> None:
    for _ in range(600):
        record = ledger.load("questions", DAY)
        if record is not None and ledger.batches(record):
            return
        time.sleep(0.05)
    raise AssertionError(f"no batch was sent ({os.getpid()})")
