"""A person stops the spending: nothing more is sent, what came is kept, every row gets its disposition."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import ChunkState
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.cancel import CancelSummary, cancel_load
from batch_pipeline.stages.next_step import Action
from batch_pipeline.stages.promote import GateClosedError
from batch_pipeline.stages.resolve import resolve
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline_tests.night import HAIKU, Night, account_of, rows
from batch_pipeline_tests.stages.watching import (
    Final,
    Watch,
    accepted,
    chunk_states,
    create,
    finals,
    posts,
)

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

VALID = Final("validated", None, 0, 1)
NEVER_SENT = Final("quarantined", "load_cancelled", None, 0)
STOPPED = Final("quarantined", "load_cancelled", 0, 1)


def cancel(night: Night, reason: str = "the wrong prompt") -> CancelSummary:
    return cancel_load(night.context, BatchesApi(), reason=reason, by="kim")


def closed(night: Night) -> dict[str, Final]:
    """Goes on until nothing is open; every source row then has its disposition."""
    card = night.settle()
    assert card.unaccounted == 0
    assert sum(card.dispositions.values()) == card.source_rows
    return finals(night)


def every(count: int, final: Final) -> dict[str, Final]:
    return {row["id"]: final for row in rows(count)}


def test_before_anything_was_sent(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate()
    n = night(count=4, golden=0)
    read_source(n.context)
    assert cancel(n) == CancelSummary(asked=0, open=0)
    assert closed(n) == every(4, NEVER_SENT)
    assert posts(simulator) == 0


def test_while_batches_run(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate(turnaround_seconds=3600)
    n = night(count=6, golden=0, limits={"max_requests": 3})
    n.submit()
    assert cancel(n).asked == 2
    assert closed(n) == every(6, STOPPED)
    assert posts(simulator) == 2
    assert [b["counts"]["canceled"] for b in accepted(simulator)] == [3, 3]


def test_what_was_done_when_the_batches_stopped_is_kept(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(turnaround_seconds=3600, done_when_stopped=0.5)
    n = night(count=20, golden=0)
    n.submit()
    cancel(n)
    found = list(closed(n).values())
    [batch] = accepted(simulator)
    done = batch["counts"]["succeeded"]
    assert 0 < done < 20
    assert (found.count(VALID), found.count(STOPPED)) == (done, 20 - done)


def test_in_the_middle_of_sending(simulate: Simulate, night: MakeNight) -> None:
    """Another thread sends chunk after chunk; the decision comes while the second is under way."""
    simulator = simulate(turnaround_seconds=3600)
    n = night(count=10, golden=0, limits={"max_requests": 2})
    seen: list[CancelSummary] = []

    def at_the_second(_body: Path) -> None:
        if posts(simulator) == 1:
            seen.append(cancel(n))

    read_source(n.context)
    summary = send_pending(n.context, Watch(before=at_the_second))
    assert [each.asked for each in seen] == [1]
    assert summary.waits_for == "the load was cancelled"
    found = closed(n)
    # The chunk that was under way goes out, and is asked to stop when it is next looked at.
    assert posts(simulator) == 2
    assert found == {**every(10, NEVER_SENT), **every(4, STOPPED)}
    assert [b["counts"]["canceled"] for b in accepted(simulator)] == [2, 2]


def test_while_a_lost_answer_is_looked_for(simulate: Simulate, night: MakeNight) -> None:
    """What is ours by its size alone may be somebody else's: it runs on, and what comes of it is kept."""
    simulator = simulate(
        turnaround_seconds=1, calls=[{"on": "create", "fault": "drop_after_accepting"}]
    )
    n = night(count=6, golden=0, limits={"max_requests": 3})
    n.submit()
    cancel(n)
    assert n.next() is Action.RESOLVE
    assert closed(n) == {**every(6, NEVER_SENT), **every(3, VALID)}
    [orphan] = accepted(simulator)
    assert orphan["counts"]["canceled"] == 0
    assert posts(simulator) == 1


