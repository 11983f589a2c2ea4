"""The measures of a load, against a second computation that shares no code with the first.

That one is plain Python over the API's own results, as they lie on disk.
"""

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from batch_pipeline.ledger import Chunk, ChunkState, Load
from batch_pipeline.rows import LoadFolder
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.scorecard import Scorecard, measure_load
from batch_pipeline.stages.source import read_source
from batch_pipeline.warehouse import warehouse
from batch_pipeline_tests.night import HAIKU, LABELS, OPUS, SONNET, Night, account_of
from batch_pipeline_tests.stages.stormy import FAULTS, Published, stormy
from batch_pipeline_tests.stages.watching import finals, results, rows_of

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

# USD per million tokens at batch prices, from the API's price page of November 2026.
PRICES = {
    HAIKU: {"input": 0.5, "output": 2.5, "cache_write_5m": 0.625, "cache_write_1h": 1, "cache_read": 0.05},
    SONNET: {"input": 1.5, "output": 7.5, "cache_write_5m": 1.875, "cache_write_1h": 3, "cache_read": 0.15},
    OPUS: {"input": 2.5, "output": 12.5, "cache_write_5m": 3.125, "cache_write_1h": 5, "cache_read": 0.25},
}  # fmt: skip


@dataclass
class Recount:
    """What the raw results say."""

    tokens: Counter[str] = field(default_factory=Counter)
    usd: float = 0.0
    valid: Counter[str] = field(default_factory=Counter)
    succeeded: Counter[str] = field(default_factory=Counter)
    climbed: set[int] = field(default_factory=set)
    correct: dict[int, bool] = field(default_factory=dict)
    promoted: dict[str, str] = field(default_factory=dict)


def generations(night: Night) -> list[tuple[Load, LoadFolder]]:
    newest = night.context.record()
    state = night.context.settings.state
    return [
        (
            Load(**{**vars(newest), "generation": generation}),
            LoadFolder.of(state, newest.workload, newest.load, generation),
        )
        for generation in range(1, newest.generation + 1)
    ]


def label_of(result: dict[str, Any]) -> str | None:
    """The label of a valid answer."""
    if result["type"] != "succeeded" or result["message"]["stop_reason"] != "end_turn":
        return None
    try:
        answer = json.loads("".join(block["text"] for block in result["message"]["content"]))
    except ValueError:
        return None
    if not isinstance(answer, dict) or set(answer) != {"label"} or answer["label"] not in LABELS:
        return None
    return str(answer["label"])


def spend(recount: Recount, chunk: Chunk, result: dict[str, Any]) -> None:
    """Adds one result's usage. A refusal before any output is not charged, an error neither."""
    if result["type"] != "succeeded":
        return
    message = result["message"]
    if message["stop_reason"] == "refusal" and not message["content"]:
        return
    usage = message["usage"]
    spent = {
        "input": usage["input_tokens"],
        "output": usage["output_tokens"],
        "cache_read": usage["cache_read_input_tokens"],
        "cache_write_5m": usage["cache_creation"]["ephemeral_5m_input_tokens"],
        "cache_write_1h": usage["cache_creation"]["ephemeral_1h_input_tokens"],
    }
    recount.tokens.update(spent)
    recount.usd += sum(PRICES[chunk.model][kind] * n for kind, n in spent.items()) / 1e6


def recount_of(night: Night) -> Recount:
    recount = Recount()
    for record, folder in generations(night):
        newest = record.generation == night.context.record().generation
        golden = {row for (row,) in rows_of(folder.source, "_row", "_golden")}
        keys = dict(rows_of(folder.source, "_row, _key"))
        expected = dict(rows_of(folder.golden, "_row, expected_label"))
        for chunk in sorted(night.ledger.chunks(record), key=lambda each: each.wave):
            assert chunk.state is ChunkState.SUBMITTED
            sent = {row: (tier, attempt) for row, tier, attempt in
                    rows_of(folder.sent(chunk.chunk_id), "row, tier, attempt")}  # fmt: skip
            for row, result in results(folder, chunk).items():
                spend(recount, chunk, result)
                if not newest:
                    continue
                label = label_of(result)
                if row in golden:
                    recount.correct[row] = label == expected[row]
                    continue
                if label is not None:
                    recount.promoted[keys[row]] = label
                if result["type"] == "succeeded":
                    first = ["first"] if sent[row] == (0, 1) else []
                    for kind in ("all", *first):
                        recount.succeeded[kind] += 1
                        recount.valid[kind] += label is not None
            if newest:
                recount.climbed |= {row for row, (tier, _) in sent.items() if tier} - golden
        if newest:
            for row in golden:
                recount.correct.setdefault(row, False)
    return recount


