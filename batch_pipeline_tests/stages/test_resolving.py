"""Chunks whose create call was never answered: what they became is found out before anything is sent."""

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any

import pytest

from batch_pipeline.claude.client import BatchesApi, BatchStatus
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Batch, ChunkState
from batch_pipeline.ledger.records import Adopted
from batch_pipeline.ledger.transactions import now
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.collect import collect_results
from batch_pipeline.stages.findings import findings
from batch_pipeline.stages.next_step import Action
from batch_pipeline.stages.poll import poll
from batch_pipeline.stages.resolve import CLOCK_SKEW, Resolution, resolve
from batch_pipeline_tests.night import HAIKU, Night, account_of, rows
from batch_pipeline_tests.stages.watching import (
    Final,
    accepted,
    ask,
    chunk_states,
    create,
    finals,
    paid_twice,
    posts,
)

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

VALID = Final("validated", None, 0, 1)
LOST = {"on": "create", "nth": 1, "fault": "drop_after_accepting"}
NEVER = {"on": "create", "nth": 1, "fault": "drop_before_accepting"}
LAG = {"on": "list", "fault": "lag"}


def look(night: Night) -> Resolution:
    found = resolve(night.context, BatchesApi())
    assert found is not None
    return found


def batches(night: Night) -> list[Batch]:
    return night.ledger.batches(night.context.record())


def ids(simulator: Simulator) -> list[str]:
    return [batch["id"] for batch in accepted(simulator)]


def end(simulator: Simulator, night: Night, *batch_ids: str) -> None:
    """Ends batches now. For scenarios in which all is done when a batch is canceled."""
    for batch_id in batch_ids:
        ask(simulator, "POST", f"{batch_id}/cancel")
        while json.loads(ask(simulator, "GET", batch_id))["processing_status"] != "ended":
            time.sleep(0.01)
    record = night.context.record()
    poll(night.ledger, record, BatchesApi(), night.context.settings.grace_seconds)


