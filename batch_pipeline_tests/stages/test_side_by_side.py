"""Batches that go out and come back side by side: each by the same protocol, none paid twice."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import ChunkState
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.collect import collect_results
from batch_pipeline.stages.side_by_side import side_by_side
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline_tests.night import Night
from batch_pipeline_tests.stages.watching import Watch, accepted, chunk_states, paid_twice, posts

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

SIX_CHUNKS = {"count": 12, "golden": 0, "limits": {"max_requests": 2}}


class Crowd:
    """Counts how many are inside at once; the first wait there until `needed` have come, for a bounded time."""

    def __init__(self, needed: int) -> None:
        self._meeting = threading.Barrier(needed)
        self._lock = threading.Lock()
        self._inside = self._come = 0
        self._needed = needed
        self.most = 0

    @contextmanager
    def inside(self) -> Iterator[None]:
        with self._lock:
            self._inside += 1
            self._come += 1
            first = self._come <= self._needed
            self.most = max(self.most, self._inside)
        try:
            if first:
                self._meeting.wait(10)
            yield
        finally:
            with self._lock:
                self._inside -= 1

    def enter(self, _body: Path) -> None:
        with self.inside():
            pass


# Work


@pytest.mark.parametrize("at_once", [1, 2, 3])
def test_each_thing_is_worked_on_once(at_once: int) -> None:
    done: list[int] = []
    side_by_side(done.append, range(7), at_once)
    assert sorted(done) == list(range(7))


def test_so_many_are_worked_on_at_once_and_no_more() -> None:
    crowd = Crowd(2)

    def work(_: int) -> None:
        with crowd.inside():
            pass

    side_by_side(work, range(6), 2)
    assert crowd.most == 2


@pytest.mark.parametrize("at_once", [1, 2])
def test_what_fails_keeps_the_rest_from_being_begun(at_once: int) -> None:
    begun: list[int] = []

    def work(n: int) -> None:
        begun.append(n)
        if n == 0:
            raise PipelineError("this one")

    with pytest.raises(PipelineError, match="this one"):
        side_by_side(work, range(500), at_once)
    assert len(begun) < 500


# Out


def test_two_are_uploaded_at_once_and_each_row_is_sent_once(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator, crowd = simulate(), Crowd(2)
    n = night(**SIX_CHUNKS, at_once=2)
    read_source(n.context)
    summary = send_pending(n.context, Watch(before=crowd.enter))
    assert (crowd.most, summary.batches, summary.requests) == (2, 6, 12)
    n.settle()
    assert (posts(simulator), paid_twice(simulator)) == (6, 0)


def test_answers_that_are_lost_side_by_side_are_looked_for_each(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two batches of the same size, and no answer to either: each is found, none is sent again."""
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "1")
    simulator = simulate(calls=[{"on": "create", "fault": "drop_after_accepting", "first": 2}])
    n, crowd = night(**SIX_CHUNKS, at_once=2), Crowd(2)
    read_source(n.context)
    waits_for = send_pending(n.context, Watch(before=crowd.enter)).waits_for
    assert waits_for is not None and "was sent, but" in waits_for
    assert chunk_states(n) == {ChunkState.INTENT: 2}
    assert posts(simulator) == 2
    card = n.settle()
    assert card.dispositions["validated"] == 12
    assert (len(accepted(simulator)), paid_twice(simulator)) == (6, 0)


def test_one_that_is_refused_does_not_lose_the_one_beside_it(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(
        calls=[{"on": "create", "fault": "status", "status": 429, "nth": 1, "retry_after": 0}]
    )
    n, crowd = night(**SIX_CHUNKS, at_once=2), Crowd(2)
    read_source(n.context)
    summary = send_pending(n.context, Watch(before=crowd.enter))
    assert summary.waits_for is not None
    found = chunk_states(n)
    assert found[ChunkState.NOT_CREATED] == 1
    assert summary.batches == found[ChunkState.SUBMITTED]
    # Whichever was answered first, what was under way is known, and nothing was begun after the refusal.
    assert found[ChunkState.SUBMITTED] in (1, 2) and not found[ChunkState.INTENT]
    card = n.settle()
    assert card.dispositions["validated"] == 12
    assert paid_twice(simulator) == 0


# Back


def test_two_are_read_back_at_once_and_one_that_lags_keeps_none_from_it(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(calls=[{"on": "results", "fault": "status", "status": 500, "first": 3}])
    n = night(**SIX_CHUNKS, at_once=3)
    n.submit()
    n.wait()
    crowd = Crowd(3)

    class Meeting(BatchesApi):
        def download(self, batch_id: str, to: Path) -> bool:
            if not to.name.startswith("0"):
                return super().download(batch_id, to)
            with crowd.inside():
                return super().download(batch_id, to)

    summary = collect_results(n.context, Meeting)
    assert crowd.most == 3
    assert summary.batches + len(summary.postponed) == 6
    assert sum(summary.results.values()) == 2 * summary.batches
    assert n.settle().dispositions["validated"] == 12
