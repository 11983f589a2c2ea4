"""The interval beside each rate."""

import pytest
from scipy.stats import binomtest

from batch_pipeline.report.interval import wilson


@pytest.mark.parametrize(
    ("good", "n"), [(0, 1), (1, 1), (0, 500), (500, 500), (174, 200), (11_724, 12_000), (3, 7)]
)
def test_it_is_wilsons(good: int, n: int) -> None:
    expected = binomtest(good, n).proportion_ci(method="wilson")

    assert wilson(good, n) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_nothing_counted_says_nothing() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
