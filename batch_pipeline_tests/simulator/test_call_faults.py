"""What can befall a single call, as the SDK sees it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import anthropic
import httpx2
import pytest
from anthropic import Anthropic

from batch_pipeline.simulator import Simulator

from .asking import account, client_of, ended, lines, params, requests, send
from .conftest import Simulate


def _create(client: Anthropic) -> Any:
    return client.messages.batches.create(requests=requests("a"))  # type: ignore[arg-type]


def _accepted(simulator: Simulator) -> int:
    return len(account(simulator)["batches"])


@pytest.mark.parametrize(
    ("rule", "error", "error_type"),
    [
        ({"status": 400}, anthropic.BadRequestError, "invalid_request_error"),
        ({"status": 409}, anthropic.ConflictError, "conflict_error"),
        ({"status": 429}, anthropic.RateLimitError, "rate_limit_error"),
        ({"status": 500}, anthropic.InternalServerError, "api_error"),
        ({"status": 529}, anthropic.OverloadedError, "overloaded_error"),
        ({"status": 403, "error_type": "odd"}, anthropic.PermissionDeniedError, "odd"),
        (
            {"status": 429, "error_code": "enforced_spend_limit_reached"},
            anthropic.EnforcedSpendLimitReachedError,
            "rate_limit_error",
        ),
    ],
)
def test_a_status_with_its_type_and_nothing_done(
    simulate: Simulate, rule: dict[str, Any], error: type[anthropic.APIStatusError], error_type: str
) -> None:
    simulator = simulate(calls=[{"on": "create", "fault": "status", **rule}])
    with pytest.raises(error) as caught:
        _create(client_of(simulator))
    assert caught.value.type == error_type
    assert _accepted(simulator) == 0


def test_a_status_may_tell_when_to_come_again(simulate: Simulate) -> None:
    rule = {"on": "list", "fault": "status", "status": 429, "retry_after": 7, "message": "Slow."}
    with pytest.raises(anthropic.RateLimitError, match="Slow") as caught:
        client_of(simulate(calls=[rule])).messages.batches.list()
    assert caught.value.response.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("fault", "accepted"), [("drop_before_accepting", 0), ("drop_after_accepting", 1)]
)
def test_a_dropped_connection(simulate: Simulate, fault: str, accepted: int) -> None:
    simulator = simulate(calls=[{"on": "create", "nth": 1, "fault": fault}])
    client = client_of(simulator)
    with pytest.raises(anthropic.APIConnectionError):
        _create(client)
    assert _accepted(simulator) == accepted
    _create(client)
    assert _accepted(simulator) == accepted + 1
    assert account(simulator)["calls"]["create"] == {"dropped": 1, "200": 1}


def test_an_error_after_accepting(simulate: Simulate) -> None:
    simulator = simulate(calls=[{"on": "create", "nth": 1, "fault": "error_after_accepting"}])
    with pytest.raises(anthropic.InternalServerError):
        _create(client_of(simulator))
    assert _accepted(simulator) == 1


def test_the_sdks_own_retries_pay_twice(simulate: Simulate) -> None:
    """The trap that the pipeline has to avoid is really there."""
    simulator = simulate(calls=[{"on": "create", "nth": 1, "fault": "drop_after_accepting"}])
    client = client_of(simulator)
    batch = _create(client.with_options(max_retries=2))
    ended(client, batch.id)
    for listed in client.messages.batches.list():
        ended(client, listed.id)
    assert _accepted(simulator) == 2
    assert account(simulator)["params_billed"] == {"2": 1}


@pytest.mark.parametrize(("when", "accepted"), [("before_accepting", 0), ("after_accepting", 1)])
def test_silence_makes_the_client_give_up(simulate: Simulate, when: str, accepted: int) -> None:
    rule = {"on": "create", "nth": 1, "fault": "hang", "seconds": 1, "when": when}
    simulator = simulate(calls=[rule])
    with pytest.raises(anthropic.APITimeoutError):
        _create(client_of(simulator, timeout=0.2))
    time.sleep(1.2)
    assert _accepted(simulator) == accepted


@pytest.mark.parametrize("when", ["before_accepting", "after_accepting"])
def test_a_patient_client_gets_its_answer_in_the_end(simulate: Simulate, when: str) -> None:
    rule = {"on": "create", "fault": "hang", "seconds": 0.3, "when": when}
    client = client_of(simulate(calls=[rule]))
    assert _create(client).processing_status == "in_progress"


def test_a_simulator_that_is_silent_can_be_stopped(simulate: Simulate) -> None:
    rule = {"on": "list", "fault": "hang", "seconds": 600}
    simulator = simulate(calls=[rule])
    with pytest.raises(anthropic.APITimeoutError):
        client_of(simulator, timeout=0.2).messages.batches.list()
    simulator.stop()


ROWS = [f"row {i}" for i in range(40)]


def _results_cut(simulate: Simulate, at: str, keep: float = 0.5) -> tuple[Simulator, Any]:
    rule = {"on": "results", "nth": 1, "fault": "cut_short", "at": at, "keep": keep}
    simulator = simulate(calls=[rule])
    return simulator, send(client_of(simulator), requests(*ROWS))


@pytest.mark.parametrize("keep", [0, 0.3, 0.99])
def test_results_that_end_on_a_line_boundary_look_complete(simulate: Simulate, keep: float) -> None:
    simulator, batch = _results_cut(simulate, "line", keep)
    client = client_of(simulator)
    found = list(client.messages.batches.results(batch.id))
    assert len(found) == pytest.approx(40 * keep, abs=1)
    assert len(lines(simulator, batch.id)) == 40


def test_results_that_end_within_a_line_do_not_parse(simulate: Simulate) -> None:
    simulator, batch = _results_cut(simulate, "mid_line")
    client, found = client_of(simulator), []
    with pytest.raises(json.JSONDecodeError):
        for line in client.messages.batches.results(batch.id):
            found.append(line.custom_id)  # noqa: PERF401 - what came before the error counts
    assert 10 < len(found) < 25
    assert len(lines(simulator, batch.id)) == 40


def test_results_whose_connection_breaks(simulate: Simulate) -> None:
    simulator, batch = _results_cut(simulate, "connection")
    client, seen = client_of(simulator), 0
    with pytest.raises(httpx2.RemoteProtocolError):
        for _ in client.messages.batches.results(batch.id):
            seen += 1
    assert 10 < seen < 25
    assert len(lines(simulator, batch.id)) == 40


@pytest.mark.parametrize("call", ["retrieve", "cancel"])
def test_a_batch_that_is_not_found_at_first(simulate: Simulate, call: str) -> None:
    rule = {"on": call, "fault": "not_found", "seconds": 0.3}
    client = client_of(simulate(turnaround_seconds=60, calls=[rule]))
    batch = _create(client)
    with pytest.raises(anthropic.NotFoundError):
        getattr(client.messages.batches, call)(batch.id)
    time.sleep(0.35)
    assert getattr(client.messages.batches, call)(batch.id).id == batch.id


def test_a_list_that_lags(simulate: Simulate) -> None:
    client = client_of(simulate(calls=[{"on": "list", "fault": "lag", "seconds": 0.4}]))
    batch = _create(client)
    assert client.messages.batches.list().data == []
    assert client.messages.batches.retrieve(batch.id).id == batch.id
    time.sleep(0.45)
    assert [b.id for b in client.messages.batches.list()] == [batch.id]


@pytest.mark.parametrize(
    ("selector", "hit"),
    [
        ({"nth": 2}, [2]),
        ({"nth": [1, 4]}, [1, 4]),
        ({"first": 2}, [1, 2]),
        ({"after": 3}, [4, 5]),
        ({"every": 2}, [2, 4]),
        ({"after": 1, "first": 3}, [2, 3]),
        ({}, [1, 2, 3, 4, 5]),
    ],
)
def test_a_rule_selects_calls(simulate: Simulate, selector: dict[str, Any], hit: list[int]) -> None:
    rule = {"on": "list", "fault": "status", "status": 529, **selector}
    client = client_of(simulate(calls=[rule]))
    failed = []
    for n in range(1, 6):
        try:
            client.messages.batches.list()
        except anthropic.OverloadedError:
            failed.append(n)
    assert failed == hit


def test_a_rule_may_count_several_kinds_together(simulate: Simulate) -> None:
    rule = {"on": ["list", "models"], "nth": 2, "fault": "status", "status": 500}
    client = client_of(simulate(calls=[rule]))
    client.messages.batches.list()
    with pytest.raises(anthropic.InternalServerError):
        client.models.list()


@pytest.mark.parametrize(
    "kind",
    ["create", "retrieve", "list", "results", "cancel", "delete", "messages", "count_tokens",
     "models"],
)  # fmt: skip
def test_every_kind_of_call_can_fail(simulate: Simulate, kind: str) -> None:
    simulator = simulate(
        calls=[{"on": kind, "after": 0, "fault": "drop_before_accepting"}],
        turnaround_seconds=60 if kind == "cancel" else 0,
    )
    client = client_of(simulator)
    batch_id = "none"
    if kind not in {"create", "messages", "count_tokens", "models"}:
        batch_id = _create(client).id
        if kind in {"results", "delete"}:
            ended(client, batch_id)
    messages = [{"role": "user", "content": "x"}]
    calls: dict[str, Callable[[], Any]] = {
        "create": lambda: _create(client),
        "retrieve": lambda: client.messages.batches.retrieve(batch_id),
        "list": client.messages.batches.list,
        "results": lambda: client.messages.batches.results(batch_id),
        "cancel": lambda: client.messages.batches.cancel(batch_id),
        "delete": lambda: client.messages.batches.delete(batch_id),
        "messages": lambda: client.messages.create(**params()),
        "count_tokens": lambda: client.messages.count_tokens(model="x", messages=messages),  # type: ignore[arg-type]
        "models": client.models.list,
    }
    with pytest.raises(anthropic.APIConnectionError):
        calls[kind]()
    assert account(simulator)["calls"][kind] == {"dropped": 1}


def test_the_account_says_which_faults_befell_which_calls(simulate: Simulate) -> None:
    simulator = simulate(
        calls=[
            {"on": ["create", "list"], "nth": [1, 3], "fault": "status", "status": 500},
            {"on": "create", "fault": "drop_after_accepting"},
        ]
    )
    client = client_of(simulator)
    for call in (_create, _create, lambda c: c.messages.batches.list()):
        with pytest.raises(anthropic.APIError):
            call(client)
    assert account(simulator)["faults"] == {
        "create": {"drop_after_accepting": 1, "status": 1},
        "list": {"status": 1},
    }
