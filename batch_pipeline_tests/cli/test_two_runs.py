"""Several `run`s at once on one state: nothing is sent twice."""

from collections.abc import Callable

import pytest

from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.cli.commands import run_at_once
from batch_pipeline_tests.night import DAY, Night, account_of

OTHER_DAY = "2026-11-19"


@pytest.fixture
def made(night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch) -> Night:
    night_made = night()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night_made.folder.parent))
    return night_made


def test_two_runs_of_one_load_send_it_once_and_both_see_it_promoted(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    # A row that climbs: there are two waves that could be sent twice.
    simulator = simulate(
        turnaround_seconds=1, rows=[{"contains": "number 3 ", "fault": "not_json", "times": 1}]
    )
    first, second = run_at_once(("questions", DAY), ("questions", DAY))

    assert first == second
    assert first["promoted_rows"] == 12
    account = account_of(simulator)
    assert sorted(batch["requests"] for batch in account["batches"]) == [1, 17]
    assert {batch["id"] for batch in account["batches"]} == {
        batch.batch_id for batch in made.ledger.batches(made.context.record())
    }


def test_runs_of_two_loads_and_of_two_workloads_do_not_disturb_each_other(
    simulate: Callable[..., Simulator], made: Night, night: Callable[..., Night]
) -> None:
    simulator = simulate()
    # As many rows, so that nothing but the token tells the batches apart.
    night(name="answers")
    cards = run_at_once(("questions", DAY), ("questions", OTHER_DAY), ("answers", DAY))

    assert [card["promoted_rows"] for card in cards] == [12, 12, 12]
    assert [batch["requests"] for batch in account_of(simulator)["batches"]] == [17, 17, 17]
