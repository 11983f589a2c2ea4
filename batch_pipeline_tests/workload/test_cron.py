"""A schedule is looked at before Dagster sees it."""

import pytest

from batch_pipeline.workload.cron import cron_problem, days_per_year


@pytest.mark.parametrize(
    "line",
    [
        "0 2 * * *",
        "*/15 0-6,22,23 1 JAN-mar mon-fri",
        "0 0 1-31/2 * *",
        "0 0 l * *",
        "0 0 * * fri#2",
        "0 0 * * 7",
        "@daily",
        "  0  2 * * * ",
    ],
)
def test_a_cron_line_is_taken(line: str) -> None:
    assert cron_problem(line) is None


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("", "five fields"),
        ("0 2 * *", "five fields"),
        ("0 2 * * * *", "five fields"),
        ("60 2 * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 2 0 * *", "day of the month"),
        ("0 2 * 13 *", "month"),
        ("0 2 * * 8", "day of the week"),
        ("0 2 * * monday", "day of the week"),
        ("*/0 2 * * *", "minute"),
        ("1,,2 2 * * *", "minute"),
        ("0 2² * * *", "hour"),
        ("@nightly", "@daily"),
    ],
)
def test_what_is_none_is_refused_with_the_part_that_is_wrong(line: str, problem: str) -> None:
    assert problem in (cron_problem(line) or "")


@pytest.mark.parametrize(
    ("line", "days"),
    [
        ("0 2 * * *", 365),
        ("0 */4 * * *", 365),
        ("0 2 * * 1", 52),
        ("0 2 * * 1-5", 261),
        ("0 2 * * 7", 52),
        ("0 2 1,15 * *", 24),
        ("0 2 l * *", 12),
        ("0 2 * * fri#2", 12),
        ("0 2 * * l5", 12),
        ("0 2 * jan-mar ?", 90),
        # Both restricted: the days of either.
        ("0 2 1 * 1", 12 + 52 - 1),
        ("@daily", 365),
        ("@weekly", 52),
    ],
)
def test_days_of_a_year(line: str, days: int) -> None:
    assert days_per_year(line) == days