def check(night: Night, card: Scorecard, simulator: Simulator) -> None:
    """Every measure of the card, against the recount and the simulator's own account."""
    recount, rates = recount_of(night), card.rates
    ends = finals(night)
    good = [key for key, final in ends.items() if final.disposition == "validated"]
    assert card.dispositions == {
        name: sum(final.disposition == name for final in ends.values())
        for name in ("validated", "quarantined", "human_review")
    }
    assert (rates["coverage"].numerator, rates["coverage"].denominator) == (90, 90)
    for name, kind in (("validity", "first"), ("validity_all_tiers", "all")):
        assert (rates[name].numerator, rates[name].denominator) == (
            recount.valid[kind],
            recount.succeeded[kind],
        )
    human = {key for key, final in ends.items() if final.disposition == "human_review"}
    folder = night.context.folder(night.context.record())
    keys = dict(rows_of(folder.source, "_row, _key"))
    assert rates["escalation_rate"].numerator == len({keys[row] for row in recount.climbed} | human)
    assert rates["escalation_rate"].denominator == 90
    assert card.golden is not None
    assert (card.golden.correct, card.golden.n) == (sum(recount.correct.values()), 12)
    assert card.spend is not None
    assert card.spend.tokens == {kind: recount.tokens[kind] for kind in card.spend.tokens}
    assert card.cost_usd == pytest.approx(recount.usd, abs=1e-12)
    assert card.cost_per_good_row_usd == pytest.approx(recount.usd / len(good), abs=1e-12)
    billed = account_of(simulator)["tokens"]
    theirs = sum(
        PRICES[model][kind] * n / 1e6
        for model, kinds in billed.items()
        for kind, n in kinds.items()
    )
    assert card.cost_usd == pytest.approx(theirs, abs=1e-12)
    inputs = sum(n for kind, n in recount.tokens.items() if kind != "output")
    assert card.spend.cache_hit_rate == pytest.approx(recount.tokens["cache_read"] / inputs)


def cache_kinds(card: Scorecard) -> set[str]:
    assert card.spend is not None
    return {kind for kind, n in card.spend.tokens.items() if n and kind.startswith("cache")}


def test_every_measure_agrees_with_a_recount_of_the_raw_results(published: Published) -> None:
    check(published.night, published.card, published.simulator)
    assert cache_kinds(published.card) == {"cache_write_1h", "cache_read"}
    assert min(published.card.dispositions.values()) > 0


def test_a_load_sent_again_still_answers_for_what_was_paid_before(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(seed=4, models={"*": FAULTS})
    n = stormy(night, "5m")
    before = n.settle().cost_usd
    read_source(n.context, resend=True, requested_by="run 2")
    card = n.settle()
    check(n, card, simulator)
    assert cache_kinds(card) == {"cache_write_5m", "cache_read"}
    assert card.cost_usd > 1.5 * before


def test_what_is_promoted_is_what_the_raw_results_say(published: Published) -> None:
    with warehouse(published.night.context.settings.state) as connection:
        table = dict(connection.execute("SELECT id, label FROM promoted.questions").fetchall())
    assert table == recount_of(published.night).promoted


def test_the_metrics_hold_the_cards_numbers(published: Published) -> None:
    card, state = published.card, published.night.context.settings.state
    with warehouse(state) as connection:
        long = {
            name: (numerator, denominator, value)
            for name, numerator, denominator, value in connection.execute(
                "SELECT measure, numerator, denominator, value FROM metrics.measures"
            ).fetchall()
        }
        wide = connection.execute(
            "SELECT source_rows, coverage, validity, validity_all_tiers, escalation_rate, golden_score,"
            " cost_usd, cost_per_good_row_usd, cache_hit_rate FROM metrics.scorecards"
        ).fetchall()
    shown = card.to_json()
    assert card.golden is not None
    assert card.spend is not None
    for name, rate in card.rates.items():
        assert long[name] == (rate.numerator, rate.denominator, rate.value)
    assert long["golden_score"] == (card.golden.correct, 12, card.golden.score)
    assert long["cost_per_good_row_usd"][1] == card.dispositions["validated"]
    assert {kind: long[f"tokens_{kind}"][0] for kind in card.spend.tokens} == card.spend.tokens
    assert sum(long[f"usd_{kind}"][0] for kind in card.spend.tokens) == pytest.approx(card.cost_usd)
    assert wide == [
        (
            90,
            1.0,
            shown["validity"],
            shown["validity_all_tiers"],
            shown["escalation_rate"],
            card.golden.score,
            card.cost_usd,
            card.cost_per_good_row_usd,
            card.spend.cache_hit_rate,
        )
    ]


def test_a_load_can_be_measured_at_any_moment(simulate: Simulate, night: MakeNight) -> None:
    simulate(rows=[{"contains": "number 1 of", "fault": "expired", "times": 1}])
    n = night(count=4, golden=2)
    assert measure_load(n.context).source_rows == 0
    read_source(n.context)
    card = measure_load(n.context)
    assert (card.source_rows, card.unaccounted, card.cost_usd, card.gate) == (4, 4, 0, None)
    n.submit()
    assert (measure_load(n.context).requests, measure_load(n.context).unaccounted) == (6, 4)
    n.wait()
    n.collect()
    card = measure_load(n.context)
    assert (card.dispositions["validated"], card.unaccounted, card.golden) == (3, 1, None)
    assert card.cost_usd > 0
    assert n.settle().unaccounted == 0


def test_a_load_without_a_good_row_has_no_cost_per_good_row(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(models={"*": {"not_json": 1}})
    card = night(count=3, golden=0).settle()
    assert card.cost_usd > 0
    assert card.cost_per_good_row_usd is None
    assert card.to_json()["validity"] == 0
