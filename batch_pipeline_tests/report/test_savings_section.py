"""What a page says of the costs of a load."""

from dataclasses import replace
from decimal import Decimal
from typing import Any

from batch_pipeline.measure.savings import CostLine, Savings
from batch_pipeline.measure.spend import TOKENS
from batch_pipeline.report.savings_section import SavingsSection, savings_section
from batch_pipeline.stages.scorecard import empty_scorecard

NOTHING = {kind: Decimal(0) for kind in TOKENS}


def line(part: str, spent: str, **changes: Any) -> CostLine:
    """A line whose dollars are all uncached input, in a batch at half price."""
    usd = Decimal(spent)
    made = CostLine(
        part,
        0,
        "batch",
        "claude-haiku-4-5",
        "validated",
        requests=10,
        usd=NOTHING | {"input": usd},
        saved_batch_usd=usd,
        plain_input_usd=2 * usd,
    )
    return replace(made, **changes)


def section(*lines: CostLine, good: int = 100, month: Any = ()) -> SavingsSection:
    card = replace(
        empty_scorecard("questions", "2026-11-20"),
        savings=Savings(lines),
        dispositions={"validated": good, "quarantined": 0, "human_review": 0},
    )
    shown = savings_section(card, month)
    assert shown is not None
    return shown


def test_the_bars_lead_from_the_synchronous_price_to_what_was_spent() -> None:
    saved = {"saved_cache_usd": Decimal(2), "plain_input_usd": Decimal(4)}
    steps = section(line("first_answers", "1", **saved)).steps

    assert [(step.words, step.amount, step.share) for step in steps] == [
        ("One by one, without a cache", "$4.00", "100.0%"),
        ("Saved by caching", "$2.00", "50.0%"),
        ("Saved by batching", "$1.00", "25.0%"),
        ("Spent", "$1.00", "25.0%"),
    ]
    assert [(step.start, step.width) for step in steps] == [
        (0, 1),
        (0.5, 0.5),
        (0.25, 0.25),
        (0, 0.25),
    ]


def test_a_cache_that_lost_leads_up_again() -> None:
    steps = section(line("first_answers", "2", saved_cache_usd=Decimal(-1))).steps

    assert (steps[1].words, steps[1].amount, steps[1].lost) == ("Lost by caching", "$1.00", True)
    assert (steps[1].start, steps[1].width) == (0.75, 0.25)
    assert (steps[2].start, steps[2].width) == (0.5, 0.5)


def test_the_parts_add_up_and_the_endings_lie_within_them() -> None:
    parts = section(
        line("golden", "1"),
        line("first_answers", "2"),
        line("retries", "1", disposition="quarantined"),
        good=200,
    ).parts

    assert [(part.words, part.spent, part.of_good_row) for part in parts] == [
        ("Golden rows", "$1.00", "$0.00500"),
        ("First answers", "$2.00", "$0.0100"),
        ("Retries", "$1.00", "$0.00500"),
        ("of which quarantined", "$1.00", "$0.00500"),
    ]
    assert [part.share for part in parts] == [0.25, 0.5, 0.25, None]


def test_without_a_good_row_no_part_has_a_share_of_one() -> None:
    assert section(line("golden", "1"), good=0).parts[0].of_good_row == "–"


def test_rows_asked_once_stand_beside_the_sum() -> None:
    shared = CostLine("asked_once", 0, "", "", None, shared_rows=3, asked_once_usd=Decimal("0.3"))
    shown = section(line("first_answers", "1"), shared)

    assert shown.asked_once.startswith(
        "3 rows were not asked, since the answer was there: about $0.300"
    )
    assert shown.steps[-1].amount == "$1.00"


def test_the_month_so_far_is_summed() -> None:
    def load(day: int, good: int | None) -> dict[str, Any]:
        return {
            "load": f"2026-11-{day:02}",
            "synchronous_usd": Decimal(4),
            "spent_usd": Decimal(1),
            "asked_once_usd": Decimal(0),
            "good_rows": good,
        }

    said = section(line("golden", "1"), month=[load(1, 5), load(2, None)]).month

    assert said == (
        "November 2026 up to this load: 2 loads, $2.00 spent instead of $8.00 (75.0% saved), "
        "$0.400 for each of 5 good rows."
    )


def test_nothing_spent_or_nothing_known_is_no_section() -> None:
    empty = empty_scorecard("questions", "2026-11-20")

    assert savings_section(empty, []) is None
    assert savings_section(replace(empty, savings=Savings()), []) is None