@pytest.fixture
def slow(simulate: Simulate) -> Callable[..., Simulator]:
    """A simulator whose batches run until they are canceled, and are complete then."""
    return lambda *calls: simulate(turnaround_seconds=3600, done_when_stopped=1, calls=list(calls))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A grace period that no test lives to see."""
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "300")


# Adopted


def test_a_batch_that_has_ended_is_adopted_by_its_token(
    simulate: Simulate, night: MakeNight, patient: None
) -> None:
    simulator = simulate(calls=[LOST])
    n = night(count=3, golden=0)
    n.submit()
    found = look(n)
    [batch] = batches(n)
    assert found.said == [f"batch {batch.batch_id} is a chunk's whose answer was lost: adopted"]
    assert (batch.batch_id, batch.adopted) == (ids(simulator)[0], Adopted.CONFIRMED)
    assert n.settle().dispositions["validated"] == 3
    assert posts(simulator) == 1


def test_one_that_runs_is_adopted_until_its_results_confirm_it(
    slow: Callable[..., Simulator], night: MakeNight, patient: None
) -> None:
    simulator = slow(LOST)
    n = night(count=3, golden=0)
    n.submit()
    assert "adopted until its results confirm it" in look(n).said[0]
    [batch] = batches(n)
    assert (batch.batch_id, batch.adopted) == (ids(simulator)[0], Adopted.PROVISIONAL)
    end(simulator, n, batch.batch_id)
    n.settle()
    assert [b.adopted for b in batches(n)] == [Adopted.CONFIRMED]
    assert set(finals(n).values()) == {VALID}
    assert posts(simulator) == 1


def test_the_rest_of_the_load_is_sent_once_the_lost_batch_is_adopted(
    simulate: Simulate, night: MakeNight, patient: None
) -> None:
    simulator = simulate(turnaround_seconds=0.5, calls=[{**LOST, "nth": 2}])
    n = night(count=10, golden=0, limits={"max_requests": 3})
    n.settle()
    assert [b["requests"] for b in accepted(simulator)] == [3, 3, 3, 1]
    assert set(finals(n).values()) == {VALID}
    assert {b.batch_id for b in batches(n)} == set(ids(simulator))
    assert paid_twice(simulator) == 0


def test_a_batch_older_than_the_intent_is_not_taken_for_it_whatever_its_size(
    slow: Callable[..., Simulator], night: MakeNight, patient: None
) -> None:
    simulator = slow({**NEVER, "nth": 2})
    create(simulator, 3)
    n = night(count=3, golden=0)
    n.submit()
    # Clocks may differ by minutes: only what is older than that is surely another's.
    [chunk] = n.ledger.chunks(n.context.record())
    _set_intended(n, chunk.chunk_id, CLOCK_SKEW + timedelta(seconds=30))
    assert look(n).unresolved == 1
    assert batches(n) == []


# Other writers in the workspace


def test_another_writers_batch_of_the_same_size_is_given_back_and_ours_found(
    slow: Callable[..., Simulator], night: MakeNight, patient: None
) -> None:
    """Ours appears in the list only when the other was taken for it already."""
    simulator = slow(LOST)
    n = night(count=3, golden=0)
    n.submit()
    [ours] = ids(simulator)
    theirs = create(simulator, 3)
    hidden = _Hiding(ours)
    assert resolve(n.context, hidden) is not None
    assert [(b.batch_id, b.adopted) for b in batches(n)] == [(theirs, Adopted.PROVISIONAL)]

    end(simulator, n, theirs)
    collect_results(n.context, BatchesApi)
    assert chunk_states(n) == {ChunkState.INTENT: 1}
    assert n.next() is Action.RESOLVE
    assert resolve(n.context, hidden) is not None
    assert batches(n) == []

    look(n)
    assert [b.batch_id for b in batches(n)] == [ours]
    end(simulator, n, ours)
    n.settle()
    assert set(finals(n).values()) == {VALID}
    assert len(ids(simulator)) == 2


def test_when_only_another_writers_batch_was_there_the_rows_are_sent_again(
    slow: Callable[..., Simulator], night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.3")
    simulator = slow(NEVER)
    n = night(count=3, golden=0)
    n.submit()
    theirs = create(simulator, 3)
    look(n)
    assert [b.batch_id for b in batches(n)] == [theirs]
    end(simulator, n, theirs)
    collect_results(n.context, BatchesApi)
    while n.step() is not Action.WAIT:
        pass
    [ours] = batches(n)
    assert ours.batch_id == ids(simulator)[1]
    end(simulator, n, ours.batch_id)
    n.settle()
    assert set(finals(n).values()) == {VALID}
    assert chunk_states(n) == {ChunkState.NOT_FOUND: 1, ChunkState.SUBMITTED: 1}
    assert len(ids(simulator)) == 2


def test_among_several_candidates_none_is_guessed_and_their_results_tell(
    slow: Callable[..., Simulator], night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.1")
    simulator = slow(LOST)
    n = night(count=3, golden=0)
    n.submit()
    [ours] = ids(simulator)
    theirs = create(simulator, 3)
    for _ in range(3):
        found = look(n)
        assert found.unresolved == 1
        assert found.said[0].startswith("2 batch(es) of 3 requests may be the chunk")
        time.sleep(0.06)  # the grace period does not end it: one of them may be ours
    end(simulator, n, theirs)
    look(n)
    assert [b.batch_id for b in batches(n)] == [ours]
    end(simulator, n, ours)
    n.settle()
    assert set(finals(n).values()) == {VALID}
    assert len(ids(simulator)) == 2


# Several lost answers at once


@pytest.mark.parametrize("turnaround", [0, 0.4, (0, 0.8)], ids=str)
@pytest.mark.parametrize("others", ["another load", "another workload"])
def test_two_lost_chunks_of_one_size_are_never_mistaken_for_each_other(
    simulate: Simulate, night: MakeNight, patient: None, others: str, turnaround: Any
) -> None:
    simulator = simulate(turnaround_seconds=turnaround, calls=[{**LOST, "nth": [1, 2]}])
    second = {"day": "2026-11-19"} if others == "another load" else {"name": "others"}
    nights = [night(golden=0, source=rows(4))]
    nights[0].submit()
    nights.append(night(golden=0, source=rows(4, start=50), **second))
    nights[1].submit()
    until = time.monotonic() + 30
    while {each.next() for each in nights} - {Action.PUBLISH} and time.monotonic() < until:
        for each in nights:
            if each.next() is not Action.PUBLISH:
                each.step()
    for each in nights:
        assert set(finals(each).values()) == {VALID}
        [batch] = batches(each)
        [chunk] = each.ledger.chunks(each.context.record())
        results = ask(simulator, "GET", f"{batch.batch_id}/results").splitlines()
        assert {json.loads(line)["custom_id"].split("-")[0] for line in results} == {chunk.token}
    assert len(ids(simulator)) == 2
    assert paid_twice(simulator) == 0


def test_a_batch_that_two_lost_chunks_could_claim_is_nobodys_until_its_results_tell(
    slow: Callable[..., Simulator], night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first load's chunk was never created, the second's was: both look at the one batch there is."""
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.2")
    simulator = slow(NEVER, {**LOST, "nth": 2})
    one = night(golden=0, source=rows(4))
    one.submit()
    other = night(golden=0, source=rows(4, start=50), name="others")
    other.submit()
    for each in (one, other, one, other):
        assert look(each).unresolved == 1
        assert batches(each) == []
        time.sleep(0.1)
    [orphan] = ids(simulator)
    end(simulator, one, orphan)
    look(one)
    look(other)
    assert batches(one) == []
    assert [b.batch_id for b in batches(other)] == [orphan]
    while one.step() is not Action.WAIT:
        pass
    [_, again] = ids(simulator)
    end(simulator, one, again)
    for each in (one, other):
        each.settle()
        assert set(finals(each).values()) == {VALID}
    assert len(ids(simulator)) == 2
    assert paid_twice(simulator) == 0


