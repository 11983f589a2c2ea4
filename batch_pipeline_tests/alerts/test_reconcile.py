"""What is wrong now, against what is known to be wrong."""

from typing import Any

import pytest

from batch_pipeline.ledger import Ledger
from batch_pipeline_tests.alerts.conftest import Desk, condition
from batch_pipeline_tests.stages.watching import together

PAGER = {"name": "pager", "type": "webhook", "url": "https://pager.example.com/x"}
NOTES = {
    "name": "notes",
    "type": "webhook",
    "url": "https://notes.example.com/x",
    "severity": "log",
}


def told(desk: Desk) -> list[tuple[str, str]]:
    return sorted((delivery.channel, delivery.event) for delivery in desk.deliveries())


def test_a_condition_is_one_alert_however_often_it_is_seen(desk: Desk) -> None:
    opened = [desk.look(condition()).opened for _ in range(3)]
    assert opened == [1, 0, 0]
    assert told(desk) == [("log", "opened")]


def test_a_sentence_that_changes_is_kept_and_not_told_again(desk: Desk) -> None:
    desk.look(condition(sentence="Batch b is 26 h old."))
    desk.wait(hours=1)
    desk.look(condition(sentence="Batch b is 27 h old."))
    [alert] = desk.alerts()
    assert alert.sentence == "Batch b is 27 h old."
    assert alert.seen_at == desk.moment
    assert alert.opened_at < alert.seen_at
    assert told(desk) == [("log", "opened")]


def test_nothing_is_written_when_nothing_changed(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk.look(condition())
    desk.wait(seconds=30)

    def refuse(*_: Any) -> None:
        raise AssertionError("written")

    monkeypatch.setattr(Ledger, "record_alerts", refuse)
    desk.look(condition())


def test_a_condition_that_is_gone_is_resolved_and_told_to_whom_it_was_told(desk: Desk) -> None:
    desk.declare(PAGER, NOTES)
    desk.look(condition())
    desk.wait(minutes=1)
    assert desk.look().resolved == 1
    [alert] = desk.alerts()
    assert alert.resolved_at == desk.moment
    assert told(desk) == [
        ("log", "opened"),
        ("log", "resolved"),
        ("pager", "opened"),
        ("pager", "resolved"),
    ]


def test_a_condition_that_comes_back_is_a_new_alert(desk: Desk) -> None:
    for found in ([condition()], [], [condition()]):
        desk.look(*found)
    first, second = desk.alerts()
    assert {first.resolved_at is None, second.resolved_at is None} == {True, False}
    assert len({first.alert_id, second.alert_id}) == 2


def test_what_the_look_could_not_see_stays_as_it_was(desk: Desk) -> None:
    desk.look(condition("check:w:a"), condition("check:w:b"))
    desk.look(unknown=lambda alert: alert.condition == "check:w:a")
    assert [alert.condition for alert in desk.ledger.open_alerts()] == ["check:w:a"]


def test_alerts_of_another_workload_are_left_alone(desk: Desk) -> None:
    desk.look(condition("gate:other", workload="other"))
    desk.look()
    assert len(desk.ledger.open_alerts()) == 1


def test_pages_and_logs_go_to_who_asked_for_them(desk: Desk) -> None:
    desk.declare(PAGER, NOTES)
    desk.look(condition("a", severity="page"), condition("b", severity="log"))
    of = {alert.alert_id: alert.condition for alert in desk.alerts()}
    assert sorted((of[d.alert_id], d.channel) for d in desk.deliveries()) == [
        ("a", "log"),
        ("a", "pager"),
        ("b", "log"),
        ("b", "notes"),
    ]


def test_a_channel_hears_of_its_own_workloads_only(desk: Desk) -> None:
    desk.declare({**PAGER, "workloads": ["another"]})
    desk.look(condition())
    assert told(desk) == [("log", "opened")]


def test_an_alert_that_becomes_a_page_is_told_to_those_who_take_pages(desk: Desk) -> None:
    desk.declare(PAGER)
    desk.look(condition(severity="log"))
    assert told(desk) == [("log", "opened")]
    desk.look(condition(severity="page"))
    assert told(desk) == [("log", "opened"), ("pager", "opened")]


def test_what_has_paged_stays_a_page_until_it_is_over(desk: Desk) -> None:
    desk.look(condition(severity="page"))
    desk.look(condition(severity="log"))
    assert [alert.severity for alert in desk.alerts()] == ["page"]


def test_a_channel_that_is_declared_later_is_told_what_is_open(desk: Desk) -> None:
    desk.look(condition())
    desk.declare(PAGER)
    desk.look(condition())
    assert told(desk) == [("log", "opened"), ("pager", "opened")]


def test_looks_of_two_processes_at_once_open_one_alert(desk: Desk) -> None:
    assert together(*[lambda: desk.look(condition())] * 4) == [None] * 4
    assert len(desk.alerts()) == 1
