"""`batch-pipeline cancel`, as a script calls it."""

import json
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result

from batch_pipeline.cli import main
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import DAY, Night, account_of

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]


@pytest.fixture
def made(night: MakeNight, monkeypatch: pytest.MonkeyPatch) -> Night:
    night_made = night(count=6, golden=0)
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night_made.folder.parent))
    return night_made


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def cancel(*arguments: str) -> Result:
    return call("cancel", "questions", "--date", DAY, *arguments)


def test_a_load_is_cancelled_closed_held_and_brought_back_by_resend_only(
    simulate: Simulate, made: Night
) -> None:
    simulator = simulate(turnaround_seconds=3600)
    made.submit()
    done = cancel("--json", "--reason", "the wrong prompt")
    assert done.exit_code == 0, done.stderr
    card = json.loads(done.stdout)
    assert card["dispositions"] == {"validated": 0, "quarantined": 6, "human_review": 0}
    assert card["coverage"] == 1.0
    assert card["gate"]["promote"] is False
    assert any("cancelled: the wrong prompt (" in reason for reason in card["gate"]["reasons"])

    again = call("run", "questions", "--date", DAY, "--json")
    assert again.exit_code == 3
    assert json.loads(again.stdout) == card
    assert len(account_of(simulator)["batches"]) == 1

    simulate()
    resent = call("run", "questions", "--date", DAY, "--json", "--resend")
    assert resent.exit_code == 0, resent.stderr
    assert json.loads(resent.stdout)["promoted_rows"] == 6


def test_batches_that_are_still_stopping_are_exit_4_and_the_next_call_goes_on(
    simulate: Simulate, made: Night
) -> None:
    simulate(turnaround_seconds=3600, cancel_seconds=4)
    made.submit()
    early = cancel("--json", "--max-wait", "0")
    assert early.exit_code == 4
    assert json.loads(early.stdout)["gate"] is None
    later = cancel("--json")
    assert later.exit_code == 0, later.stderr
    assert json.loads(later.stdout)["dispositions"]["quarantined"] == 6
    twice = cancel("--json")
    assert (twice.exit_code, twice.stdout) == (0, later.stdout)


def test_a_load_that_is_finished_has_nothing_to_cancel(simulate: Simulate, made: Night) -> None:
    simulate()
    made.settle()
    done = cancel()
    assert (done.exit_code, done.stdout) == (2, "")
    assert "every row has its disposition already, so nothing is left to cancel" in done.stderr


def test_a_load_that_was_never_begun_has_nothing_to_cancel(made: Night) -> None:
    done = cancel()
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"There is no load {DAY} of questions" in done.stderr
