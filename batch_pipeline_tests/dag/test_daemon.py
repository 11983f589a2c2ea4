"""The whole thing as a team runs it: webserver, daemon, sensor, runs in processes of their own."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from batch_pipeline.dag.instance import dagster_home, open_instance
from batch_pipeline.ledger import Ledger, Load
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline.state_folder import private
from batch_pipeline_tests.cli.commands import run_at_once
from batch_pipeline_tests.dag.dagster_processes import DagsterProcesses
from batch_pipeline_tests.night import DAY, Night, account_of
from batch_pipeline_tests.security.left_behind import open_to_others

BACKFILL = ["2026-11-17", "2026-11-18"]


@pytest.mark.timeout(480)
def test_the_sensor_brings_loads_launched_in_the_ui_to_promotion_beside_a_run(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
) -> None:
    simulator = simulate(
        turnaround_seconds=1, rows=[{"contains": "number 3 ", "fault": "not_json", "times": 1}]
    )
    with ExitStack() as stack:
        # As `ui` starts them; the code server and the runs keep what they write private by themselves.
        stack.enter_context(private())
        made = night(count=12)
        monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
        monkeypatch.setenv("BATCH_PIPELINE_POLL_SECONDS", "2")
        settings = Settings.from_environment()
        # Both processes would create the instance's tables at once, which SQLite does not take kindly.
        open_instance(settings).dispose()
        dagster = stack.enter_context(DagsterProcesses(dagster_home(settings)))
        dagster.launch("questions__submit", DAY)
        dagster.wait_for(lambda: _promoted(made.ledger, DAY), "the load to be promoted", 180)

        dagster.backfill("questions__submit", BACKFILL)
        # Beside the daemon, on a load that it is about to send or has sent.
        (card,) = run_at_once(("questions", BACKFILL[0]))
        assert card["promoted_rows"] == 12
        dagster.wait_for(
            lambda: all(_promoted(made.ledger, day) for day in BACKFILL),
            "the backfilled days to be promoted",
            240,
        )
    account = account_of(simulator)
    batches = [
        b for day in (DAY, *BACKFILL) for b in made.ledger.batches(_record(made.ledger, day))
    ]
    assert {b["id"] for b in account["batches"]} == {b.batch_id for b in batches}
    assert [_record(made.ledger, day).promoted_rows for day in (DAY, *BACKFILL)] == [12, 12, 12]
    assert open_to_others(settings.state) == []


def _record(ledger: Ledger, day: str) -> Load:
    record = ledger.load("questions", day)
    assert record is not None
    return record


def _promoted(ledger: Ledger, day: str) -> bool:
    record = ledger.load("questions", day)
    return record is not None and record.promoted_at is not None
