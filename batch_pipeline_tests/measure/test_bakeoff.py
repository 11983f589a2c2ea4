"""A bake-off's arithmetic: who is cheapest, what a cascade costs, and what chance could explain."""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_pipeline.measure.bakeoff import (
    Accepted,
    Ranking,
    RowOutcome,
    cascade,
    compare,
    measure,
    rank,
)
from batch_pipeline.measure.paired import Verdict, smallest_visible_drop

CLIMBS = ("contract_broken", "refusal", "truncated")
NAMES = ("small", "middle", "large", "huge")
LENIENT = Accepted(Fraction(0), Decimal(100))


def row(outcome: str = "valid", *, right: bool = True, usd: str | Decimal = "0.01") -> RowOutcome:
    valid = outcome == "valid"
    return RowOutcome(outcome, outcome in CLIMBS, valid and right, Decimal(usd), 5)


# Drawn whole, so that an example is cheap.
SOME_ROWS = [
    row(outcome, right=right, usd=usd)
    for outcome in ("valid", *CLIMBS, "expired", "invalid_request")
    for right in (True, False)
    for usd in ("0", "0.0001", "0.003", "0.05")
]


@st.composite
def some_models(draw: st.DrawFn) -> list[list[RowOutcome]]:
    models, rows = draw(st.integers(2, 4)), draw(st.sampled_from([1, 2, 7, 12]))
    fixed = st.lists(st.sampled_from(SOME_ROWS), min_size=rows, max_size=rows)
    return [draw(fixed) for _ in range(models)]


def ranked(outcomes: Sequence[Sequence[RowOutcome]], accepted: Accepted = LENIENT) -> Ranking:
    return rank(NAMES[: len(outcomes)], outcomes, accepted)


@settings(max_examples=40)
@given(some_models())
def test_the_chosen_model_is_the_cheapest_per_good_row_of_those_that_pass(
    outcomes: list[list[RowOutcome]],
) -> None:
    ranking = ranked(outcomes, Accepted(Fraction(1, 2), Decimal(5), Decimal("0.6")))
    passing = [each for each in ranking.models if each.passes]
    assert (ranking.chosen is None) == (not passing)
    if ranking.chosen is not None:
        best = min(Fraction(each.usd) / each.valid for each in passing)
        assert Fraction(ranking.chosen.usd) / ranking.chosen.valid == best
        assert ranking.chosen in passing


@settings(max_examples=40)
@given(some_models())
def test_a_cascade_pays_for_every_first_answer_and_for_the_second_of_those_that_climb(
    outcomes: list[list[RowOutcome]],
) -> None:
    first, second = outcomes[0], outcomes[1]
    climbing = [n for n, each in enumerate(first) if each.climbs]
    made = measure(("a", "b"), [first, second], LENIENT)
    assert made.escalated == len(climbing)
    assert made.usd == sum((r.usd for r in first), Decimal(0)) + sum(
        (second[n].usd for n in climbing), Decimal(0)
    )
    assert made.correct == sum(r.correct for r in first) + sum(second[n].correct for n in climbing)
    assert made.valid == sum(r.valid for r in first) + sum(second[n].valid for n in climbing)
    assert sum(made.outcomes.values()) == made.rows == len(first)


@settings(max_examples=40)
@given(some_models())
def test_a_cascade_of_one_is_the_model_itself(outcomes: list[list[RowOutcome]]) -> None:
    assert cascade([outcomes[0]]) == outcomes[0]


@settings(max_examples=40)
@given(some_models())
def test_a_second_model_never_costs_a_good_row(outcomes: list[list[RowOutcome]]) -> None:
    alone = measure(("a",), [outcomes[0]], LENIENT)
    both = measure(("a", "b"), outcomes[:2], LENIENT)
    assert both.valid >= alone.valid
    assert both.correct >= alone.correct
    assert both.usd >= alone.usd


@settings(max_examples=40)
@given(some_models())
def test_a_cascade_goes_from_the_cheaper_to_the_dearer_model(
    outcomes: list[list[RowOutcome]],
) -> None:
    ranking = ranked(outcomes)
    usd = {each.name: each.usd for each in ranking.models}
    for each in ranking.cascades:
        low, high = each.models
        assert low != high
        assert usd[low] <= usd[high]


