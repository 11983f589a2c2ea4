"""Telling real receivers: once, in order, whatever fails in between."""

import os
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from batch_pipeline.alerts.deliver import LONGEST_PAUSE
from batch_pipeline_tests.alerts.conftest import Desk, condition
from batch_pipeline_tests.alerts.receivers import Answer, Hook, free_port, hook
from batch_pipeline_tests.stages.watching import together


def webhook(target: Hook | int, **changes: object) -> dict[str, object]:
    port = target if isinstance(target, int) else target.port
    url = f"http://127.0.0.1:{port}/services/T00/hush-hush"
    return {"name": "hook", "type": "webhook", "url": url, **changes}


def test_an_alert_is_told_once_when_it_opens_and_once_when_it_is_over(desk: Desk) -> None:
    with hook() as received:
        desk.declare(webhook(received), link="https://dagster.example.com/")
        for found in ([condition()], [condition()], [], []):
            desk.look(*found)
            desk.tell()
        first, second = received.posts
    assert first.json == {
        "event": "opened",
        "delivery_id": first.headers["idempotency-key"],
        "alert_id": desk.alerts()[0].alert_id,
        "condition": "gate:w:2026-11-20:g1",
        "workload": "w",
        "load": "2026-11-20",
        "kind": "leading",
        "severity": "page",
        "title": "w 2026-11-20 is held",
        "sentence": "The load is held: coverage.",
        "opened_at": "2026-11-21T06:00:00+00:00",
        "resolved_at": None,
        "link": "https://dagster.example.com/assets/w/golden_score",
    }
    assert second.json["event"] == "resolved"
    assert second.json["alert_id"] == first.json["alert_id"]
    assert second.json["resolved_at"] is not None


def test_a_target_that_is_down_for_an_hour_is_told_everything_in_order_when_it_is_back(
    desk: Desk,
) -> None:
    port = free_port()
    desk.declare(webhook(port))
    until = desk.moment + timedelta(hours=1)
    desk.look(condition("a", title="first"))
    tries = 0
    while desk.moment < until:
        desk.wait(seconds=30)
        # In the meantime the first is over, and another begins.
        found = (
            condition("a", title="first") if desk.moment < until - timedelta(minutes=30) else None
        )
        other = condition("b", title="second")
        desk.look(*([found, other] if found else [other]))
        tries += sum(attempt.channel == "hook" for attempt in desk.tell())
    assert 5 <= tries <= 12  # the pauses grow
    with hook(port=port) as received:
        desk.wait(seconds=LONGEST_PAUSE.total_seconds())
        desk.tell()
        desk.tell()
        assert received.told == [("opened", "first"), ("opened", "second"), ("resolved", "first")]
    assert {d.state for d in desk.deliveries() if d.event == "opened"} == {"sent"}


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_a_receiver_that_says_when_to_come_back_is_left_alone_until_then(
    desk: Desk, form: str
) -> None:
    desk.moment = datetime.now(UTC)
    later = format_datetime(desk.moment + timedelta(hours=2), usegmt=True)
    refused: Answer = (429, {"retry-after": "7200" if form == "seconds" else later})
    with hook(lambda n: refused if n == 1 else (200, {})) as received:
        desk.declare(webhook(received))
        desk.look(condition("a"))
        desk.tell()
        desk.wait(seconds=1)
        desk.look(condition("a"), condition("b"))
        desk.wait(minutes=115)
        desk.tell()
        assert len(received.posts) == 1
        desk.wait(minutes=6)
        desk.tell()
        assert len(received.posts) == 3
        ids = [post.headers["idempotency-key"] for post in received.posts]
    assert ids[0] == ids[1] != ids[2]


def test_a_message_that_is_refused_does_not_keep_back_the_next_one(desk: Desk) -> None:
    with hook(lambda n: (400 if n == 1 else 200, {})) as received:
        desk.declare(webhook(received))
        desk.look(condition("a"), condition("b"))
        desk.tell()
        assert len(received.posts) == 2
    states = sorted((d.state, d.error) for d in desk.deliveries() if d.channel == "hook")
    assert states[0][0] == "pending"
    assert "127.0.0.1 answered 400" in str(states[0][1])
    assert states[1] == ("sent", None)


def test_an_answer_of_500_is_tried_again_with_the_same_id(desk: Desk) -> None:
    with hook(lambda n: (500 if n == 1 else 200, {})) as received:
        desk.declare(webhook(received))
        desk.look(condition())
        desk.tell()
        desk.tell()
        assert len(received.posts) == 1
        desk.wait(seconds=31)
        desk.tell()
        desk.tell()
        first, second = received.posts
        assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
        assert first.body == second.body


