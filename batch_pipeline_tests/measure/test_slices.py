"""A slice that breaks is found, though the whole hardly shows it."""

import numpy as np

from batch_pipeline.measure.slices import SliceCount, broken_slices


def test_one_slice_in_forty_that_falls_to_80_percent_is_found() -> None:
    whole = [SliceCount(248, 250, 1736, 1750) for _ in range(39)]
    assert broken_slices([*whole, SliceCount(200, 250, 1739, 1750)]) == [39]


def test_unchanged_slices_are_not_found_on_ninety_nights() -> None:
    draw = np.random.default_rng(7)
    for _ in range(90):
        counts = [
            SliceCount(int(draw.binomial(250, 0.99)), 250, int(draw.binomial(1750, 0.99)), 1750)
            for _ in range(40)
        ]
        assert broken_slices(counts) == []


def test_a_gap_of_less_than_three_points_is_not_found_however_many_rows_show_it() -> None:
    assert broken_slices([SliceCount(97_500, 100_000, 700_000, 700_000)]) == []


def test_a_slice_that_is_new_or_empty_tonight_is_not_broken() -> None:
    assert broken_slices([SliceCount(3, 10, 0, 0), SliceCount(0, 0, 70, 70)]) == []


def test_no_slices_are_no_broken_ones() -> None:
    assert broken_slices([]) == []