def test_another_writers_batch_is_never_stopped(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate(
        turnaround_seconds=1, calls=[{"on": "create", "nth": 1, "fault": "drop_before_accepting"}]
    )
    n = night(count=3, golden=0)
    n.submit()
    create(simulator, 3)
    resolve(n.context, BatchesApi())
    cancel(n)
    assert closed(n) == every(3, NEVER_SENT)
    [theirs] = accepted(simulator)
    assert theirs["counts"]["succeeded"] == 3


def test_a_batch_that_the_api_does_not_know_yet_is_asked_to_stop_again(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(
        turnaround_seconds=20, calls=[{"on": "cancel", "fault": "not_found", "seconds": 1}]
    )
    n = night(count=3, golden=0)
    n.submit()
    cancel(n)
    assert closed(n) == every(3, STOPPED)
    assert accepted(simulator)[0]["counts"]["canceled"] == 3


def test_while_a_chunk_that_was_never_created_is_looked_for(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.2")
    simulator = simulate(calls=[{"on": "create", "fault": "drop_before_accepting"}])
    n = night(count=3, golden=0)
    n.submit()
    cancel(n)
    assert closed(n) == every(3, NEVER_SENT)
    assert posts(simulator) == 1
    assert chunk_states(n) == {ChunkState.NOT_FOUND: 1}


def test_after_some_results_came(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate(
        rows=[
            {"contains": "number 1 of", "model": HAIKU, "fault": "not_json"},
            {"contains": "number 2 of", "fault": "overloaded"},
            {"contains": "number 3 of", "fault": "invalid_request"},
        ],
    )
    n = night(count=5, golden=0)
    n.submit()
    n.wait()
    cancel(n)
    assert closed(n) == {
        "r00000": VALID,
        # It would climb a tier, and the next would be sent again.
        "r00001": STOPPED,
        "r00002": STOPPED,
        "r00003": Final("quarantined", "invalid_request", 0, 1),
        "r00004": VALID,
    }
    assert posts(simulator) == 1


def test_while_a_refusal_is_waited_out(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate(
        calls=[{"on": "create", "nth": 2, "fault": "status", "status": 429, "retry_after": 3600}]
    )
    n = night(count=6, golden=0, limits={"max_requests": 3})
    n.submit()
    cancel(n)
    assert set(closed(n).values()) == {VALID, NEVER_SENT}
    assert posts(simulator) == 2


def test_a_load_that_a_spend_limit_stopped(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate(calls=[{"on": "create", "fault": "status", "status": 402}])
    n = night(count=3, golden=0)
    with pytest.raises(PipelineError, match="402"):
        n.submit()
    cancel(n)
    assert closed(n) == every(3, NEVER_SENT)
    assert posts(simulator) == 1


@pytest.mark.parametrize("calls", ["list", "cancel"])
def test_while_the_api_is_down_the_decision_stands_and_the_batches_are_asked_later(
    simulate: Simulate, night: MakeNight, calls: str
) -> None:
    simulator = simulate(
        turnaround_seconds=3600, calls=[{"on": calls, "nth": 1, "fault": "status", "status": 503}]
    )
    n = night(count=3, golden=0)
    n.submit()
    summary = cancel(n)
    assert (summary.asked, summary.open) == (0, 1)
    assert "503" in str(summary.later)
    assert n.context.record().cancelled
    assert closed(n) == every(3, STOPPED)
    assert accepted(simulator)[0]["counts"]["canceled"] == 3


def test_cancelling_twice_keeps_the_first_reason_and_asks_once(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(turnaround_seconds=3600, cancel_seconds=3600)
    n = night(count=3, golden=0)
    n.submit()
    assert cancel(n, "first") == CancelSummary(asked=1, open=1)
    assert cancel(n, "second") == CancelSummary(asked=0, open=1)
    assert n.context.record().cancel_reason == "first"
    assert _cancels(simulator) == 1


def test_a_settled_load_has_nothing_to_cancel(simulate: Simulate, night: MakeNight) -> None:
    simulate()
    n = night(count=3, golden=0)
    n.settle()
    with pytest.raises(PipelineError, match="nothing is left to cancel"):
        cancel(n)
    assert not n.context.record().cancelled
    assert n.publish().promotion.rows == 3


# Afterwards


@pytest.fixture
def cancelled(simulate: Simulate, night: MakeNight) -> Night:
    """A load of 12 rows, closed with half of its answers."""
    simulate(turnaround_seconds=3600, done_when_stopped=0.5)
    n = night(count=12, golden=0)
    n.submit()
    cancel(n)
    closed(n)
    return n


def test_the_gate_holds_it_with_the_reason_and_who_it_was(cancelled: Night) -> None:
    with pytest.raises(GateClosedError, match="the wrong prompt"):
        cancelled.publish()
    gate = measure_load(cancelled.context).gate
    assert gate is not None
    assert any("cancelled" in reason and "the wrong prompt" in reason for reason in gate.reasons)
    assert cancelled.next() is Action.HELD


def test_what_came_may_be_promoted_with_a_reason(cancelled: Night) -> None:
    done = list(finals(cancelled).values()).count(VALID)
    with pytest.raises(GateClosedError):
        cancelled.publish()
    assert cancelled.publish(override_reason="half is enough").promotion.rows == done


def test_sending_it_again_makes_a_new_generation_that_is_not_cancelled(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(turnaround_seconds=3600)
    n = night(count=3, golden=0)
    n.submit()
    cancel(n)
    closed(n)
    simulate()
    read_source(n.context, resend=True, requested_by="run 2")
    record: Any = n.context.record()
    assert (record.generation, record.cancelled) == (2, False)
    assert closed(n) == every(3, VALID)


def _cancels(simulator: Simulator) -> int:
    return sum(account_of(simulator)["calls"].get("cancel", {}).values())
