"""What is refused for now is sent later: not before the API allows it, without a worker that waits for it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import ChunkState
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.chunks import SendSummary
from batch_pipeline.stages.collect import collect_results
from batch_pipeline.stages.findings import findings
from batch_pipeline.stages.next_step import Action
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline_tests.night import Night, account_of, rows
from batch_pipeline_tests.stages.watching import (
    Final,
    Watch,
    accepted,
    chunk_states,
    finals,
    paid_twice,
    posts,
)

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

VALID = Final("validated", None, 0, 1)


def send(night: Night, watch: Watch | None = None) -> SendSummary:
    read_source(night.context)
    return send_pending(night.context, watch or BatchesApi)


def refuse(**rule: Any) -> dict[str, Any]:
    return {"on": "create", "fault": "status", "status": 429, **rule}


def waits(night: Night) -> timedelta:
    """From now until the load's rows may be sent."""
    moment = night.context.record().not_before
    assert moment is not None
    return moment - datetime.now(UTC)


@contextmanager
def refusing(headers: dict[str, str], status: int = 429) -> Iterator[str]:
    """The address of an API that refuses every call, with headers that the simulator does not send."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            self.send_response(status)
            for name, value in {"content-length": "0", **headers}.items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


# Too many calls


def test_a_retry_after_of_an_hour_is_kept_and_nobody_waits_in_the_call(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(calls=[refuse(nth=2, retry_after=3600)])
    n = night(count=6, golden=0, limits={"max_requests": 3})
    first = send(n)
    assert "it asks to wait 3,600 s" in str(first.waits_for)
    assert timedelta(minutes=59) < waits(n) <= timedelta(hours=1)
    for _ in range(2):
        again = send(n)
        assert (again.batches, again.waits_for is None) == (0, False)
        assert "nothing is sent" in str(again.waits_for)
    assert posts(simulator) == 2
    # What went out before is read back meanwhile.
    n.wait()
    n.collect()
    assert n.next() is Action.WAIT
    assert posts(simulator) == 2


def test_once_its_time_has_come_the_rest_is_sent(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate(calls=[refuse(nth=2, retry_after=0.5)])
    n = night(count=6, golden=0, limits={"max_requests": 3})
    send(n)
    allowed = n.context.record().not_before
    assert allowed is not None
    n.settle()
    late = datetime.fromisoformat(accepted(simulator)[1]["created_at"])
    assert late >= allowed
    assert posts(simulator) == 3
    assert set(finals(n).values()) == {VALID}
    assert n.context.record().not_before is None


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        (lambda: "90", 80, 90),
        (lambda: "0.5", 0, 1),
        (lambda: format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True), 580, 600),
        (lambda: format_datetime(datetime.now(UTC) - timedelta(minutes=10), usegmt=True), -1, 0),
        # Neither a number nor a date: as if there were none, two polling intervals.
        (lambda: "soon", 15, 20),
        (lambda: "-5", 15, 20),
        (lambda: "nan", 15, 20),
        (lambda: "inf", 15, 20),
    ],
    ids=["seconds", "fraction", "date", "past date", "words", "negative", "nan", "infinite"],
)
def test_a_retry_after_is_a_number_of_seconds_or_a_date(
    night: MakeNight,
    monkeypatch: pytest.MonkeyPatch,
    text: Callable[[], str],
    least: float,
    most: float,
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_POLL_SECONDS", "10")
    n = night(count=1, golden=0)
    with refusing({"retry-after": text()}) as address:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        send(n)
    assert timedelta(seconds=least - 1) < waits(n) <= timedelta(seconds=most)


def test_without_a_retry_after_the_pauses_grow(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_POLL_SECONDS", "30")
    simulator = simulate(calls=[refuse(first=7)])
    n = night(count=3, golden=0)
    pauses = []
    for _ in range(7):
        send(n)
        pauses.append(round(waits(n).total_seconds() / 30))
        n.ledger.update_load(n.context.record(), not_before=None)
    assert pauses == [2, 4, 8, 16, 30, 30, 30]
    send(n)
    assert (posts(simulator), len(accepted(simulator))) == (8, 1)


def test_an_overloaded_api_that_names_a_time_is_looked_through_first(
    simulate: Simulate, night: MakeNight
) -> None:
    """529 says nothing of whether the batch was accepted; its retry-after holds for the next sending."""
    simulator = simulate(calls=[refuse(nth=1, status=529, retry_after=2)])
    n = night(count=3, golden=0)
    send(n)
    assert chunk_states(n) == {ChunkState.INTENT: 1}
    assert timedelta(0) < waits(n) <= timedelta(seconds=2)
    allowed = n.context.record().not_before
    assert allowed is not None
    assert n.next() is Action.RESOLVE
    n.settle()
    assert chunk_states(n) == {ChunkState.NOT_FOUND: 1, ChunkState.SUBMITTED: 1}
    assert datetime.fromisoformat(accepted(simulator)[0]["created_at"]) >= allowed
    assert posts(simulator) == 2


def test_a_create_that_is_overloaded_after_accepting_is_adopted_and_the_pause_is_kept(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(
        turnaround_seconds=0.2,
        calls=[
            {
                "on": "create",
                "nth": 1,
                "fault": "error_after_accepting",
                "status": 529,
                "retry_after": 1,
            }
        ],
    )
    n = night(count=6, golden=0, limits={"max_requests": 3})
    send(n)
    allowed = n.context.record().not_before
    n.settle()
    assert set(finals(n).values()) == {VALID}
    assert posts(simulator) == 2
    assert paid_twice(simulator) == 0
    if allowed is not None:
        assert datetime.fromisoformat(accepted(simulator)[1]["created_at"]) >= allowed


# A full queue


def test_a_queue_that_is_full_takes_the_rest_later_each_chunk_once(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(turnaround_seconds=0.2, queue_limit=5)
    n = night(count=13, golden=0, limits={"max_requests": 2})
    assert "in the processing queue" in str(send(n).waits_for)
    n.settle()
    assert [b["requests"] for b in accepted(simulator)] == [2, 2, 2, 2, 2, 2, 1]
    assert set(finals(n).values()) == {VALID}
    assert paid_twice(simulator) == 0
    assert {c.wave for c in n.ledger.chunks(n.context.record())} == {1}


def test_the_cap_of_requests_in_flight_is_kept_at_every_moment_by_all_loads_together(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_MAX_IN_FLIGHT", "6")
    # The simulator refuses what goes beyond: no such refusal means that the cap was kept.
    simulator = simulate(turnaround_seconds=1, queue_limit=6)
    one = night(golden=0, source=rows(9), limits={"max_requests": 2})
    assert "BATCH_PIPELINE_MAX_IN_FLIGHT allows 6" in str(send(one).waits_for)
    two = night(golden=0, source=rows(7, start=50), limits={"max_requests": 3}, day="2026-11-19")
    read_source(two.context)
    nights = [one, two]
    until = time.monotonic() + 40
    while {each.next() for each in nights} - {Action.PUBLISH} and time.monotonic() < until:
        for each in nights:
            if each.next() is not Action.PUBLISH:
                each.step()
    assert account_of(simulator)["calls"]["create"] == {"200": len(accepted(simulator))}
    for each in nights:
        assert set(finals(each).values()) == {VALID}
    assert paid_twice(simulator) == 0


def test_a_chunk_larger_than_the_cap_goes_out_by_itself(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_MAX_IN_FLIGHT", "1")
    simulator = simulate(turnaround_seconds=0.1)
    n = night(count=6, golden=0, limits={"max_requests": 3})
    n.settle()
    assert [b["requests"] for b in accepted(simulator)] == [3, 3]
    assert set(finals(n).values()) == {VALID}


def test_room_that_another_loads_ended_batches_took_is_free_again_though_nobody_reads_them_back(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_MAX_IN_FLIGHT", "6")
    simulator = simulate()
    send(night(golden=0, source=rows(5)))
    other = night(golden=0, source=rows(4, start=50), day="2026-11-19")
    assert send(other).waits_for is None
    assert [b["requests"] for b in accepted(simulator)] == [5, 4]


# A limit on spending

LIMITS: dict[str, dict[str, Any]] = {
    "429": {
        "status": 429,
        "error_code": "enforced_spend_limit_reached",
        "message": "Your organization has reached its monthly limit of $500",
        "retry_after": 3600,
    },
    "400": {
        "status": 400,
        "message": "You have reached your specified workspace API usage limits. You will regain access on "
        "2026-12-01 at 00:00 UTC.",
    },
    "402": {
        "status": 402,
        "error_type": "billing_error",
        "message": "Your credit balance is too low to access the API",
    },
}


@pytest.mark.parametrize("limit", LIMITS.values(), ids=LIMITS)
def test_a_spend_limit_stops_the_load_until_a_person_launches_it_again(
    simulate: Simulate, night: MakeNight, limit: dict[str, Any]
) -> None:
    simulator = simulate(calls=[refuse(nth=2, **limit)])
    n = night(count=6, golden=0, limits={"max_requests": 3})
    sentence = limit["message"].rstrip(".")
    with pytest.raises(PipelineError, match="nothing was charged") as raised:
        send(n)
    assert sentence in str(raised.value)

    # What is out is read back; nothing else is done, however often it is looked at.
    n.wait()
    n.collect()
    assert n.next() is Action.STOPPED
    assert len([1 for c in n.ledger.batches(n.context.record()) if c.collected_at]) == 1
    n.collect()
    assert posts(simulator) == 2
    [page] = findings(n.ledger, n.context.record(), n.context.settings)
    assert page.page
    assert page.sentence.startswith("Sending has stopped: The API answered")
    assert sentence in page.sentence

    assert send(n).batches == 1
    assert posts(simulator) == 3
    n.settle()
    assert set(finals(n).values()) == {VALID}
    assert n.context.record().stopped is None


def test_a_limit_that_is_still_reached_is_met_once_for_each_launch(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(calls=[refuse(**LIMITS["429"])])
    n = night(count=6, golden=0, limits={"max_requests": 3})
    for tries in (1, 2, 3):
        with pytest.raises(PipelineError, match="monthly limit"):
            send(n)
        assert posts(simulator) == tries
        assert n.next() is Action.STOPPED


# Results that cannot be had


def test_the_pauses_between_downloads_grow_and_a_retry_after_is_kept(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_POLL_SECONDS", "30")
    fail: dict[str, Any] = {"on": "results", "fault": "status"}
    simulate(
        calls=[
            {**fail, "first": 15, "status": 500},
            {**fail, "after": 15, "status": 429, "retry_after": 3600},
        ]
    )
    n = night(count=2, golden=0)
    n.submit()
    n.wait()
    pauses = []
    for _ in range(6):
        collect_results(n.context, BatchesApi)
        [batch] = n.ledger.batches(n.context.record())
        assert batch.retry_at is not None
        pauses.append(round((batch.retry_at - datetime.now(UTC)).total_seconds() / 30))
        n.ledger.update_batch(batch.batch_id, retry_at=datetime.now(UTC))
    assert pauses == [2, 4, 8, 16, 30, 120]
    [note] = findings(n.ledger, n.context.record(), n.context.settings)
    assert "could not be taken 6 times" in note.sentence
    assert not note.page


def test_a_load_that_was_stopped_and_asked_for_again_is_stopped_no_more_when_it_pauses(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_MAX_IN_FLIGHT", "2")
    simulate(
        turnaround_seconds=0.1,
        calls=[{"on": "create", "nth": 1, "fault": "status", "status": 402}],
    )
    n = night(count=6, golden=0, limits={"max_requests": 2})
    with pytest.raises(PipelineError, match="402"):
        send(n)
    assert n.next() is Action.STOPPED
    assert "MAX_IN_FLIGHT" in str(send(n).waits_for)
    assert n.context.record().stopped is None
    assert n.settle().dispositions["validated"] == 6


def test_a_key_that_the_api_quotes_is_not_kept(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-quoted-key")
    simulate(
        calls=[
            {"on": "create", "fault": "status", "status": 400, "message": "bad key sk-quoted-key"}
        ]
    )
    n = night(count=2, golden=0)
    with pytest.raises(PipelineError, match=r"bad key \[ANTHROPIC_API_KEY\]"):
        send(n)
    assert "sk-quoted-key" not in str(n.context.record().stopped)
