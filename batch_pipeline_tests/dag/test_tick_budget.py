"""A tick over many open batches: how often it calls the API, and how it ends when the API is slow. Counted, not timed."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import dagster as dg
import httpx2
import pytest

from batch_pipeline.claude.deadline import Deadline
from batch_pipeline.dag.sensor import TICK_BUDGET_SECONDS
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.dag.test_sensor import launched, tick
from batch_pipeline_tests.night import Night

BATCHES = 50
SECONDS_PER_CALL = 2.0


class Calls:
    """The calls of every client, and a clock that each of them moves on by `SECONDS_PER_CALL`."""

    def __init__(self) -> None:
        self.paths: list[str] = []

    def monotonic(self) -> float:
        return SECONDS_PER_CALL * len(self.paths)

    @property
    def seconds(self) -> float:
        return self.monotonic()

    def again(self) -> None:
        self.paths.clear()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    made, send = Calls(), httpx2.Client.send

    def counted(client: httpx2.Client, request: httpx2.Request, **options: Any) -> Any:
        answer = send(client, request, **options)
        made.paths.append(request.url.path.partition("/v1/messages/batches")[2])
        return answer

    monkeypatch.setattr(httpx2.Client, "send", counted)
    monkeypatch.setattr(
        "batch_pipeline.claude.deadline.time", SimpleNamespace(monotonic=made.monotonic)
    )
    return made


def sent(night: Callable[..., Night], loads: int, **options: Any) -> list[Night]:
    """So many loads of one workload, sent; together they have `BATCHES` open batches of one request each."""
    nights = [
        night(
            count=BATCHES // loads,
            golden=0,
            day=f"2026-11-{day:02}",
            limits={"max_requests": 1},
            **options,
        )
        for day in range(1, loads + 1)
    ]
    for one in nights:
        one.submit()
    assert sum(len(one.ledger.batches(one.context.record())) for one in nights) == BATCHES
    return nights


def still_open(nights: list[Night]) -> int:
    return sum(batch.open for one in nights for batch in one.ledger.batches(one.context.record()))


@pytest.mark.parametrize("loads", [1, 10])
def test_fifty_open_batches_cost_one_call(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    instance: dg.DagsterInstance,
    calls: Calls,
    loads: int,
) -> None:
    simulate(turnaround_seconds=3600)
    nights = sent(night, loads)
    calls.again()

    tick(nights[0], instance)

    assert calls.paths == [""]
    assert still_open(nights) == BATCHES


def test_ended_batches_of_ten_loads_are_seen_in_one_call(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    instance: dg.DagsterInstance,
    calls: Calls,
) -> None:
    simulate()
    nights = sent(night, 10)
    calls.again()

    data = tick(nights[0], instance)

    assert calls.paths == [""]
    assert still_open(nights) == 0
    assert len(launched(data)) == 10


def test_with_a_slow_api_each_tick_ends_in_time_and_together_they_come_to_every_load(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    instance: dg.DagsterInstance,
    calls: Calls,
) -> None:
    """The list shows none of the batches, so each is asked for by itself."""
    simulate(calls=[{"on": "list", "fault": "lag", "seconds": 3600}])
    nights = sent(night, 10)
    cursor, left = None, [BATCHES]

    while left[-1] and len(left) < 10:
        calls.again()
        data = tick(nights[0], instance, cursor)
        cursor = data.cursor
        assert calls.seconds <= TICK_BUDGET_SECONDS
        left.append(still_open(nights))

    # Twenty calls fit, of which the list takes one, and what was asked is not asked again.
    assert left == [50, 31, 12, 0]


def test_a_load_that_takes_a_whole_tick_does_not_keep_the_others_from_theirs(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    instance: dg.DagsterInstance,
    calls: Calls,
) -> None:
    """No batch ever ends, so the first load could be asked about for ever."""
    simulate(turnaround_seconds=3600, calls=[{"on": "list", "fault": "lag", "seconds": 3600}])
    nights = sent(night, 2)
    asked: set[str] = set()
    cursor = None

    for _ in range(20):
        calls.again()
        data = tick(nights[0], instance, cursor)
        assert calls.seconds <= TICK_BUDGET_SECONDS
        cursor = data.cursor
        asked.update(path.strip("/") for path in calls.paths if path)

    for one in nights:
        ids = {batch.batch_id for batch in one.ledger.batches(one.context.record())}
        assert ids <= asked
    assert "the next look goes on" in str(data.skip_message)


def test_after_the_deadline_no_call_begins_and_before_it_none_is_given_longer(
    calls: Calls,
) -> None:
    deadline = Deadline(10)
    request = httpx2.Request("GET", "http://127.0.0.1", extensions={"timeout": {"read": 600.0}})
    calls.paths += ["", ""]
    deadline(request)
    assert request.extensions["timeout"] == dict.fromkeys(("connect", "read", "write", "pool"), 6.0)
    calls.paths += ["", "", ""]
    assert deadline.passed
    with pytest.raises(Exception, match="the next look goes on"):
        deadline(request)
