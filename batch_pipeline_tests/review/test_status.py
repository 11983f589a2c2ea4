"""How far a review is, how long it took, and how often people agreed with the model."""

from collections.abc import Callable
from datetime import timedelta

import pytest

from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.review_status import review_measures
from batch_pipeline.warehouse import warehouse
from batch_pipeline_tests.review.desk import Desk

Fixing = Callable[..., dict[str, str]]


def test_a_queue_that_nobody_touched_waits_since_the_load_was_settled(desk: Desk) -> None:
    status = desk.status()
    assert (status.rows, status.left, status.decided) == (5, 5, 0)
    assert status.waiting_since == desk.context.record().settled_at
    assert (status.agreement, status.hours, status.exported_at) == (None, None, None)
    assert desk.export().rows == 5
    assert desk.status().exported_at is not None


def test_decisions_are_counted_with_time_and_agreement(desk: Desk, fixing: Fixing) -> None:
    record = desk.context.record()
    assert record.settled_at is not None
    desk.context.ledger.update_load(record, settled_at=record.settled_at - timedelta(hours=6))
    desk.decide(
        r00001=fixing(label="bug", urgency="2", why="x"),
        r00004=fixing(label="bug"),
        r00005={"decision": "accept"},
        r00007={"decision": "drop"},
    )
    desk.take_in()
    status = desk.status()
    assert (status.accepted, status.fixed, status.dropped, status.left) == (1, 2, 1, 1)
    assert status.agreement == 0.25
    # Of the two fixes one had an answer to keep, all but its label.
    assert status.kept == {"label": 0, "urgency": 1, "why": 1}
    assert status.hours == pytest.approx(6, abs=0.1)
    assert not status.promoted
    said = status.to_json()
    assert said["field_agreement"] == {"label": 0.0, "urgency": 0.5, "why": 0.5}


def test_deciding_the_same_again_takes_no_longer(desk: Desk) -> None:
    desk.decide(r00007={"decision": "drop"})
    desk.take_in()
    record = desk.context.record()
    assert record.settled_at is not None
    first = desk.status().hours
    desk.decide(r00007={"decision": "drop", "note": "sure"})
    assert desk.take_in().changed == 0
    assert desk.status().hours == first


def test_a_queue_that_is_done_waits_no_more(desk: Desk) -> None:
    desk.decide(**{f"r{n:05}": {"decision": "drop"} for n in (1, 2, 4, 5, 7)})
    desk.take_in()
    status = desk.status()
    assert (status.left, status.waiting_since, status.waiting) == (0, None, None)
    # Nothing of people's is to be promoted, so what was promoted is as it was decided.
    assert status.promoted


def test_the_review_is_measured_with_the_load(desk: Desk) -> None:
    desk.decide(r00005={"decision": "accept"}, r00007={"decision": "drop"})
    desk.take_in()
    grade(desk.context)
    with warehouse(desk.context.settings.state) as connection:
        found = connection.execute(
            "SELECT measure, numerator, denominator, value FROM metrics.measures "
            "WHERE measure LIKE 'review%' ORDER BY 1"
        ).fetchall()
    hours = desk.status().hours
    assert found == [
        ("review_agreement", 1.0, 2.0, 0.5),
        ("review_decided", 2.0, 5.0, 0.4),
        ("review_hours", hours, None, hours),
    ]
    assert len(review_measures(desk.context, desk.context.record())) == 3
