"""A rate that falls night by night is caught by its slope, though no night crosses a line."""

from collections.abc import Sequence
from datetime import date, timedelta

import numpy as np
import pytest

from batch_pipeline.measure.trend import WINDOWS, Night, Trend, trend

WEEK, MONTH = WINDOWS
START = date(2026, 9, 1)


def nights(rates: Sequence[float], n: int, days: Sequence[int] | None = None) -> list[Night]:
    days = days or range(len(rates))
    return [
        Night(START + timedelta(days=day), round(rate * n), n)
        for day, rate in zip(days, rates, strict=True)
    ]


def fitted(found: Sequence[Night]) -> list[Trend]:
    return [one for window in WINDOWS if (one := trend(found, window))]


FALL = [0.994, 0.989, 0.981]


@pytest.mark.parametrize("n", [1_000, 10_000, 100_000])
@pytest.mark.parametrize("before", [0, 9], ids=["cold", "after nine stable nights"])
def test_99_4_to_98_9_to_98_1_alarms_from_1_000_rows(n: int, before: int) -> None:
    assert any(one.alarm for one in fitted(nights([0.994] * before + FALL, n)))


def test_the_same_fall_at_500_rows_is_watched_and_does_not_alarm() -> None:
    (cold, _) = fitted(nights(FALL, 500))
    assert cold.watch
    assert not cold.alarm


def test_at_200_rows_three_nights_tell_nothing() -> None:
    assert not any(one.alarm or one.watch for one in fitted(nights(FALL, 200)))


@pytest.mark.parametrize("wobble", [0.0, 0.001])
def test_ninety_stable_nights_of_10_000_rows_never_alarm(wobble: float) -> None:
    for seed in range(10):
        draw = np.random.default_rng(seed)
        counted = [
            Night(
                START + timedelta(days=day),
                int(draw.binomial(10_000, min(0.99 + wobble * draw.normal(), 1))),
                10_000,
            )
            for day in range(90)
        ]
        for until in range(3, 91):
            assert not any(one.alarm for one in fitted(counted[:until])), (seed, until)


def test_a_drift_of_a_tenth_of_a_point_a_night_is_caught_within_two_weeks() -> None:
    draw = np.random.default_rng(1)
    rates = [0.99] * 30 + [0.99 - 0.001 * night for night in range(1, 15)]
    counted = [
        Night(START + timedelta(days=day), int(draw.binomial(10_000, rate)), 10_000)
        for day, rate in enumerate(rates)
    ]
    assert not any(one.alarm for one in fitted(counted[:30]))
    assert any(any(one.alarm for one in fitted(counted[:until])) for until in range(31, 45))


def test_missing_nights_stretch_the_slope_over_the_days_that_passed() -> None:
    close = trend(nights(FALL, 10_000), WEEK)
    apart = trend(nights(FALL, 10_000, [0, 4, 8]), WEEK)
    assert close is not None
    assert apart is not None
    assert apart.slope == pytest.approx(close.slope / 4)
    assert apart.fall == pytest.approx(close.fall)


def test_the_line_goes_through_its_nights() -> None:
    found = trend(nights([0.99, 0.98, 0.97, 0.96], 10_000), WEEK)
    assert found is not None
    assert found.at_start == pytest.approx(0.99, abs=1e-4)
    assert found.slope == pytest.approx(-0.01, abs=1e-4)


def test_two_nights_are_no_trend() -> None:
    assert trend(nights([0.99, 0.5], 10_000), WEEK) is None


def test_nights_without_anything_to_count_are_left_out() -> None:
    empty = Night(START + timedelta(days=9), 0, 0)
    with_it, without = [*nights(FALL, 1_000), empty], nights(FALL, 1_000)
    assert trend(with_it, MONTH) == trend(without, MONTH)


def test_a_rate_that_is_perfect_every_night_has_no_trend() -> None:
    (week, month) = fitted(nights([1.0] * 40, 10_000))
    assert not (week.watch or month.watch)


def test_a_rate_that_always_wobbled_this_much_alarms_later_than_a_steady_one() -> None:
    rough = [0.99 + (0.006 if day % 2 else -0.006) for day in range(30)]
    steady, restless = (trend(nights([*r, *FALL], 10_000), WEEK) for r in ([0.99] * 30, rough))
    assert steady is not None
    assert restless is not None
    assert restless.wobble > steady.wobble
    assert restless.p > steady.p
