from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from batch_pipeline.claude.prices import load_prices
from batch_pipeline.measure.caching import ASSUMED, Hits, break_even, choose_cache
from batch_pipeline.measure.estimate import RequestSize, cost_of, rates_of

DAY = date(2026, 11, 22)
TABLE = load_prices()
HAIKU = "claude-haiku-4-5"
# In relation to the input price, a 1-hour write is 2 everywhere, and a read what it says here.
READS = {
    "0.025": ("fable-5-2", "mythos-5-2", "fable-5-1", "mythos-5-1"),
    "0.05": ("opus-5-5", "sonnet-5-5"),
}


@pytest.mark.parametrize("model", TABLE.known_models())
def test_break_even_of_every_model_is_where_both_ways_cost_the_same(model: str) -> None:
    rates = rates_of(TABLE, model, DAY, batch=True)
    read = next((r for r, names in READS.items() if model[7:] in names), "0.1")
    for cache, write in (("1h", Decimal(2)), ("5m", Decimal("1.25"))):
        even = break_even(rates, cache)
        assert even == (write - 1) / (write - Decimal(read))
        size = RequestSize.of(10_000, 10, 10)
        with_cache = cost_of(rates, size, 10_000, cache, even).total
        assert abs(with_cache - cost_of(rates, size, 10_000).total) < Decimal("1e-9")


def _choice(declared: str = "auto", **changes: Any) -> Any:
    options: dict[str, Any] = {
        "model": HAIKU,
        "prefix_tokens": 5_000,
        "minimum": 4_096,
        "requests": 1_000,
        "rates": rates_of(TABLE, HAIKU, DAY, batch=True),
        "hits": ASSUMED,
        **changes,
    }
    return choose_cache(declared, **options)


def test_auto_caches_for_an_hour_where_the_assumed_hits_pay() -> None:
    choice = _choice()
    assert (choice.cache, choice.works) == ("1h", True)
    assert "5,000" in choice.why
    assert "52.6%" in choice.why
    assert "64% assumed" in choice.why


def test_auto_leaves_it_where_measured_hits_are_below_break_even() -> None:
    choice = _choice(hits=Hits(Decimal("0.41"), measured=True))
    assert choice.cache == "none"
    assert "41% measured" in choice.why


def test_two_requests_share_nothing_worth_writing() -> None:
    assert _choice(requests=2).cache == "none"


@pytest.mark.parametrize(("declared", "asked"), [("auto", "none"), ("1h", "1h")])
def test_a_prefix_below_the_minimum_is_skipped_silently_and_said(declared: str, asked: str) -> None:
    choice = _choice(declared, prefix_tokens=4_095)
    assert (choice.cache, choice.works) == (asked, False)
    assert "below the 4,096 tokens" in choice.why
    assert "without a word" in choice.why


def test_a_minimum_that_is_not_published_is_assumed_and_said() -> None:
    choice = _choice(minimum=None, prefix_tokens=600)
    assert choice.works
    assert "not published" in choice.why


def test_none_means_none() -> None:
    assert _choice("none").cache == "none"
