"""The golden rows and a few others go first; the rest is sent, and paid for, only when they have passed."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from batch_pipeline.ledger.records import Phase
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.findings import findings
from batch_pipeline.stages.next_step import Action
from batch_pipeline.stages.pilot import judge_pilot, pilot_rows
from batch_pipeline.stages.plan import kept_plan
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline.workload.workload import Workload
from batch_pipeline_tests.night import HAIKU, SONNET, Night, account_of, declaration
from batch_pipeline_tests.stages.watching import finals, posts

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

PILOT = {"pilot": {"rows": 6}}


def requests_of(night: Night) -> list[int]:
    """Requests of each chunk, in order of sending."""
    return [chunk.requests for chunk in night.ledger.chunks(night.context.record())]


def declared(night: Night, **changes: object) -> Night:
    """The same load under a declaration that was edited since."""
    spec = WorkloadSpec.model_validate(declaration(**changes))
    return Night(replace(night.context, workload=Workload.build(spec, night.folder)))


def test_it_carries_the_golden_rows_and_as_many_others_as_declared(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(turnaround_seconds=3600)
    n = night(count=30, golden=5, **PILOT)
    n.submit()
    assert requests_of(n) == [11]
    [pilot] = n.ledger.chunks(n.context.record())
    assert pilot.pilot
    assert n.context.record().phase is Phase.WAITING
    assert n.next() is Action.WAIT


def test_the_rest_follows_once_it_has_passed_and_no_row_is_paid_twice(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate()
    n = night(count=30, golden=5, **PILOT)
    card = n.settle()
    assert requests_of(n) == [11, 24]
    assert [chunk.pilot for chunk in n.ledger.chunks(n.context.record())] == [True, False]
    assert card.dispositions == {"validated": 30, "quarantined": 0, "human_review": 0}
    assert account_of(simulator)["requests"]["accepted"] == 35
    n.publish()
    assert n.next() is Action.PROMOTED


def test_its_rows_climb_before_it_is_judged(simulate: Simulate, night: MakeNight) -> None:
    simulate(rows=[{"fault": "unknown_label", "model": HAIKU, "contains": "number 1"}])
    n = night(count=30, golden=5, gates={"min_validity": 0.2}, **PILOT)
    card = n.settle()
    chunks = n.ledger.chunks(n.context.record())
    tiers = [(chunk.tier, chunk.pilot) for chunk in chunks]
    assert tiers[0] == (0, True)
    assert (1, True) in tiers
    assert tiers.index((1, True)) < tiers.index((0, False))
    assert card.dispositions["validated"] == 30


def test_a_contract_that_the_api_refuses_costs_a_pilot(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(rows=[{"fault": "invalid_request"}])
    n = night(count=30, golden=5, **PILOT)
    card = n.settle()
    assert account_of(simulator)["requests"]["accepted"] == 11
    assert n.next() is Action.STOPPED
    assert card.gate is not None and not card.gate.promote
    [reason] = card.gate.reasons
    assert "0 of 6 answers are valid" in reason
    assert "the API refused 6 as invalid requests (" in reason
    assert "--resend" in reason and "`pilot: false`" in reason
    [page] = [f for f in findings(n.ledger, n.context.record(), n.context.settings) if f.page]
    assert "the pilot of 6 rows did not pass" in page.sentence


def test_a_golden_score_that_fell_stops_the_night(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate(rows=[{"fault": "wrong", "contains": "number 1000"}])
    n = night(count=30, golden=20, **PILOT)
    card = n.settle()
    assert account_of(simulator)["requests"]["accepted"] == 26
    assert card.golden is not None and card.golden.correct < card.golden.n
    assert card.gate is not None and "golden score" in card.gate.reasons[0]


def test_launching_it_again_changes_nothing_until_the_pilot_is_turned_off(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(rows=[{"fault": "invalid_request", "times": 11}])
    n = night(count=30, golden=5, **PILOT)
    n.settle()
    n.submit()
    assert n.next() is Action.STOPPED
    assert posts(simulator) == 1
    without = declared(n, pilot=False)
    without.submit()
    card = without.settle()
    assert account_of(simulator)["requests"]["accepted"] == 35
    assert card.dispositions == {"validated": 24, "quarantined": 6, "human_review": 0}


def test_one_that_expires_is_sent_again(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate(rows=[{"fault": "expired", "times": 11}])
    n = night(count=30, golden=5, **PILOT)
    card = n.settle()
    assert requests_of(n) == [11, 11, 24]
    assert posts(simulator) == 3
    assert card.dispositions["validated"] == 30


def test_one_that_expires_each_time_stops_the_night(simulate: Simulate, night: MakeNight) -> None:
    simulate(rows=[{"fault": "expired"}])
    n = night(count=30, golden=5, limits={"attempts": 2}, **PILOT)
    card = n.settle()
    assert requests_of(n) == [11, 11]
    assert (
        card.gate is not None
        and "not one of its rows was answered (expired)" in card.gate.reasons[0]
    )
    assert "when the API answers" in card.gate.reasons[0]


def test_a_cancelled_load_closes_the_rows_that_waited_for_it(
    simulate: Simulate, night: MakeNight
) -> None:
    from batch_pipeline.claude.client import BatchesApi
    from batch_pipeline.stages.cancel import cancel_load

    simulate(turnaround_seconds=3600)
    n = night(count=30, golden=5, **PILOT)
    n.submit()
    cancel_load(n.context, BatchesApi(), reason="enough", by="kim")
    card = n.settle()
    assert card.dispositions["quarantined"] == 30
    assert requests_of(n) == [11]


def test_a_validity_just_below_the_line_is_left_to_the_gate(
    simulate: Simulate, night: MakeNight
) -> None:
    """One bad answer of six is 83%, which may well be chance where 95% are asked for."""
    simulate(rows=[{"fault": "unknown_label", "times": 1, "model": HAIKU}])
    n = night(count=30, golden=0, gates={"min_validity": 0.95}, **PILOT)
    n.settle()
    assert judge_pilot(n.context, n.context.record()).problems == ()
    assert finals(n)
    assert sum(requests_of(n)) == 31


@pytest.mark.parametrize(
    ("changes", "source_rows", "expected"),
    [
        ({}, 10_000, 0),
        ({}, 10_001, 200),
        ({"pilot": False}, 1_000_000, 0),
        ({"pilot": {"rows": 50}}, 51, 50),
        ({"pilot": {"rows": 50}}, 50, 0),
    ],
)
def test_large_loads_have_one_by_default(
    night: MakeNight,
    simulate: Simulate,
    changes: dict[str, object],
    source_rows: int,
    expected: int,
) -> None:
    simulate()
    n = night(count=2, **changes)
    n.submit()
    assert pilot_rows(n.context, replace(n.context.record(), source_rows=source_rows)) == expected


def test_what_it_measured_is_planned_with(simulate: Simulate, night: MakeNight) -> None:
    simulate(rows=[{"fault": "unknown_label", "model": HAIKU, "every": 4}])
    n = night(count=60, golden=0, gates={"min_validity": 0.5}, pilot={"rows": 20})
    n.settle()
    plan = kept_plan(n.context.folder(n.context.record()))
    assert plan is not None
    assert plan.output_from == "pilot"
    assert plan.escalation.mean == pytest.approx(0.25, abs=0.11)
    assert plan.tiers[0].output_tokens.high < 64
    assert measure_load(n.context).cost_usd <= plan.bound_usd
    assert plan.tiers[1].model == SONNET


def test_what_was_foreseen_before_it_stays_known(simulate: Simulate, night: MakeNight) -> None:
    simulate()
    n = night(count=30, golden=5, **PILOT)
    n.submit()
    plan = kept_plan(n.context.folder(n.context.record()))
    card = n.settle()
    assert plan is not None
    assert card.foreseen_usd == (plan.typical_usd, plan.bound_usd)
    assert card.cost_usd <= card.foreseen_usd[1]
    assert card.to_json()["estimate"] == {"usd": plan.typical_usd, "bound_usd": plan.bound_usd}
