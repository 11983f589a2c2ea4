from decimal import Decimal
from typing import Any

import pytest

from batch_pipeline.measure.lane import choose_lane, should_be_batch


@pytest.mark.parametrize(
    ("declared", "rows", "deadline", "lane"),
    [
        ("batch", 1, "2", "batch"),
        ("sync", 10**6, None, "sync"),
        ("auto", 19, None, "sync"),
        ("auto", 20, None, "batch"),
        ("auto", 10**6, "23.9", "sync"),
        ("auto", 10**6, "24", "batch"),
    ],
)
def test_the_lane_follows_size_and_deadline(
    declared: str, rows: int, deadline: str | None, lane: str
) -> None:
    chosen, why = choose_lane(
        declared,
        source_rows=rows,
        below_rows=20,
        deadline_hours=None if deadline is None else Decimal(deadline),
    )
    assert chosen == lane
    assert why.endswith(".")


def _verdict(**changes: Any) -> Any:
    options: dict[str, Any] = {
        "deadline_hours": None,
        "saved_usd_per_month": Decimal(125),
        "sync_usd_per_month": Decimal(250),
        "cache_why": "nothing is shared.",
        **changes,
    }
    return should_be_batch(**options)


def test_a_volume_that_saves_enough_should_be_a_batch() -> None:
    assert _verdict().word == "yes"
    assert "$125.00 of $250.00" in _verdict().reasons[1]


def test_a_deadline_within_the_ceiling_should_not() -> None:
    verdict = _verdict(deadline_hours=Decimal(2))
    assert verdict.word == "no"
    assert "2 h" in verdict.reasons[0]


def test_a_few_dollars_a_month_are_marginal() -> None:
    verdict = _verdict(saved_usd_per_month=Decimal("0.40"), sync_usd_per_month=Decimal("0.80"))
    assert verdict.word == "marginal"
    assert "too little to matter" in verdict.reasons[1]


def test_engineering_days_are_held_against_the_saving() -> None:
    verdict = _verdict(engineering_days=Decimal(5), day_rate_usd=Decimal(500))
    assert "20.0 months" in verdict.reasons[-1]


def test_a_saving_of_nearly_nothing_is_not_spelled_out_in_months() -> None:
    verdict = _verdict(
        saved_usd_per_month=Decimal("0.0098"),
        engineering_days=Decimal(10),
        day_rate_usd=Decimal(500),
    )
    assert verdict.reasons[-1].endswith("would not earn in a hundred years.")


def test_what_is_saved_a_month_is_in_dollars() -> None:
    verdict = _verdict(engineering_days=Decimal(5), day_rate_usd=Decimal(500))
    assert "which $125.00 a month would take" in verdict.reasons[-1]
