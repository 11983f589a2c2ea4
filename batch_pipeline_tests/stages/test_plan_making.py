from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.ledger.records import Lane
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.make_plan import plan_after_pilot, plan_load
from batch_pipeline.stages.plan import LoadPlan, kept_plan
from batch_pipeline.stages.source import read_source
from batch_pipeline_tests.night import HAIKU, SONNET, Night, account_of, rows

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]
BUDGET = {"max_cost_usd": 50}
SMALL = "claude-haiku-5-5"
LONG = "Rules that hold for every question of the night, and that nobody reads twice. " * 300


def _plan(made: Night, api: Callable[[], BatchesApi] | None = BatchesApi) -> LoadPlan:
    read_source(made.context)
    return plan_load(made.context, made.context.record(), api)


def test_all_rows_of_a_small_load_are_counted_to_a_point(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    made = night(gates=BUDGET)
    plan = _plan(made)
    assert (plan.counted_by, plan.sampled_rows, plan.requests) == ("count_tokens", 17, 17)
    tier = plan.tiers[0]
    assert tier.input_tokens.low == tier.input_tokens.high
    assert plan.lane is Lane.BATCH
    assert plan_load(made.context, made.context.record(), None) == plan


def test_nothing_is_counted_where_nothing_depends_on_it(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate()
    plan = _plan(night())
    assert plan.counted_by == "guess"
    assert "count_tokens" not in account_of(simulator)["calls"]
    assert any("guess" in note for note in plan.notes)


@pytest.mark.parametrize(
    ("rule", "counted_by"),
    [
        ({"status": 429}, "guess"),
        ({"status": 500, "after": 12}, "count_tokens"),
    ],
)
def test_a_count_that_fails_becomes_a_guess_or_a_smaller_sample(
    simulate: Simulate, night: MakeNight, rule: Mapping[str, int], counted_by: str
) -> None:
    simulate(calls=[{"on": "count_tokens", "fault": "status", **rule}])
    plan = _plan(night(count=60, gates=BUDGET))
    assert plan.counted_by == counted_by
    assert any(f"answered {rule['status']}" in note for note in plan.notes)
    if counted_by == "count_tokens":
        assert 10 <= plan.sampled_rows < 65
        assert any(f"{plan.sampled_rows} rows were counted instead of 65" in n for n in plan.notes)


def test_without_a_key_tokens_are_guessed_and_the_note_says_why(
    night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    plan = _plan(night(gates=BUDGET))
    assert plan.counted_by == "guess"
    assert any("No API key" in note for note in plan.notes)


def test_a_long_shared_prefix_is_counted_and_cached_for_an_hour(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    plan = _plan(night(prompt={"system": LONG, "user": "About: {{ text }}"}))
    tier = plan.tiers[0]
    # The simulator counts four characters as a token.
    assert abs(tier.prefix_tokens - (len(LONG) + 7) // 4) <= 2
    assert (tier.cache, plan.head_parts) == ("1h", 1)
    assert "52.6%" in tier.cache_why


def test_duplicates_are_no_requests(night: MakeNight) -> None:
    source = [{**row, "text": row["text"] if n < 4 else "again"} for n, row in enumerate(rows(10))]
    made = night(source=source, golden=0)
    plan = _plan(made, None)
    assert (plan.requests, plan.duplicates) == (5, 5)
    every = _plan(night(source=source, golden=0, dedupe=False), None)
    assert (every.requests, every.duplicates) == (10, 0)


def test_a_plan_is_made_anew_until_something_was_sent(simulate: Simulate, night: MakeNight) -> None:
    simulate()
    made = night(count=8)
    first = _plan(made, None)
    changed = night(count=8, lane="sync")
    assert plan_load(changed.context, changed.context.record(), None).lane is Lane.SYNC
    back = night(count=8)
    assert plan_load(back.context, back.context.record(), None).lane is first.lane
    back.submit()
    late = night(count=8, lane="sync")
    assert plan_load(late.context, late.context.record(), None).lane is Lane.BATCH


def test_a_small_load_takes_the_synchronous_lane_at_full_price(night: MakeNight) -> None:
    batch, sync = _plan(night(), None), _plan(night(lane="auto"), None)
    assert (batch.lane, sync.lane) == (Lane.BATCH, Lane.SYNC)
    assert sync.tiers[0].row_usd == pytest.approx(2 * batch.tiers[0].row_usd)
    assert "sync.below_rows" in sync.lane_why


def test_rare_long_rows_are_priced_above_the_threshold(night: MakeNight, tmp_path: Path) -> None:
    """Haiku 5.5 costs five times as much per token for prompts above 100,000 tokens."""
    source = rows(300)
    source[7]["text"] = "x" * 1_000_000
    tiers = [{"model": SMALL, "max_tokens": 64}]
    made = night(source=source, golden=0, tiers=tiers)
    long = _plan(made, None)
    source[7]["text"] = "x" * 200
    short = _plan(night(source=source, golden=0, tiers=tiers), None)
    # The one row alone: some 370,000 tokens at $0.25 per million, batched.
    assert long.bound_usd - short.bound_usd > 0.05


@pytest.mark.parametrize(
    ("scenario", "cached"),
    [
        ({}, True),
        ({"models": {HAIKU: {"unknown_label": 0.2}}}, False),
        ({"models": {HAIKU: {"truncated": 0.2}, SONNET: {"truncated": 0.2}}}, True),
        ({"models": {HAIKU: {"refusal": 0.1, "overloaded": 0.2}}}, False),
    ],
    ids=["clean", "labels", "truncated", "again"],
)
def test_the_bound_holds_and_the_plan_after_the_pilot_keeps_lane_and_cache(
    simulate: Simulate, night: MakeNight, scenario: Mapping[str, Any], cached: bool
) -> None:
    """Nothing is ever found in this cache: the dearest that caching can be."""
    simulate(cache_hit_rate=0.0, **scenario)
    prompt = {"system": LONG if cached else "Say what it is about.", "user": "{{ text }}"}
    made = night(count=30, gates=BUDGET, prompt=prompt)
    plan = _plan(made)
    card = made.settle()
    assert 0 < card.cost_usd <= plan.bound_usd
    after = plan_after_pilot(made.context, made.context.record())
    assert after.output_from == "pilot"
    assert card.cost_usd <= after.bound_usd * 1.0001
    assert (after.lane, after.head_parts) == (plan.lane, plan.head_parts)
    assert [tier.cache for tier in after.tiers] == [tier.cache for tier in plan.tiers]
    assert kept_plan(made.context.folder(made.context.record())) == after


def test_the_next_load_learns_from_the_ones_before(simulate: Simulate, night: MakeNight) -> None:
    simulate(cache_hit_rate=0.9, models={HAIKU: {"unknown_label": 0.2}})
    options = {"count": 60, "prompt": {"system": LONG, "user": "{{ text }}"}}
    first = night(day="2026-11-19", **options)
    card = first.settle()
    plan = _plan(night(day="2026-11-20", **options))
    assert plan.output_from == "history"
    spend = card.spend
    assert spend is not None
    reads, writes = spend.tokens["cache_read"], spend.tokens["cache_write_1h"]
    assert plan.tiers[0].hit_share == pytest.approx(reads / (reads + writes), abs=1e-6)
    assert "measured" in plan.tiers[0].cache_why
    assert 0.05 < plan.escalation.mean < 0.4
    assert plan.tiers[0].output_tokens.mean < 10
    # The same load again: what it should cost is what the first one did, nearly.
    assert plan.typical_usd == pytest.approx(card.cost_usd, rel=0.25)


def test_a_kept_plan_reads_back_as_it_was(night: MakeNight) -> None:
    made = night(lane="auto", sync={"deadline_hours": 2})
    plan = _plan(made, None)
    folder = made.context.folder(made.context.record())
    assert kept_plan(folder) == plan
    assert LoadPlan.from_json(plan.to_json()) == replace(plan)


@pytest.mark.parametrize("model", [SMALL, HAIKU])
def test_rare_long_rows_that_no_sample_holds_are_within_the_bound(
    simulate: Simulate, night: MakeNight, model: str
) -> None:
    """Two of 600 rows hold nearly all the tokens of the load."""
    simulate()
    source = rows(600)
    for n in (77, 401):
        source[n]["text"] += " " + "words " * 80_000
    made = night(source=source, golden=0, gates=BUDGET, tiers=[{"model": model, "max_tokens": 64}])
    plan = _plan(made)
    assert plan.counted_by == "count_tokens"
    card = made.settle()
    assert card.cost_usd > 0.05 / 2
    assert card.cost_usd <= plan.bound_usd
    assert card.cost_usd / 2 < plan.typical_usd < card.cost_usd * 2
