"""US dollars as sentences have them."""

from decimal import Decimal

import pytest

from batch_pipeline.measure.money import row_usd, usd


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (0, "$0.0000"),
        (0.00004, "$0.0000"),
        (0.5, "$0.5000"),
        (Decimal("0.9999"), "$0.9999"),
        (1, "$1.00"),
        (Decimal("1234.567"), "$1,234.57"),
    ],
)
def test_a_sum_has_cents_from_one_dollar_on(amount: float | Decimal, said: str) -> None:
    assert usd(amount) == said


@pytest.mark.parametrize(
    ("amount", "said"),
    [
        (1234.5, "$1,234.500000"),
        (0.0012345678, "$0.001235"),
        (0.0001, "$0.000100"),
        (0.0000123456, "$1.23e-05"),
        (0, "$0"),
    ],
)
def test_a_row_costs_millionths(amount: float, said: str) -> None:
    assert row_usd(amount) == said
