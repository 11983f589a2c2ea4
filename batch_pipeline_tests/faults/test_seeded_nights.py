"""Whole nights drawn from seeds: loads, faults and deaths that nobody chose, and the same invariants for all."""

from pathlib import Path

import pytest

from batch_pipeline_tests.faults.night_run import run_night
from batch_pipeline_tests.faults.nights import GRACE_SECONDS, draw
from batch_pipeline_tests.postgres import PostgresServer

SEEDS = range(1, 51)
POSTGRES_SEEDS = range(51, 61)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_night_keeps_every_promise(seed: int, tmp_path: Path) -> None:
    end = run_night(draw(seed), tmp_path / "night")
    assert not end.violations, str(end)


@pytest.mark.parametrize("seed", POSTGRES_SEEDS)
def test_a_night_whose_ledger_is_in_postgres_keeps_every_promise(
    seed: int, tmp_path: Path, postgres: PostgresServer
) -> None:
    end = run_night(draw(seed), tmp_path / "night", ledger=postgres.url())
    assert not end.violations, str(end)


def test_a_seed_always_draws_the_same_night() -> None:
    assert [draw(seed) for seed in SEEDS] == [draw(seed) for seed in SEEDS]
    assert len({repr(draw(seed)) for seed in SEEDS}) == len(SEEDS)


def test_the_seeds_of_the_suite_draw_every_kind_of_night() -> None:
    plans = [draw(seed) for seed in SEEDS]
    faults = {(rule["fault"]) for plan in plans for rule in plan.scenario["calls"]}
    assert faults == {
        "status", "hang", "drop_before_accepting", "drop_after_accepting",
        "error_after_accepting", "cut_short", "not_found", "lag",
    }  # fmt: skip
    assert any(
        len(plan.loads) == 2 and plan.loads[0].workload == plan.loads[1].workload for plan in plans
    )
    assert any(len({load.workload for load in plan.loads}) == 2 for plan in plans)
    for happens in (
        lambda plan: plan.rounds,
        lambda plan: plan.twins,
        lambda plan: plan.cancelled is not None,
        lambda plan: plan.closed,
        lambda plan: plan.pilot,
        lambda plan: plan.strangers,
        lambda plan: plan.through_run,
        lambda plan: plan.scenario.get("queue_limit"),
        lambda plan: plan.environment.get("BATCH_PIPELINE_MAX_IN_FLIGHT"),
        lambda plan: plan.golden,
    ):
        assert 0 < sum(bool(happens(plan)) for plan in plans) < len(plans)


def test_no_list_lags_longer_than_the_grace_period() -> None:
    for plan in map(draw, range(500)):
        for rule in plan.scenario["calls"]:
            if rule["fault"] in ("lag", "not_found"):
                assert rule["seconds"] < GRACE_SECONDS
