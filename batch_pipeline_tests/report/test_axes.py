"""Scales and ticks."""

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from batch_pipeline.report.axes import Scale, date_ticks, decimals, span, ticks

values = st.floats(0, 1, allow_nan=False)


@given(st.lists(values, min_size=1, max_size=20), st.floats(1e-4, 0.2))
def test_an_axis_covers_its_values_within_the_bounds(shown: list[float], least: float) -> None:
    low, high = span(shown, least=least, bounds=(0.0, 1.0))

    assert 0 <= low <= min(shown) <= max(shown) <= high <= 1
    assert high - low >= least * 0.999


@given(values, st.floats(1e-6, 1))
def test_ticks_are_within_the_axis_and_evenly_apart(low: float, width: float) -> None:
    found = ticks(low, low + width)
    steps = [b - a for a, b in pairwise(found)]

    assert 2 <= len(found) <= 9
    assert low - width * 1e-6 <= found[0] < found[-1] <= low + width * (1 + 1e-6)
    assert max(steps) - min(steps) < width * 1e-6


def test_ticks_are_written_with_as_many_decimals_as_tell_them_apart() -> None:
    for low, high in ((94.8, 100.0), (99.1, 99.9), (0.0, 0.5), (0.0, 6.2), (88.4, 89.4)):
        found = ticks(low, high)
        written = [f"{tick:.{decimals(found)}f}" for tick in found]
        assert all(
            abs(float(text) - tick) < 1e-9 for text, tick in zip(written, found, strict=True)
        )
        assert len(set(written)) == len(written)


@given(st.integers(0, 2000))
def test_the_last_day_is_always_labelled_and_labels_stay_few(days: int) -> None:
    last = date(2026, 11, 20)
    found = date_ticks(last - timedelta(days=days), last)

    assert found[-1] == last
    assert found == sorted(set(found))
    assert len(found) <= 5
    assert found[0] >= last - timedelta(days=days)


def test_an_empty_span_goes_to_the_middle() -> None:
    assert Scale(3, 3, 0, 100)(3) == 50
