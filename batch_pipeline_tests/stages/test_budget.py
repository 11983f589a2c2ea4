"""What a load and a month may cost: held against the estimate before anything is sent, then against what was spent."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger.transactions import now
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.budget import price_collected
from batch_pipeline.stages.collect import collect_results
from batch_pipeline.stages.escalate import escalate
from batch_pipeline.stages.findings import findings
from batch_pipeline.stages.next_step import Action
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.stages.validate import validate_results
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline.workload.workload import Workload
from batch_pipeline_tests.night import HAIKU, Night, account_of, declaration
from batch_pipeline_tests.stages.watching import posts

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

PER_LOAD = {"gates": {"max_cost_usd": 0.001}}


def declared(night: Night, **changes: object) -> Night:
    """The same load under a declaration that was edited since."""
    spec = WorkloadSpec.model_validate(declaration(**changes))
    return Night(replace(night.context, workload=Workload.build(spec, night.folder)))


def test_a_load_that_could_cost_more_is_not_sent(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate()
    n = night(count=100, **PER_LOAD)
    n.submit()
    assert posts(simulator) == 0
    assert n.next() is Action.STOPPED
    gate = measure_load(n.context).gate
    assert gate is not None and not gate.promote
    assert "more than gates.max_cost_usd allows the load, $0.0010" in gate.reasons[0]
    assert "Raise it" in gate.reasons[0]


def test_it_pages(simulate: Simulate, night: MakeNight) -> None:
    simulate()
    n = night(count=100, **PER_LOAD)
    n.submit()
    [page] = [f for f in findings(n.ledger, n.context.record(), n.context.settings) if f.page]
    assert "what remains to be sent could cost up to $" in page.sentence


def test_it_goes_on_when_the_budget_was_raised(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate()
    n = night(count=100, **PER_LOAD)
    n.submit()
    raised = declared(n, gates={"max_cost_usd": 5})
    raised.submit()
    card = raised.settle()
    assert card.dispositions["validated"] == 100
    assert posts(simulator) == 1
    raised.publish()
    assert raised.next() is Action.PROMOTED


def test_what_was_spent_stops_the_next_wave(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate(rows=[{"fault": "unknown_label", "model": HAIKU}])
    n = night(count=30, golden=0, gates={"max_cost_usd": 5})
    n.submit()
    n.wait()
    cut = declared(n, golden=None, gates={"max_cost_usd": 0.002})
    cut.collect()
    assert posts(simulator) == 1
    assert cut.next() is Action.STOPPED
    card = measure_load(cut.context)
    assert card.gate is not None and "are spent or under way" in card.gate.reasons[0]
    assert card.unaccounted == 30
    # What came is kept: raised, the load goes on where it was.
    n.submit()
    assert n.settle().dispositions["validated"] == 30
    assert posts(simulator) == 2


def test_a_month_is_shared_by_its_loads(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate()
    month = {"gates": {"max_cost_usd_per_month": 0.05}}
    first = night(count=60, day="2026-10-01", **month)
    first.settle()
    assert posts(simulator) == 1
    second = night(count=60, day="2026-10-02", **month)
    second.submit()
    spent = second.ledger.committed_usd("questions")
    assert 0 < spent < 0.05
    last = night(count=900, day="2026-10-03", **month)
    last.submit()
    assert posts(simulator) == 2
    gate = measure_load(last.context).gate
    assert gate is not None
    assert f"gates.max_cost_usd_per_month allows questions in {now():%B}" in gate.reasons[0]


def test_a_batch_under_way_counts_with_the_most_that_it_should_cost(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(turnaround_seconds=3600)
    n = night(count=30)
    n.submit()
    [chunk] = n.ledger.chunks(n.context.record())
    assert chunk.bound_usd is not None
    assert n.ledger.committed_usd("questions") == pytest.approx(chunk.bound_usd)


def test_one_that_was_read_back_counts_with_what_it_cost(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    n = night(count=30)
    n.submit()
    n.wait()
    collect_results(n.context, BatchesApi)
    validate_results(n.context)
    price_collected(n.context)
    escalate(n.context, BatchesApi)
    [chunk] = n.ledger.chunks(n.context.record())
    [batch] = n.ledger.batches(n.context.record())
    assert batch.cost_usd == pytest.approx(measure_load(n.context).cost_usd)
    assert n.ledger.committed_usd("questions") == pytest.approx(batch.cost_usd)
    assert (batch.cost_usd or 1) <= (chunk.bound_usd or 0)


def test_what_a_load_cost_before_it_was_sent_again_counts(
    simulate: Simulate, night: MakeNight
) -> None:
    from batch_pipeline.stages.source import read_source

    simulator = simulate()
    n = night(count=30, gates={"max_cost_usd": 5})
    n.settle()
    spent = measure_load(n.context).cost_usd
    cut = declared(n, gates={"max_cost_usd": spent * 1.5})
    read_source(cut.context, resend=True, requested_by="kim")
    from batch_pipeline.stages.submit import send_pending

    assert "more than gates.max_cost_usd" in (send_pending(cut.context, BatchesApi).waits_for or "")
    assert posts(simulator) == 1


@pytest.mark.parametrize("option", ["max_cost_usd", "max_cost_usd_per_month"])
def test_a_budget_of_nothing_is_refused(option: str) -> None:
    with pytest.raises(ValueError, match="a budget of nothing lets nothing be sent"):
        WorkloadSpec.model_validate(declaration(gates={option: 0}))


def test_without_one_nothing_is_priced_on_the_way(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate()
    n = night(count=5)
    n.settle()
    assert [batch.cost_usd for batch in n.ledger.batches(n.context.record())] == [None]
    assert account_of(simulator)["batches"]


def test_a_load_of_a_retired_model_is_not_begun(
    simulate: Simulate, night: MakeNight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(f"models: {{{HAIKU}: {{retires: 2026-01-31}}}}", encoding="utf-8")
    monkeypatch.setenv("BATCH_PIPELINE_PRICES", str(prices))
    simulator = simulate()
    n = night(count=5)
    with pytest.raises(ConfigurationError, match="was retired on 2026-01-31"):
        n.submit()
    assert posts(simulator) == 0
