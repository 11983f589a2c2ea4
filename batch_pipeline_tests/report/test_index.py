"""The index of all workloads."""

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from batch_pipeline.report import index_path, write_index, write_report
from batch_pipeline_tests.night import Night
from batch_pipeline_tests.report.made_history import LAST, History, card_of, make


def lines(path: Path) -> dict[str, str]:
    """The text of each workload's line, in the order of the page."""
    body = path.read_text().split("<tbody>")[1].split("</tbody>")[0]
    rows = [
        re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", row)).strip() for row in body.split("</tr>")
    ]
    return {row.split(" ")[0]: row for row in rows if row}


def test_it_lists_every_workload_those_that_need_a_look_first(tmp_path: Path) -> None:
    short = History(nights=3)
    make(tmp_path, short, name="alright")
    held = make(tmp_path, History(nights=3, held=(0,)), name="held")
    write_report(held.context, card_of(held, short))
    promoted = make(tmp_path, short, name="promoted")
    promoted.ledger.record_promotion(promoted.context.record(), rows=5, fingerprint="f")
    begun = make(tmp_path, History(nights=0), name="unfinished")
    begun.ledger.record_load(
        "unfinished",
        str(LAST),
        generation=1,
        fingerprint="f",
        source_rows=1,
        golden_rows=0,
        requested_by=None,
    )
    path = write_index(promoted.context)
    found = lines(path)

    assert path == index_path(promoted.context.settings.state)
    assert list(found) == ["held", "unfinished", "alright", "promoted"]
    assert "✕ held" in found["held"]
    assert "… in flight" in found["unfinished"]
    assert "✓ promoted" in found["promoted"]
    assert "100.00%" in found["held"]
    assert found["unfinished"].count("–") == 5
    assert 'href="held/2026-11-20.html"' in path.read_text()
    # Only pages that are there are linked.
    assert "promoted/2026-11-20.html" not in path.read_text()


def test_a_newer_load_without_numbers_shows_those_of_the_last_graded_one(tmp_path: Path) -> None:
    night = make(tmp_path, History(nights=3))
    tomorrow = str(LAST + timedelta(days=1))
    night.ledger.record_load(
        "questions",
        tomorrow,
        generation=1,
        fingerprint="f",
        source_rows=1,
        golden_rows=0,
        requested_by=None,
    )

    found = lines(write_index(night.context))["questions"]
    assert f"in flight {tomorrow}" in found
    assert f"numbers of {LAST}" in found


def test_without_metrics_there_are_no_numbers(night: Callable[..., Night]) -> None:
    assert "No load was begun yet." in write_index(night().context).read_text()
