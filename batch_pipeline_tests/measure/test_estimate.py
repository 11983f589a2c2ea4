import random
from datetime import date
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_pipeline.claude.prices import load_prices
from batch_pipeline.measure.estimate import (
    LongRows,
    Parts,
    RequestSize,
    cost_of,
    long_prompts,
    mean_interval,
    most_of,
    rates_of,
)
from batch_pipeline.measure.load_estimate import PricedTier, Volume, scenarios, sum_up

DAY = date(2026, 11, 22)
HAIKU, SONNET, SMALL = "claude-haiku-4-5", "claude-sonnet-4-6", "claude-haiku-5-5"
TABLE = load_prices()


def _price(model: str, size: RequestSize, n: int, *, batch: bool, us: bool = False) -> Decimal:
    long = long_prompts(TABLE, model, DAY, size)
    return cost_of(rates_of(TABLE, model, DAY, batch=batch, us=us, long=long), size, n).total


def test_half_a_million_tickets_cost_250_dollars_and_125_batched() -> None:
    tickets = RequestSize.of(0, 400, 20)
    assert _price(HAIKU, tickets, 500_000, batch=False) == Decimal("250.00")
    assert _price(HAIKU, tickets, 500_000, batch=True) == Decimal("125.00")


@pytest.mark.parametrize(
    ("hits", "writes", "reads", "total"),
    [
        # 3,000 × 40,000 tokens are 120 MTok; batched, a 1-hour write is $1.00 and a read $0.05 per MTok.
        ("0.30", "84.00", "1.80", "87.075"),
        ("0.64", "43.20", "3.84", "48.315"),
        ("0.98", "2.40", "5.88", "9.555"),
    ],
)
def test_every_part_of_questions_over_a_shared_document_is_exact(
    hits: str, writes: str, reads: str, total: str
) -> None:
    questions = RequestSize.of(40_000, 100, 150)
    rates = rates_of(TABLE, HAIKU, DAY, batch=True)
    parts = cost_of(rates, questions, 3_000, "1h", Decimal(hits))
    assert parts == Parts(Decimal(writes), Decimal(reads), Decimal("0.15"), Decimal("1.125"))
    assert parts.total == Decimal(total)


def test_at_least_one_request_writes_what_the_others_read() -> None:
    rates = rates_of(TABLE, HAIKU, DAY, batch=True)
    parts = cost_of(rates, RequestSize.of(10_000, 0, 0), 2, "1h", 1)
    assert parts.cache_writes == rates.cache_write_1h * 10_000 / 1_000_000
    assert parts.cache_reads == rates.cache_read * 10_000 / 1_000_000


@pytest.mark.parametrize(("prompt", "usd"), [(100_000, "10.05"), (100_001, "50.2505")])
def test_above_a_models_threshold_every_token_is_dear(prompt: int, usd: str) -> None:
    """Haiku 5.5: $0.10 in and $0.50 out up to 100,000 tokens of prompt, five times that above."""
    size = RequestSize.of(60_000, prompt - 60_000, 1_000)
    assert _price(SMALL, size, 1_000, batch=False) == Decimal(usd) + Decimal("0.45") * (
        5 if prompt > 100_000 else 1
    )


def test_a_load_of_which_some_rows_are_long_pays_both_rates() -> None:
    half = LongRows(requests=Decimal("0.5"), tokens=Decimal("0.75"))
    mixed = rates_of(TABLE, SMALL, DAY, batch=False, long=half)
    assert mixed.input == Decimal("0.1") / 4 + Decimal("0.5") * 3 / 4
    assert mixed.output == (Decimal("0.5") + Decimal("2.5")) / 2


def test_inference_in_the_us_costs_a_tenth_more_where_the_model_says_so() -> None:
    size = RequestSize.of(0, 400, 20)
    us = _price(SONNET, size, 1_000, batch=True, us=True)
    assert us == _price(SONNET, size, 1_000, batch=True) * Decimal("1.1")
    assert _price(HAIKU, size, 1, batch=True, us=True) == _price(HAIKU, size, 1, batch=True)


_TOKENS = st.integers(0, 200_000)


@given(
    prefix=_TOKENS,
    own=_TOKENS,
    output=_TOKENS,
    n=st.integers(1, 10**6),
    hits=st.decimals(0, 1, places=4),
    model=st.sampled_from(TABLE.known_models()),
    cache=st.sampled_from(["none", "5m", "1h"]),
)
def test_nothing_that_the_cache_does_costs_more_than_the_most(
    prefix: int, own: int, output: int, n: int, hits: Decimal, model: str, cache: str
) -> None:
    size = RequestSize.of(prefix, own, output)
    rates = rates_of(TABLE, model, DAY, batch=True)
    assert cost_of(rates, size, n, cache, hits).total <= most_of(rates, size, n, cache)


@given(
    rows=st.integers(1, 10**6),
    duplicates=st.integers(0, 100),
    golden=st.integers(0, 1_000),
    again=st.decimals(0, Decimal("0.1"), places=3),
    climbs=st.decimals(0, Decimal("0.5"), places=3),
    hits=st.decimals(0, 1, places=3),
)
def test_lines_and_parts_add_up_to_the_same_total(
    rows: int, duplicates: int, golden: int, again: Decimal, climbs: Decimal, hits: Decimal
) -> None:
    volume = Volume(rows, Decimal(min(duplicates, rows - 1)), golden, again)
    tiers = [
        PricedTier(
            model,
            RequestSize.of(5_000, 120.5, 33.3),
            "1h",
            share,
            *(rates_of(TABLE, model, DAY, batch=batch) for batch in (True, False, True)),
        )
        for model, share in ((HAIKU, Decimal(1)), (SONNET, climbs))
    ]
    sums = sum_up(volume, tiers, hits, lane="batch", notes={})
    for scenario, total in sums.total.items():
        of_lines = sum(line.usd[scenario] for line in sums.lines)
        assert abs(of_lines - total) < Decimal("1e-15")
        parts = sums.parts[scenario]
        assert parts.cache_writes + parts.cache_reads + parts.input + parts.output == total


def test_the_interval_holds_the_mean_as_often_as_it_says() -> None:
    """Brute force: 2,000 samples of 40 from a skewed population of 300."""
    draw = random.Random(7)
    population = [draw.gammavariate(4, 50) for _ in range(300)]
    mean = sum(population) / len(population)
    held = 0
    for _ in range(2_000):
        found = mean_interval(draw.sample(population, 40), len(population))
        held += found.low <= mean <= found.high
    assert 0.925 <= held / 2_000 <= 0.97


def test_the_finite_population_makes_the_interval_narrower_down_to_a_point() -> None:
    values = [10.0, 20.0, 30.0, 40.0]
    few, many = mean_interval(values, 8), mean_interval(values, 8_000)
    assert few.high - few.low < many.high - many.low
    every = mean_interval(values, 4)
    assert every.low == every.mean == every.high == 25.0


def test_one_value_of_many_says_little() -> None:
    found = mean_interval([100.0], 50)
    assert (found.low, found.high) == (0.0, 300.0)


def test_measured_hits_beyond_the_usual_range_move_its_end() -> None:
    for share in ("0.02", "0.64", "0.995"):
        low, typical, high = scenarios(Decimal(share)).values()
        assert low <= typical <= high
        assert typical == Decimal(share)
    assert list(scenarios(Decimal("0.64")).values()) == [
        Decimal("0.3"),
        Decimal("0.64"),
        Decimal("0.98"),
    ]
