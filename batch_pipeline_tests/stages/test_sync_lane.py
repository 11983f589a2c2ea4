"""A load that is sent request by request: the same answers, each paid for once, at the full price."""

import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.messages import MessagesApi
from batch_pipeline.claude.prices import price_for
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import ChunkState, Lane
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages import stopping
from batch_pipeline.stages.budget import price_collected
from batch_pipeline.stages.cancel import cancel_load
from batch_pipeline.stages.findings import findings
from batch_pipeline.stages.next_step import Action, next_step
from batch_pipeline_tests import forked
from batch_pipeline_tests.made_up_answers import simulate_made_up
from batch_pipeline_tests.night import Night, account_of
from batch_pipeline_tests.stages.watching import finals

ALL = 15
FAULTS = [
    {"contains": "number 3 ", "fault": "invalid_request"},
    {"contains": "number 4 ", "times": 1, "fault": "server_error"},
    {"contains": "number 5 ", "times": 1, "fault": "truncated"},
]

# Sends in a process of its own, which dies by kill -9 when its ninth request was answered.
KILLED = """
import itertools, os, signal
from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.messages import MessagesApi
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline.workload.catalogue import find_workload

sends, count = MessagesApi.answer, itertools.count(1)

def and_die(api, params):
    n, result = next(count), sends(api, params)
    if n == 9:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

MessagesApi.answer = and_die
settings = Settings.from_environment()
context = LoadContext.open(find_workload("questions", settings), os.environ["LOAD"], settings)
read_source(context)
send_pending(context, BatchesApi)
"""

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]


simulate = pytest.fixture(simulate_made_up)


@pytest.fixture
def sync(night: MakeNight) -> MakeNight:
    def make(concurrency: int = 1, **options: Any) -> Night:
        options = {"count": ALL, "golden": 0, **options}
        return night(lane="sync", sync={"concurrency": concurrency}, **options)

    return make


def asked(simulator: Simulator) -> int:
    """How many requests arrived, whatever became of them."""
    return int(account_of(simulator)["arrived"].get("messages", 0))


def on_messages(fault: str, **rule: Any) -> dict[str, Any]:
    return {"calls": [{"on": "messages", "fault": fault, **rule}]}


def around_each(
    monkeypatch: pytest.MonkeyPatch, before: Callable[[int], None], after: Callable[[], None]
) -> None:
    """Calls `before`, with a count from 1, and `after` around each request, in the thread that sends it."""
    sends, lock, count = MessagesApi.answer, threading.Lock(), iter(range(1, 10_000))

    def watched(api: MessagesApi, params: bytes) -> bytes:
        with lock:
            n = next(count)
        before(n)
        try:
            return sends(api, params)
        finally:
            after()

    monkeypatch.setattr(MessagesApi, "answer", watched)


def topics(night: Night) -> list[str]:
    found = findings(night.ledger, night.context.record(), night.context.settings)
    return [finding.topic for finding in found]


def work(night: Night) -> str:
    return next_step(night.ledger, night.context.workload.name, night.context.load).work


def test_rows_end_as_by_batch_and_cost_what_the_api_bills_at_full_price(
    simulate: Simulate, night: MakeNight, sync: MakeNight
) -> None:
    simulate(rows=FAULTS)
    by_batch = night(name="by_batch", count=ALL, golden=3)
    by_batch.settle()
    simulator = simulate(rows=FAULTS)
    # Made-up answers are valid, but not right.
    one_by_one = sync(concurrency=4, golden=3, gates={"golden_drop_points": 100})
    card = one_by_one.settle()

    assert finals(one_by_one) == finals(by_batch)
    assert Counter(f.disposition for f in finals(one_by_one).values()) == {
        "validated": ALL - 1,
        "quarantined": 1,
    }
    account = account_of(simulator)
    on = one_by_one.ledger.batches(one_by_one.context.record())[0].created_at.date()
    usd = sum(
        Decimal(tokens) * getattr(price_for(model, on, batch=False), kind) / 1_000_000
        for model, spent in account["messages"]["tokens"].items()
        for kind, tokens in spent.items()
    )
    assert usd > 0
    assert card.cost_usd == pytest.approx(float(usd), rel=1e-9)
    # The Batches API is never asked about it.
    assert set(account["calls"]) <= {"messages", "count_tokens"}
    assert card.batches_reconciled
    one_by_one.publish()
    assert one_by_one.context.record().promoted_rows == ALL - 1


