"""A tier's caching is decided when most is known of it: how many rows climb, and how often the prefix was found."""

from collections.abc import Callable
from dataclasses import replace

from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.plan import LoadPlan, kept_plan
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline.workload.workload import Workload
from batch_pipeline_tests.night import HAIKU, SONNET, Night, declaration

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

# Some 5,000 tokens: more than either model caches at least.
LONG = {"system": "Say what the question is about. " * 650, "user": "{{ text }}"}


def plan_of(night: Night) -> LoadPlan:
    plan = kept_plan(night.context.folder(night.context.record()))
    assert plan is not None
    return plan


def written(night: Night, tier: int) -> int:
    """Tokens that a tier's requests wrote into the cache."""
    card = night.settle()
    assert card.savings is not None
    return sum(line.tokens["cache_write_1h"] for line in card.savings.lines if line.tier == tier)


def test_a_pilot_that_seldom_found_the_prefix_ends_its_caching(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(cache_hit_rate=0.1)
    n = night(count=40, golden=0, prompt=LONG, pilot={"rows": 10})
    n.submit()
    assert plan_of(n).tiers[0].cache == "1h"
    n.settle()
    after = plan_of(n).tiers[0]
    assert after.cache == "none"
    assert "so it is off" in after.cache_why
    assert written(n, 0) < 11 * after.prefix_tokens * 1.1


def test_one_that_found_it_goes_on(simulate: Simulate, night: MakeNight) -> None:
    simulate(cache_hit_rate=1.0)
    n = night(count=40, golden=0, prompt=LONG, pilot={"rows": 10})
    n.settle()
    assert plan_of(n).tiers[0].cache == "1h"


def test_a_tier_to_which_many_rows_climb_is_cached_though_nobody_expected_them(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(cache_hit_rate=1.0, rows=[{"fault": "unknown_label", "model": HAIKU}])
    n = night(count=12, golden=0, prompt=LONG)
    n.submit()
    assert plan_of(n).tiers[1].model == SONNET
    assert plan_of(n).tiers[1].cache == "none"
    assert written(n, 1) > 0
    assert plan_of(n).tiers[1].cache == "1h"


def test_what_is_declared_while_the_load_is_under_way_counts_from_then_on(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(cache_hit_rate=1.0)
    n = night(count=40, golden=0, prompt=LONG, pilot={"rows": 10})
    n.submit()
    spec = WorkloadSpec.model_validate(
        declaration(golden=None, prompt={**LONG, "cache": "none"}, pilot={"rows": 10})
    )
    later = Night(replace(n.context, workload=Workload.build(spec, n.folder)))
    later.settle()
    assert plan_of(later).tiers[0].cache == "none"
    assert later.settle().spend is not None
