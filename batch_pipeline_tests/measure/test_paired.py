"""The golden gate's statistics: a drop is held when it is large, or when it is real."""

from decimal import Decimal
from fractions import Fraction
from math import comb

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_pipeline.measure.paired import (
    Paired,
    Verdict,
    mid_p,
    paired_verdict,
    score_verdict,
    smallest_seen_by_score,
    smallest_visible_drop,
)

THREE = Decimal(3)


@given(st.integers(0, 120), st.integers(0, 120))
def test_the_p_value_is_the_exact_tail_of_fair_coins(lost: int, won: int) -> None:
    flips = lost + won
    exact = Fraction(
        2 * sum(comb(flips, k) for k in range(lost + 1, flips + 1)) + comb(flips, lost),
        2 ** (flips + 1),
    )
    assert mid_p(lost, won) == pytest.approx(float(exact) if flips else 1.0, rel=1e-9, abs=1e-12)


def test_a_drop_of_three_points_is_held_though_it_could_be_noise() -> None:
    # 14 → 11 of 100 is three points, which floats deny.
    assert paired_verdict(Paired(100, 6, 3), THREE) is Verdict.NOISE


def test_a_drop_below_the_line_is_held_when_it_is_real() -> None:
    assert paired_verdict(Paired(500, 9, 1), THREE) is Verdict.CONFIRMED


def test_a_drop_below_the_line_that_could_be_chance_passes() -> None:
    assert paired_verdict(Paired(500, 9, 5), THREE) is Verdict.PASS


def test_a_large_drop_that_cannot_be_chance_is_confirmed() -> None:
    assert paired_verdict(Paired(200, 12, 1), THREE) is Verdict.CONFIRMED


@given(st.integers(1, 400), st.integers(0, 60), st.integers(0, 60))
def test_losing_one_more_row_never_turns_a_hold_into_a_pass(n: int, lost: int, won: int) -> None:
    if paired_verdict(Paired(n, lost, won), THREE) is not Verdict.PASS:
        assert paired_verdict(Paired(n, lost + 1, won), THREE) is not Verdict.PASS


# Points, by golden rows and share of rows that flip each way by themselves (simulated, 20,000 runs each).
@pytest.mark.parametrize(
    ("n", "flips", "points"),
    [
        (50, 0.01, 6.4),
        (50, 0.03, 7.2),
        (100, 0.01, 4.6),
        (100, 0.03, 5.3),
        (200, 0.01, 4.1),
        (200, 0.03, 4.7),
        (300, 0.01, 3.1),
        (300, 0.03, 4.3),
        (500, 0.01, 2.2),
        (500, 0.03, 3.4),
    ],
)
def test_the_smallest_visible_drop_is_the_simulated_one(
    n: int, flips: float, points: float
) -> None:
    seen = smallest_visible_drop(n, flips, THREE)
    assert seen is not None
    assert seen * 100 == pytest.approx(points, abs=0.06)


def test_one_golden_row_shows_no_drop() -> None:
    assert smallest_visible_drop(1, 0.01, THREE) is None
    assert smallest_seen_by_score(1, 0.9, THREE) is None


def test_a_share_alone_shows_less_than_the_same_rows() -> None:
    paired, share = (
        smallest_visible_drop(300, 0.01, THREE),
        smallest_seen_by_score(300, 0.94, THREE),
    )
    assert paired is not None
    assert share is not None
    assert share > paired


def test_against_a_declared_share_the_line_alone_holds() -> None:
    assert score_verdict(88, 100, Fraction(9, 10), THREE) is Verdict.PASS
    assert score_verdict(87, 100, Fraction(9, 10), THREE) is Verdict.NOISE
    assert score_verdict(80, 100, Fraction(9, 10), THREE) is Verdict.CONFIRMED
    assert score_verdict(0, 5, Fraction(9, 10), THREE) is Verdict.CONFIRMED
