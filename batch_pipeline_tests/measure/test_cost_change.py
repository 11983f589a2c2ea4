"""A dearer good row is explained by what was planted, and the causes add up to the difference."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_pipeline.measure.cost_change import CAUSES, CostChange, NightCosts, split
from batch_pipeline.measure.savings import CostLine
from batch_pipeline.measure.spend import TOKENS

RATES = {
    "input": Decimal("0.5e-6"),
    "cache_write_5m": Decimal("0.625e-6"),
    "cache_write_1h": Decimal("1e-6"),
    "cache_read": Decimal("0.05e-6"),
    "output": Decimal("2.5e-6"),
}


def line(
    part: str, tier: int, requests: int, tokens: Mapping[str, int], price: Decimal
) -> CostLine:
    return CostLine(
        part,
        tier,
        "batch",
        "some-model",
        "validated",
        requests,
        cached_requests=requests if any(tokens[k] for k in TOKENS if k.startswith("cache")) else 0,
        tokens=tokens,
        usd={kind: tokens[kind] * RATES[kind] * (1 + 2 * tier) * price for kind in TOKENS},
    )


def night(
    *,
    rows: int = 1000,
    good: int | None = None,
    golden: int = 50,
    own: int = 100,
    prefix: int = 5000,
    answer: int = 20,
    hits: float = 0.98,
    writes: int | None = None,
    climb: float = 0.05,
    price: str = "1",
    twice: int = 0,
) -> NightCosts:
    """A night's costs. `writes` is how many requests write the prefix, in place of those that do not hit."""

    def asked(part: str, tier: int, requests: int) -> CostLine:
        missed = round(requests * (1 - hits)) if writes is None else min(writes, requests)
        tokens = {
            "input": requests * own,
            "cache_write_5m": 0,
            "cache_write_1h": missed * prefix,
            "cache_read": (requests - missed) * prefix,
            "output": requests * answer,
        }
        return line(part, tier, requests, tokens, Decimal(price))

    parts = [
        ("first_answers", 0, rows),
        ("escalations", 1, round(rows * climb)),
        ("golden", 0, golden),
        ("paid_twice", 0, twice),
    ]
    lines = [asked(*each) for each in parts if each[2]]
    return NightCosts(rows, round(rows * 0.99) if good is None else good, lines)


def change(before: NightCosts, tonight: NightCosts) -> CostChange:
    found = split(before, tonight)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("before", "tonight", "cause", "share"),
    [
        pytest.param({}, {"price": "2"}, "price", 1.0, id="prices twice as high"),
        pytest.param({}, {"price": "0.5"}, "price", -0.5, id="half the prices"),
        pytest.param({}, {"own": 150, "answer": 30}, "difficulty", None, id="longer rows"),
        pytest.param({}, {"prefix": 7500}, "difficulty", None, id="a longer prompt"),
        pytest.param(
            {"prefix": 0}, {"prefix": 0, "own": 150, "answer": 30}, "difficulty", 0.5, id="tokens"
        ),
        pytest.param({}, {"climb": 0.2}, "difficulty", None, id="more rows climb"),
        pytest.param({"climb": 0}, {"climb": 0.2}, "difficulty", None, id="rows climb at all"),
        pytest.param({}, {"hits": 0.3}, "caching", None, id="the cache hits less"),
        pytest.param({}, {"prefix": 0, "own": 5100}, "caching", None, id="the cache is off"),
        pytest.param({"prefix": 0, "own": 5100}, {}, "caching", None, id="the cache is on"),
        pytest.param({}, {"rows": 500}, "volume", None, id="half the rows, the golden set stays"),
        pytest.param({}, {"golden": 100}, "volume", None, id="a larger golden set"),
        pytest.param({}, {"good": 495}, "yield", 1.0, id="half the good rows"),
        pytest.param({}, {"twice": 1000}, "again", None, id="paid twice"),
    ],
)
def test_what_was_planted_is_the_cause(
    before: dict[str, Any], tonight: dict[str, Any], cause: str, share: float | None
) -> None:
    found = change(night(**before), night(**tonight))
    assert found.before + sum(found.effects.values()) == found.tonight
    assert {each for each, effect in found.effects.items() if effect} == {cause}
    if share is not None:
        assert found.share == pytest.approx(share)


def test_writes_that_stay_as_many_are_spread_over_fewer_rows() -> None:
    found = change(
        night(writes=20, golden=0, climb=0), night(writes=20, golden=0, climb=0, rows=500)
    )

    assert {cause for cause, effect in found.effects.items() if effect} == {"volume"}
    assert found.effects["volume"] > 0


def test_prices_and_tokens_at_once_are_told_apart() -> None:
    found = change(night(prefix=0), night(prefix=0, own=200, answer=40, price="2"))
    shares = found.shares()

    # Twice the tokens, and then all of that twice as dear.
    assert shares["difficulty"] == pytest.approx(1.0, rel=0.1)
    assert shares["price"] == pytest.approx(1 + shares["difficulty"] + shares["volume"])
    assert found.share == pytest.approx(sum(shares.values()))


nights = st.builds(
    night,
    rows=st.integers(1, 3000),
    good=st.integers(1, 3000),
    golden=st.integers(0, 200),
    own=st.integers(0, 500),
    prefix=st.integers(0, 6000),
    answer=st.integers(1, 90),
    hits=st.floats(0, 1),
    climb=st.floats(0, 1),
    price=st.sampled_from(["1", "2", "0.37"]),
    twice=st.integers(0, 50),
)


@settings(max_examples=100, deadline=None)
@given(nights, nights)
def test_the_causes_add_up_exactly_whatever_the_nights(
    before: NightCosts, tonight: NightCosts
) -> None:
    found = change(before, tonight)
    costs = [
        sum(each.spent_usd for each in costs.lines) / Decimal(costs.good)
        for costs in (before, tonight)
    ]

    assert tuple(found.effects) == CAUSES
    assert found.before + sum(found.effects.values()) == found.tonight
    assert [float(found.before), float(found.tonight)] == pytest.approx([float(c) for c in costs])


@settings(max_examples=30, deadline=None)
@given(nights)
def test_the_same_night_again_has_no_cause(costs: NightCosts) -> None:
    assert not any(change(costs, costs).effects.values())


@pytest.mark.parametrize("empty", [{"good": 0}, {"price": "0"}])
def test_without_a_good_row_or_a_cost_there_is_nothing_to_explain(empty: dict[str, Any]) -> None:
    assert split(night(**empty), night()) is None
