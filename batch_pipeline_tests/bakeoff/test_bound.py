"""What a bake-off may cost: held against its own limit and against what is left of the workload's month."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest

from batch_pipeline.bakeoff.bound import bound, checked_bound
from batch_pipeline.bakeoff.candidates import Bakeoff, open_bakeoff
from batch_pipeline.bakeoff.drive import run_bakeoff
from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Ledger
from batch_pipeline.ledger.transactions import now
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.bakeoff_name import bakeoff_name
from batch_pipeline.stages.source import read_source
from batch_pipeline.workload.workload import Workload
from batch_pipeline_tests.night import HAIKU, OPUS, SONNET, Night

MakeNight = Callable[..., Night]
BOTH = [HAIKU, SONNET]


def opened(workload: Workload, models: list[str] = BOTH) -> Bakeoff:
    return open_bakeoff(workload, models, Settings.from_environment())


def with_month(workload: Workload, usd: Decimal) -> Workload:
    gates = workload.spec.gates.model_copy(update={"max_cost_usd_per_month": usd})
    return replace(workload, spec=workload.spec.model_copy(update={"gates": gates}))


def total(bakeoff: Bakeoff) -> Decimal:
    return sum((each.usd for each in bound(bakeoff).values()), Decimal(0))


def check(bakeoff: Bakeoff, max_usd: float | None = None) -> str | None:
    return checked_bound(bakeoff, max_usd, option="--max-usd")


def test_what_is_to_be_sent_is_said_where_nothing_limits_it(night: MakeNight) -> None:
    said = check(opened(night().context.workload))
    assert said is not None
    assert said.startswith("10 requests to 2 models cost at most about $0.00")


def test_its_own_limit_holds_to_the_last_cent(night: MakeNight) -> None:
    made = opened(night().context.workload)
    most = float(total(made))
    assert check(made, most)
    with pytest.raises(ConfigurationError, match=r"more than --max-usd .* Nothing was sent"):
        check(made, most - 1e-9)


def test_a_month_that_has_too_little_left_refuses_in_a_sentence(night: MakeNight) -> None:
    workload = night().context.workload
    most = total(opened(workload))
    assert check(opened(with_month(workload, most)))
    less = with_month(workload, most - Decimal("1e-9"))
    with pytest.raises(ConfigurationError) as refused:
        check(opened(less))
    assert str(refused.value).endswith(
        f": more than the ${most:.4f} that gates.max_cost_usd_per_month allows questions in {now():%B}. "
        "Nothing was sent; name fewer models, raise it, or wait for the next month."
    )


def test_a_load_of_the_month_leaves_less_for_a_bake_off(
    simulate: Callable[..., Simulator], night: MakeNight
) -> None:
    """What was read back counts with what its own usage says, and no longer with its bound."""
    simulate()
    made = night()
    made.settle()
    most = total(opened(made.context.workload))
    enough = with_month(made.context.workload, most + Decimal("0.0001"))
    with pytest.raises(ConfigurationError, match=r"more than is left of .* are spent or under way"):
        check(opened(enough))
    spent = Decimal(str(made.ledger.committed_usd("questions")))
    assert spent > Decimal("0.0001")
    assert made.ledger.unpriced("questions") == []
    assert check(opened(with_month(made.context.workload, most + spent)))
    with pytest.raises(ConfigurationError, match="per_month"):
        check(opened(with_month(made.context.workload, most + spent - Decimal("1e-9"))))


@pytest.fixture
def under_way(simulate: Callable[..., Simulator], night: MakeNight) -> Bakeoff:
    """A bake-off of two models whose batches take an hour."""
    simulate(turnaround_seconds=3600)
    made = opened(night().context.workload)
    assert len(run_bakeoff(made, BatchesApi, max_wait=0)) == 2
    return made


def test_one_that_is_under_way_is_counted_and_goes_on_itself(under_way: Bakeoff) -> None:
    workload = under_way.workload
    committed = Decimal(
        str(Ledger(Settings.from_environment().state).committed_usd(bakeoff_name("questions")))
    )
    assert committed > 0
    most = total(opened(workload, [HAIKU, OPUS]))
    with pytest.raises(ConfigurationError, match="per_month"):
        check(opened(with_month(workload, most + committed / 2), [HAIKU, OPUS]))
    assert check(opened(with_month(workload, most + committed + Decimal("1e-9")), [HAIKU, OPUS]))
    # All of it is sent, and paid for: no limit keeps it from being read back.
    assert check(opened(with_month(workload, Decimal("1e-9"))), max_usd=0) is None


def test_what_was_spent_before_the_month_began_does_not_count(
    under_way: Bakeoff, monkeypatch: pytest.MonkeyPatch
) -> None:
    workload = under_way.workload
    most = total(opened(workload, [HAIKU, OPUS]))
    next_month = (now().replace(day=1) + timedelta(days=40)).replace(day=1)
    monkeypatch.setattr("batch_pipeline.stages.budget.now", lambda: next_month)
    assert check(opened(with_month(workload, most), [HAIKU, OPUS]))


def test_a_model_that_was_begun_but_never_sent_is_still_held(night: MakeNight) -> None:
    made = opened(night().context.workload)
    before = total(made)
    read_source(made.candidates[0])
    assert made.started
    assert total(made) == before


def test_a_finished_one_has_nothing_left_to_send(
    simulate: Callable[..., Simulator], night: MakeNight
) -> None:
    """Not even where none of its rows could be sent: each is larger than a batch may be."""
    simulate()
    long = {"system": "Say what the question is about. " * 50, "user": "{{ text }}"}
    made = opened(night(prompt=long, limits={"max_bytes": 1_000}).context.workload)
    assert run_bakeoff(made, BatchesApi) == []
    assert made.finished
    assert check(made, max_usd=0) is None