def test_no_more_requests_are_under_way_than_declared(
    simulate: Simulate, sync: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate()
    lock, out, most = threading.Lock(), 0, 0

    def begin(_: int) -> None:
        nonlocal out, most
        with lock:
            out += 1
            most = max(most, out)
        time.sleep(0.02)

    def end() -> None:
        nonlocal out
        with lock:
            out -= 1

    around_each(monkeypatch, begin, end)
    sync(concurrency=3).submit()
    assert most == 3


def test_after_a_kill_only_what_was_under_way_is_sent_again(
    simulate: Simulate, sync: MakeNight
) -> None:
    simulator = simulate()
    made = sync(concurrency=4, count=60, limits={"attempts": 1})
    environment = {"BATCH_PIPELINE_WORKLOADS": str(made.folder.parent), "LOAD": made.context.load}
    done = forked.run(KILLED, environment={**os.environ, **environment})
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert 9 <= asked(simulator) < 60
    [chunk] = made.ledger.chunks(made.context.record())
    assert (chunk.state, chunk.lane) == (ChunkState.INTENT, Lane.SYNC)
    assert made.next() is Action.SUBMIT

    card = made.settle()
    # A death of ours uses up none of a row's attempts.
    assert {final.disposition for final in finals(made).values()} == {"validated"}
    again = account_of(simulator)["messages"]["billed"] - 60
    assert again <= card.unpriced_requests <= 4
    assert topics(made) == ["interrupted"]
    [interrupted] = findings(made.ledger, made.context.record(), made.context.settings)
    assert "up to 4 requests were under way" in interrupted.sentence
    assert not interrupted.page


def test_a_stop_keeps_what_was_answered(
    simulate: Simulate, sync: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is under way is given a moment, so that here nothing is sent again."""
    simulator = simulate()
    made = sync(concurrency=2)

    def stop_at_the_third(n: int) -> None:
        if n == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patched:
        around_each(patched, stop_at_the_third, lambda: None)
        with pytest.raises(KeyboardInterrupt):
            made.submit()
    assert asked(simulator) < ALL
    first_key = work(made)
    assert first_key != "g1-1-"  # that of the run that was stopped is used up

    made.settle()
    assert account_of(simulator)["messages"]["billed"] == ALL
    assert topics(made) == []


def test_a_process_that_runs_steps_can_ask_for_an_early_end(
    simulate: Simulate, sync: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate()
    made = sync(concurrency=2)
    monkeypatch.setattr(stopping, "asked", threading.Event())
    with monkeypatch.context() as patched:
        around_each(patched, lambda n: stopping.asked.set() if n == 3 else None, lambda: None)
        made.submit()
    assert 3 <= asked(simulator) < ALL
    assert made.next() is Action.SUBMIT
    stopping.asked.clear()
    made.settle()
    assert account_of(simulator)["messages"]["billed"] == ALL


def test_a_short_wait_that_the_api_asks_for_is_waited_in_place(
    simulate: Simulate, sync: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_POLL_SECONDS", "5")
    simulator = simulate(**on_messages("status", nth=[3, 4], status=429, retry_after=0.01))
    made = sync()
    made.submit()
    assert made.next() is Action.COLLECT
    assert asked(simulator) == ALL + 2
    assert account_of(simulator)["messages"]["billed"] == ALL


def test_a_long_wait_leaves_the_rest_for_later(simulate: Simulate, sync: MakeNight) -> None:
    simulator = simulate(**on_messages("status", nth=5, status=529, retry_after=3600))
    made = sync()
    made.submit()
    assert asked(simulator) == 5
    assert made.next() is Action.WAIT
    assert topics(made) == ["waits"]
    made.submit()
    assert asked(simulator) == 5

    made.ledger.update_load(made.context.record(), not_before=None)
    assert made.next() is Action.SUBMIT
    made.settle()
    assert asked(simulator) == ALL + 1
    assert account_of(simulator)["messages"]["billed"] == ALL


def test_an_api_that_is_down_is_left_alone_and_nothing_counts_as_sent(
    simulate: Simulate, sync: MakeNight
) -> None:
    simulate().stop()
    made = sync(concurrency=4)
    made.submit()
    assert made.next() is Action.WAIT
    simulator = simulate()
    made.ledger.update_load(made.context.record(), not_before=None)
    made.settle()
    assert asked(simulator) == ALL
    assert topics(made) == []


def test_a_refused_key_stops_the_load_until_a_person_mends_it(
    simulate: Simulate, sync: MakeNight
) -> None:
    simulator = simulate(**on_messages("status", nth=5, status=401))
    made = sync()
    with pytest.raises(PipelineError, match="What was answered is kept"):
        made.submit()
    assert asked(simulator) == 5
    assert made.next() is Action.STOPPED
    assert topics(made) == ["stopped"]

    made.submit()
    made.settle()
    assert account_of(simulator)["messages"]["billed"] == ALL


def test_a_lost_answer_is_sent_again_within_its_attempts(
    simulate: Simulate, sync: MakeNight
) -> None:
    simulator = simulate(**on_messages("drop_after_accepting", nth=2))
    made = sync(gates={"max_cost_usd": 5})
    card = made.settle()
    assert account_of(simulator)["messages"]["billed"] == ALL + 1
    assert card.unpriced_requests == 1
    assert card.gate is not None
    assert any("1 requests whose cost is not known ($" in reason for reason in card.gate.reasons)
    price_collected(made.context)
    assert made.ledger.committed_usd("questions") > card.cost_usd
    assert {final.disposition for final in finals(made).values()} == {"validated"}


def test_an_api_that_fails_every_request_is_left_alone(simulate: Simulate, sync: MakeNight) -> None:
    """Or an outage of minutes would use up every attempt of every row."""
    simulator = simulate(**on_messages("status", first=10, status=500))
    made = sync()
    made.submit()
    assert asked(simulator) == 10
    assert made.next() is Action.WAIT
    made.ledger.update_load(made.context.record(), not_before=None)
    made.settle()
    assert {final.disposition for final in finals(made).values()} == {"validated"}
    assert account_of(simulator)["messages"]["billed"] == ALL


def test_a_cancelled_load_sends_no_more_and_keeps_what_it_has(
    simulate: Simulate, sync: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate()
    made = sync()

    def cancel_at_the_third(n: int) -> None:
        if n == 3:
            cancel_load(made.context, BatchesApi(), reason="wrong file", by="test")
            time.sleep(1.1)  # the ledger is asked once a second

    around_each(monkeypatch, cancel_at_the_third, lambda: None)
    made.submit()
    assert asked(simulator) == 3
    made.settle()
    ends = Counter((final.disposition, final.reason) for final in finals(made).values())
    assert ends == {("validated", None): 3, ("quarantined", "load_cancelled"): ALL - 3}
    [batch] = made.ledger.batches(made.context.record())
    assert (batch.succeeded, batch.canceled) == (3, ALL - 3)


def test_a_cancelled_load_that_was_cut_off_is_closed_without_the_api(
    simulate: Simulate, sync: MakeNight
) -> None:
    simulator = simulate(**on_messages("status", nth=5, status=429, retry_after=3600))
    made = sync()
    made.submit()
    cancel_load(made.context, BatchesApi(), reason="wrong file", by="test")
    assert made.next() is Action.SUBMIT
    made.settle()
    assert asked(simulator) == 5
    [batch] = made.ledger.batches(made.context.record())
    assert (batch.succeeded, batch.canceled) == (4, ALL - 4)


def test_rows_of_a_body_that_was_lost_are_sent_in_another(
    simulate: Simulate, sync: MakeNight
) -> None:
    simulator = simulate(**on_messages("status", nth=5, status=429, retry_after=3600))
    made = sync()
    made.submit()
    record = made.context.record()
    [chunk] = made.ledger.chunks(record)
    made.context.folder(record).body(chunk.chunk_id).unlink()
    made.ledger.update_load(record, not_before=None)
    made.settle()
    assert {final.disposition for final in finals(made).values()} == {"validated"}
    assert account_of(simulator)["messages"]["billed"] == ALL


def test_a_process_that_ends_as_it_writes_the_batch_down_loses_no_count(
    simulate: Simulate, sync: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate()
    made = sync()

    def ends(*_: object, **_changes: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("batch_pipeline.ledger.Ledger.update_batch", ends)
        with pytest.raises(KeyboardInterrupt):
            made.submit()
    record = made.context.record()
    [chunk] = made.ledger.chunks(record)
    folder = made.context.folder(record)
    assert folder.answers(chunk.chunk_id).is_file()
    card = made.settle()
    # What was read back is kept once.
    assert folder.raw(chunk.chunk_id).is_file()
    assert not folder.answers(chunk.chunk_id).exists()
    [batch] = made.ledger.batches(record)
    assert (batch.succeeded, batch.status) == (ALL, "ended")
    assert batch.ended_at is not None
    assert card.batches_reconciled


def test_answers_that_were_removed_are_never_paid_for_again_unasked(
    simulate: Simulate, sync: MakeNight
) -> None:
    simulator = simulate()
    made = sync()
    made.submit()
    record = made.context.record()
    [chunk] = made.ledger.chunks(record)
    made.context.folder(record).answers(chunk.chunk_id).unlink()
    made.settle()
    assert {final.disposition for final in finals(made).values()} == {"quarantined"}
    assert asked(simulator) == ALL


def test_it_takes_no_room_among_batches(
    simulate: Simulate, sync: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate()
    monkeypatch.setenv("BATCH_PIPELINE_MAX_IN_FLIGHT", "1")
    made = sync(limits={"max_requests": 5})
    made.submit()
    assert len(made.ledger.batches(made.context.record())) == ALL // 5