def test_nothing_is_given_up_within_three_days_and_what_is_given_up_shows(desk: Desk) -> None:
    desk.declare(webhook(free_port()))
    desk.look(condition())
    desk.wait(days=3)
    desk.tell()
    assert {d.state for d in desk.deliveries() if d.channel == "hook"} == {"pending"}
    desk.look()
    desk.wait(days=5)
    desk.tell()
    given_up = {d.event: d for d in desk.deliveries() if d.channel == "hook"}
    assert {d.state for d in given_up.values()} == {"given_up"}
    assert "127.0.0.1 could not be reached" in str(given_up["opened"].error)
    assert desk.tell() == []


def test_a_channel_that_is_down_keeps_no_other_waiting(desk: Desk) -> None:
    with hook() as received:
        desk.declare(webhook(free_port(), name="a_down"), webhook(received, name="b_up"))
        desk.look(condition())
        desk.tell()
        assert len(received.posts) == 1


def test_processes_that_deliver_at_once_send_each_message_once(desk: Desk) -> None:
    def slow(_n: int) -> Answer:
        time.sleep(0.05)
        return 200, {}

    with hook(slow) as received:
        desk.declare(webhook(received))
        desk.look(*(condition(f"c{n}", title=f"c{n}") for n in range(5)))
        assert together(*[desk.tell] * 4) == [None] * 4
        assert sorted(title for _, title in received.told) == [f"c{n}" for n in range(5)]


_DELIVER = """
import os
from pathlib import Path
from batch_pipeline.alerts.config import read_config
from batch_pipeline.alerts.deliver import deliver
from batch_pipeline.ledger import Ledger
from batch_pipeline.settings import Settings
settings = Settings.from_environment()
deliver(Ledger(settings.state), read_config(settings.alerts, os.environ), settings)
"""


def test_killed_between_sending_and_writing_it_down_it_is_sent_again_under_the_same_id(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    victims: list[subprocess.Popen[bytes]] = []

    def kill(n: int) -> Answer:
        if n == 1:
            # The message has arrived; whoever sent it never hears so.
            os.kill(victims[0].pid, signal.SIGKILL)
        return 200, {}

    desk.moment = datetime.now(UTC)
    with hook(kill) as received:
        desk.declare(webhook(received))
        monkeypatch.setenv("BATCH_PIPELINE_ALERTS", str(tmp_path / "alerts.yaml"))
        desk.look(condition())
        victims.append(subprocess.Popen([sys.executable, "-c", _DELIVER]))
        assert victims[0].wait(timeout=60) == -signal.SIGKILL
        [left] = [d for d in desk.deliveries() if d.channel == "hook"]
        assert (left.state, left.attempts) == ("pending", 1)
        desk.wait(minutes=1)
        desk.tell()
        desk.tell()
        first, second = received.posts
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.body == second.body


def test_a_line_that_a_killed_process_left_in_the_log_is_not_written_again(desk: Desk) -> None:
    desk.look(condition())
    desk.tell()
    log = desk.settings.state / "alerts.log"
    written = log.read_bytes()
    # As after a kill between the line and the ledger.
    with sqlite3.connect(desk.settings.state / "ledger.sqlite") as ledger:
        ledger.execute("UPDATE deliveries SET state = 'pending', sent_at = NULL")
    desk.wait(minutes=1)
    desk.tell()
    assert log.read_bytes() == written
    assert [d.state for d in desk.deliveries()] == ["sent"]


def test_that_an_alert_is_over_is_not_told_before_that_it_began(desk: Desk) -> None:
    with hook(lambda n: (400 if n == 1 else 200, {})) as received:
        desk.declare(webhook(received))
        desk.look(condition())
        desk.tell()
        desk.look()
        desk.tell()
        assert [event for event, _ in received.told] == ["opened"]
        desk.wait(minutes=1)
        desk.tell()
        assert [event for event, _ in received.told] == ["opened", "opened", "resolved"]


def test_what_ended_and_began_anew_while_the_target_was_down_is_told_in_its_order(
    desk: Desk,
) -> None:
    port = free_port()
    desk.declare(webhook(port))
    for found in ([condition()], [], [condition()]):
        desk.look(*found)
        desk.tell()
        desk.wait(minutes=1)
    with hook(port=port) as received:
        desk.wait(seconds=LONGEST_PAUSE.total_seconds())
        desk.tell()
        assert [event for event, _ in received.told] == ["opened", "resolved", "opened"]


def test_a_message_of_a_condition_that_is_refused_keeps_back_what_followed_it(desk: Desk) -> None:
    with hook(lambda n: (400 if n == 1 else 200, {})) as received:
        desk.declare(webhook(received))
        for found in ([condition()], [], [condition()]):
            desk.look(*found)
            desk.tell()
            desk.wait(seconds=1)
        assert [event for event, _ in received.told] == ["opened"]
        desk.wait(minutes=1)
        desk.tell()
        assert [event for event, _ in received.told] == ["opened", "opened", "resolved", "opened"]