# A list that lags


def test_a_list_that_lags_for_less_than_the_grace_costs_only_time(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "30")
    simulator = simulate(calls=[LOST, {**LAG, "seconds": 0.5}])
    n = night(count=3, golden=0)
    n.submit()
    assert look(n).unresolved == 1
    n.settle()
    assert set(finals(n).values()) == {VALID}
    assert posts(simulator) == 1


@pytest.fixture
def paid_for_twice(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Simulator, Night]]:
    """A load whose list lagged for longer than the grace period, settled, and the late batch seen."""
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.1")
    simulator = simulate(calls=[LOST, {**LAG, "seconds": 2}])
    n = night(count=3, golden=0)
    n.submit()
    n.settle()
    while ChunkState.DUPLICATE not in chunk_states(n):
        look(n)
        time.sleep(0.05)
    n.settle()
    yield simulator, n


def test_a_list_that_lags_for_longer_pays_twice_and_says_so(
    paid_for_twice: tuple[Simulator, Night],
) -> None:
    simulator, n = paid_for_twice
    assert len(ids(simulator)) == 2
    assert set(finals(n).values()) == {VALID}
    assert chunk_states(n) == {ChunkState.DUPLICATE: 1, ChunkState.SUBMITTED: 1}
    [page] = [f for f in findings(n.ledger, n.context.record(), n.context.settings) if f.page]
    assert "they are paid twice. Raise BATCH_PIPELINE_GRACE_SECONDS" in page.sentence


def test_what_a_duplicate_cost_is_counted(paid_for_twice: tuple[Simulator, Night]) -> None:
    simulator, n = paid_for_twice
    billed = account_of(simulator)["tokens"][HAIKU]
    assert paid_twice(simulator) == 3
    n.publish()
    card = n.settle().to_json()
    assert card["requests"] == 6
    assert card["results"]["succeeded"] == 6
    assert {kind: n for kind, n in card["tokens"].items() if n} == {
        kind: n for kind, n in billed.items() if n
    }
    assert card["cost_per_good_row_usd"] == pytest.approx(card["cost_usd"] / 3)
    assert card["savings"]["parts_usd"]["paid_twice"] == pytest.approx(card["cost_usd"] / 2)


