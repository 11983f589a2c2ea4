from __future__ import annotations

import hashlib

import httpx2
import orjson

from .asking import VERSION, account, client_of, one_result, params, requests, results, send
from .conftest import Simulate


def test_a_batch_is_listed_with_the_hash_of_its_body(simulate: Simulate) -> None:
    simulator = simulate()
    body = orjson.dumps({"requests": requests("a", "b")}, option=orjson.OPT_INDENT_2)
    created = httpx2.post(
        f"{simulator.base_url}/v1/messages/batches",
        content=body,
        headers={"x-api-key": "k", "anthropic-version": VERSION},
    ).json()
    [listed] = account(simulator)["batches"]
    assert listed["id"] == created["id"]
    assert listed["created_at"] == created["created_at"]
    assert listed["requests"] == 2
    assert listed["sha256"] == hashlib.sha256(body).hexdigest()


def test_params_billed_twice_are_seen(simulate: Simulate) -> None:
    simulator = simulate()
    client = client_of(simulator)
    send(client, requests("a", "b", "c"))
    again = [{"custom_id": "other-id", "params": dict(reversed(params("b").items()))}]
    send(client, again)
    assert account(simulator)["params_billed"] == {"1": 2, "2": 1}


def test_another_model_is_another_question(simulate: Simulate) -> None:
    simulator = simulate()
    client = client_of(simulator)
    one_result(client)
    one_result(client, model="claude-sonnet-4-6")
    found = account(simulator)
    assert found["params_billed"] == {"1": 2}
    assert set(found["tokens"]) == {"claude-haiku-4-5", "claude-sonnet-4-6"}


def test_what_failed_and_was_sent_again_is_billed_once(simulate: Simulate) -> None:
    simulator = simulate(rows=[{"times": 1, "fault": "server_error"}])
    client = client_of(simulator)
    one_result(client)
    one_result(client)
    assert account(simulator)["params_billed"] == {"1": 1}


def test_nothing_is_billed_before_the_end(simulate: Simulate) -> None:
    simulator = simulate(turnaround_seconds=60)
    client_of(simulator).messages.batches.create(requests=requests("a"))  # type: ignore[arg-type]
    found = account(simulator)
    assert found["requests"]["accepted"] == 1
    assert found["tokens"] == {}
    assert found["params_billed"] == {}


def test_single_messages_are_billed_apart(simulate: Simulate) -> None:
    simulator = simulate()
    message = client_of(simulator).messages.create(**params())
    found = account(simulator)
    assert found["messages"]["billed"] == 1
    spent = found["messages"]["tokens"]["claude-haiku-4-5"]
    assert spent["output"] == message.usage.output_tokens
    assert found["params_billed"] == {}


def test_calls_are_counted_by_kind_and_status(simulate: Simulate) -> None:
    simulator = simulate(calls=[{"on": "list", "nth": 2, "fault": "status", "status": 529}])
    client = client_of(simulator)
    client.messages.batches.list()
    httpx2.get(f"{simulator.base_url}/v1/messages/batches")
    client.with_options(max_retries=1).messages.batches.list()
    assert account(simulator)["calls"]["list"] == {"200": 2, "401": 1, "529": 1}


def test_people_are_told_what_it_is_and_what_it_has(simulate: Simulate) -> None:
    simulator = simulate(description="A night with a lost answer", seed=7)
    client = client_of(simulator)
    batch = send(client, requests("a"))
    results(client, requests("secret row"))
    text = httpx2.get(f"{simulator.base_url}/simulator").text
    assert "simulator of the Message Batches API" in text
    assert "A night with a lost answer; seed 7" in text
    assert f"{batch.id}        1 requests  ended" in text
    assert "secret" not in text
