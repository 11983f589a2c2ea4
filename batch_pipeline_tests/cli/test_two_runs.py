"""Several `run`s at once on one state, and one beside Dagster's daemon: nothing is sent twice."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from batch_pipeline.dag.instance import dagster_home, open_instance
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.cli.commands import finish, start
from batch_pipeline_tests.dag.dagster_processes import DagsterProcesses
from batch_pipeline_tests.night import DAY, Night, account_of

OTHER_DAY = "2026-11-19"


@pytest.fixture
def made(night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch) -> Night:
    night_made = night()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night_made.folder.parent))
    return night_made


def run_at_once(*loads: tuple[str, str]) -> list[dict[str, object]]:
    """The scorecards of one `run` per (workload, day), all started together; each must be promoted."""
    processes = [start("run", name, "--date", day, "--json") for name, day in loads]
    done = [finish(process) for process in processes]
    for code, _, errors in done:
        assert code == 0, errors
        assert "Traceback" not in errors
    return [json.loads(output) for _, output, _ in done]


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


@pytest.mark.timeout(480)
def test_a_run_beside_the_daemon_on_the_same_load_sends_it_once(
    simulate: Callable[..., Simulator],
    made: Night,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    simulator = simulate(turnaround_seconds=2)
    monkeypatch.setenv("BATCH_PIPELINE_POLL_SECONDS", "1")
    settings = Settings.from_environment()
    open_instance(settings).dispose()
    with DagsterProcesses(dagster_home(settings)) as dagster:
        dagster.launch("questions__submit", DAY)
        (card,) = run_at_once(("questions", DAY))
        assert card["promoted_rows"] == 12
        dagster.launch("questions__submit", OTHER_DAY)
        dagster.wait_for(
            lambda: made.ledger.load("questions", OTHER_DAY) is not None, "the load to begin", 120
        )
        (card,) = run_at_once(("questions", OTHER_DAY))
        assert card["promoted_rows"] == 12
    assert [batch["requests"] for batch in account_of(simulator)["batches"]] == [17, 17]