def test_a_list_without_batches_that_we_know_of_is_waited_for_longer(
    slow: Callable[..., Simulator], night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.6")
    simulator = slow({**LOST, "nth": 2}, {**LAG, "seconds": 2})
    n = night(count=6, golden=0, limits={"max_requests": 3})
    n.submit()
    look(n)
    time.sleep(0.8)
    # Past the grace period; but the first batch, whose id is known, is not in the list either.
    assert "longer since the API's list lags" in look(n).said[0]
    assert chunk_states(n)[ChunkState.INTENT] == 1
    # The list comes to the first batch before it comes to the second.
    while look(n).unresolved:
        time.sleep(0.05)
    assert {b.batch_id for b in batches(n)} == set(ids(simulator))
    assert posts(simulator) == 2


def test_a_batch_that_appears_late_but_before_its_rows_went_out_again_is_adopted(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.1")
    simulator = simulate(calls=[LOST, {**LAG, "seconds": 1}])
    n = night(count=3, golden=0)
    n.submit()
    while look(n).unresolved:
        time.sleep(0.05)
    assert chunk_states(n) == {ChunkState.NOT_FOUND: 1}
    said: list[str] = []
    while not said:
        said = look(n).said
        time.sleep(0.05)
    assert said == [f"batch {ids(simulator)[0]} appeared late, and is adopted"]
    n.settle()
    assert set(finals(n).values()) == {VALID}
    assert posts(simulator) == 1


# When nothing can be said


def test_an_api_at_another_address_is_not_asked_and_nothing_is_concluded(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0")
    simulator = simulate(calls=[LOST])
    n = night(count=3, golden=0)
    n.submit()
    calls = account_of(simulator)["calls"]
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "https://batches.example")
    sentence = (
        rf"A chunk of .* was sent to {simulator.base_url}, but ANTHROPIC_BASE_URL now names "
        "https://batches.example; set it back"
    )
    with pytest.raises(ConfigurationError, match=sentence):
        look(n)
    with pytest.raises(ConfigurationError, match=sentence):
        n.submit()
    assert chunk_states(n) == {ChunkState.INTENT: 1}
    assert account_of(simulator)["calls"] == calls


def test_an_api_that_does_not_answer_leaves_the_chunk_open_whatever_the_grace(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0")
    simulator = simulate(calls=[LOST, {"on": "list", "first": 2, "fault": "status", "status": 529}])
    n = night(count=3, golden=0)
    n.submit()
    for _ in range(2):
        with pytest.raises(Exception, match="529"):
            look(n)
        assert chunk_states(n) == {ChunkState.INTENT: 1}
    assert n.settle().dispositions["validated"] == 3
    assert posts(simulator) == 1


def test_a_load_in_another_process_is_left_alone(simulate: Simulate, night: MakeNight) -> None:
    simulate(calls=[LOST])
    n = night(count=3, golden=0)
    n.submit()
    with n.ledger.hold(n.context.workload.name, n.context.load):
        assert resolve(n.context, BatchesApi()) is None
    assert chunk_states(n) == {ChunkState.INTENT: 1}
    look(n)
    assert chunk_states(n) == {ChunkState.SUBMITTED: 1}


class _Hiding(BatchesApi):
    """Its list leaves one batch out, as one that lags does."""

    def __init__(self, hidden: str) -> None:
        super().__init__()
        self._hidden = hidden

    def created_since(self, since: Any, enough: Any) -> list[BatchStatus]:
        listed = super().created_since(since, enough)
        return [batch for batch in listed if batch.batch_id != self._hidden]


def _set_intended(night: Night, chunk_id: str, ago: timedelta) -> None:
    """As if the chunk would be sent in the future: every batch that exists is older than it."""
    from sqlalchemy import update

    from batch_pipeline.ledger.tables import chunks

    night.ledger._write(
        update(chunks).where(chunks.c.chunk_id == chunk_id).values(intended_at=now() + ago)
    )


def test_a_clock_that_runs_ahead_of_the_apis_hides_no_batch(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate(calls=[LOST])
    ahead = CLOCK_SKEW + timedelta(minutes=20)

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Ahead":
            moment = datetime.now(tz) + ahead
            return cls.fromtimestamp(moment.timestamp(), tz)

    monkeypatch.setattr("batch_pipeline.ledger.transactions.datetime", Ahead)
    clock = SimpleNamespace(time=lambda: time.time() + ahead.total_seconds())
    monkeypatch.setattr("batch_pipeline.claude.client.time", clock)
    n = night()
    n.submit()
    assert [chunk.intended_at > datetime.now(UTC) for chunk in n.ledger.intents()] == [True]
    assert look(n).unresolved == 0
    monkeypatch.undo()
    assert ids(simulator) == [batch.batch_id for batch in batches(n)]