def test_of_equals_the_first_that_was_named_is_chosen() -> None:
    rows = [row() for _ in range(40)]
    ranking = ranked([rows, list(rows)])
    assert ranking.chosen is ranking.models[0]


def test_a_model_that_the_api_refuses_cannot_win_nor_be_part_of_a_cascade() -> None:
    refused = [row("invalid_request", usd="0") for _ in range(10)]
    ranking = ranked([refused, [row() for _ in range(10)], [row("refusal"), *[row()] * 9]])
    assert ranking.models[0].objections == ("the API refused every request (invalid_request)",)
    assert ranking.chosen is ranking.models[1]
    assert all("small" not in each.models for each in ranking.cascades)
    assert "small" not in [each.model for each in ranking.comparisons]


def test_where_no_row_climbs_no_cascade_is_chosen() -> None:
    ranking = ranked([[row()] * 10, [row(usd="0.02")] * 10])
    assert ranking.chosen_cascade is None


def test_validity_at_the_gates_line_passes_and_below_it_does_not() -> None:
    accepted = replace(LENIENT, min_validity=Decimal("0.95"))
    at = [row()] * 95 + [row("contract_broken")] * 5
    below = [row()] * 94 + [row("contract_broken")] * 6
    assert measure(("a",), [at], accepted).passes
    assert measure(("a",), [below], accepted).objections == ("validity 94.0% is below 95.0%",)


def test_a_row_without_an_answer_is_wrong_but_says_nothing_of_validity() -> None:
    made = measure(("a",), [[row()] * 9 + [row("expired", usd="0")]], LENIENT)
    assert made.score == 0.9
    assert made.validity.value == 1.0
    assert made.unanswered == 1


def test_a_cascade_is_held_to_the_validity_of_its_first_model_as_at_the_gate() -> None:
    first = [row()] * 8 + [row("truncated")] * 2
    accepted = replace(LENIENT, min_validity=Decimal("0.9"))
    made = measure(("a", "b"), [first, [row(usd="0.05")] * 10], accepted)
    assert made.valid == 10
    assert not made.passes


def test_a_recorded_baseline_is_compared_row_by_row() -> None:
    """Two points lost by ten rows lost and two won: below the line of three, and yet no chance."""
    before = [True] * 390 + [False] * 10
    now = [row(right=False)] * 10 + [row()] * 380 + [row(right=n < 2) for n in range(10)]
    accepted = Accepted(Fraction(390, 400), Decimal(3), rows=before)
    assert measure(("a",), [now], accepted).verdict is Verdict.CONFIRMED
    assert measure(("a",), [now], replace(accepted, rows=None)).verdict is Verdict.PASS


@settings(max_examples=40)
@given(st.integers(0, 40), st.integers(0, 40))
def test_the_p_value_is_two_sided_and_the_same_from_either_side(lost: int, won: int) -> None:
    ours = [row()] * lost + [row(right=False)] * won + [row()]
    theirs = [row(right=False)] * lost + [row()] * won + [row()]
    found = compare("b", theirs, ours)
    assert (found.lost, found.won) == (lost, won)
    n, most = lost + won, max(lost, won)
    tail = Fraction(
        2 * sum(comb(n, k) for k in range(most + 1, n + 1)) + comb(n, most), 2 ** (n + 1)
    )
    assert found.p == pytest.approx(min(1.0, float(2 * tail)) if n else 1.0, abs=1e-12)
    assert compare("a", ours, theirs).p == found.p


def test_the_smallest_difference_is_seen_in_four_of_five_tries_and_a_smaller_one_is_not() -> None:
    """Against the exact sum over all outcomes of 60 rows, of which 1% flip each way by themselves."""
    n, flips = 60, 0.01
    least = smallest_visible_drop(n, flips, Decimal(100), alpha=0.025)
    assert least is not None

    def power(drop: float) -> float:
        lost_share, won_share = flips + drop, flips
        total = 0.0
        for lost in range(n + 1):
            for won in range(n + 1 - lost):
                k = lost + won
                tail = sum(comb(k, i) for i in range(lost + 1, k + 1)) + comb(k, lost) / 2
                if k and tail / 2**k < 0.025:
                    total += (
                        comb(n, lost)
                        * comb(n - lost, won)
                        * lost_share**lost
                        * won_share**won
                        * (1 - lost_share - won_share) ** (n - k)
                    )
        return total

    assert power(least) >= 0.8 > power(least - 0.0002)
