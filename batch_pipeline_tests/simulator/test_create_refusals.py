"""What a create call is refused for at once."""

from __future__ import annotations

from typing import Any

import anthropic
import httpx2
import orjson
import pytest
from anthropic import Anthropic
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_pipeline.simulator import Simulator

from .asking import VERSION, account, client_of, params, requests, send
from .conftest import Simulate


def _post(simulator: Simulator, body: bytes, **headers: str) -> httpx2.Response:
    return httpx2.post(
        f"{simulator.base_url}/v1/messages/batches",
        content=body,
        headers={"x-api-key": "k", "anthropic-version": VERSION, **headers},
    )


def _message(answer: httpx2.Response) -> str:
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"
    return str(answer.json()["error"]["message"])


@pytest.mark.parametrize(
    "body",
    [
        b'{"requests":[{"custom_id":"a","params":{}};{"custom_id":"b","params":{}}]}',
        b"",
        b"not json",
        b'{"requests":[',
        b'{"requests":[{"custom_id":"a","params":{}}]',
        b"\xff",
    ],
)
def test_malformed_json(simulator: Simulator, body: bytes) -> None:
    assert "body" in _message(_post(simulator, body))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ([], "Input should be a valid dictionary"),
        ({}, "requests: Field required"),
        ({"requests": {}}, "requests: Input should be a valid list"),
        ({"requests": []}, "requests: List should have at least 1 item"),
        ({"requests": [], "name": "x"}, "name: Extra inputs are not permitted"),
        ({"requests": ["x"]}, "requests.0: Input should be a valid dictionary"),
        ({"requests": [{"params": {}}]}, "requests.0.custom_id: Field required"),
        ({"requests": [{"custom_id": "a"}]}, "requests.0.params: Field required"),
        ({"requests": [{"custom_id": "a", "params": 1}]}, "requests.0.params: Input should be"),
        (
            {"requests": [{"custom_id": "a", "params": {}, "tag": 1}]},
            "requests.0.tag: Extra inputs are not permitted",
        ),
    ],
)
def test_bodies_of_another_shape(simulator: Simulator, body: Any, message: str) -> None:
    assert message in _message(_post(simulator, orjson.dumps(body)))


@pytest.mark.parametrize(
    ("custom_id", "message"),
    [
        ("", "String should have at least 1 character"),
        ("x" * 65, "String should have at most 64 characters"),
        ("a b", "String should match pattern '^[a-zA-Z0-9_-]{1,64}$'"),
        ("a\n", "String should match pattern"),
        (7, "Input should be a valid string"),
    ],
)
def test_bad_custom_ids(simulator: Simulator, custom_id: Any, message: str) -> None:
    asked = [*requests("a"), {"custom_id": custom_id, "params": params()}]
    body = orjson.dumps({"requests": asked})
    assert f"requests.1.custom_id: {message}" in _message(_post(simulator, body))


def test_a_custom_id_of_64_characters_is_fine(client: Anthropic) -> None:
    send(client, [{"custom_id": "x" * 64, "params": params()}])


def test_duplicate_custom_ids(client: Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match=r"requests\.1\.custom_id"):
        client.messages.batches.create(requests=requests("a") * 2)  # type: ignore[arg-type]


def test_too_many_requests(simulate: Simulate) -> None:
    client = client_of(simulate(max_requests=2))
    send(client, requests("a", "b"))
    with pytest.raises(anthropic.BadRequestError, match="at most 2 items"):
        client.messages.batches.create(requests=requests("a", "b", "c"))  # type: ignore[arg-type]


def test_too_many_bytes(simulate: Simulate) -> None:
    client = client_of(simulate(max_bytes=1_000))
    with pytest.raises(anthropic.ContentTooLargeError) as caught:
        client.messages.batches.create(requests=requests("x" * 2_000_000))  # type: ignore[arg-type]
    assert str(caught.value.type) == "request_too_large"


def test_an_encoded_body(simulator: Simulator) -> None:
    answer = _post(simulator, b"x", **{"content-encoding": "gzip"})
    assert answer.status_code == 400
    assert answer.json()["error"]["details"]["error_code"] == "request_body_encoding_unsupported"


def test_a_full_queue(simulate: Simulate) -> None:
    client = client_of(simulate(queue_limit=3, turnaround_seconds=60))
    first = client.messages.batches.create(requests=requests("a", "b"))  # type: ignore[arg-type]
    with pytest.raises(anthropic.RateLimitError, match="queue"):
        client.messages.batches.create(requests=requests("a", "b"))  # type: ignore[arg-type]
    client.messages.batches.cancel(first.id)
    client.messages.batches.retrieve(first.id)
    client.messages.batches.create(requests=requests("a", "b"))  # type: ignore[arg-type]


def test_a_refused_batch_leaves_no_trace(simulate: Simulate) -> None:
    simulator = simulate()
    client = client_of(simulator)
    with pytest.raises(anthropic.BadRequestError):
        client.messages.batches.create(requests=requests("a") * 2)  # type: ignore[arg-type]
    assert list(client.messages.batches.list()) == []
    assert account(simulator)["batches"] == []


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("custom_id_first", [True, False])
def test_any_layout_of_the_json_is_read(
    simulator: Simulator, client: Anthropic, indent: int | None, custom_id_first: bool
) -> None:
    asked = requests("a", "b", "c")
    if not custom_id_first:
        asked = [{"params": r["params"], "custom_id": r["custom_id"]} for r in asked]
    body = orjson.dumps({"requests": asked}, option=orjson.OPT_INDENT_2 if indent else None)
    batch = client.messages.batches.retrieve(_post(simulator, body).json()["id"])
    found = {line.custom_id for line in client.messages.batches.results(batch.id)}
    assert found == {"r0", "r1", "r2"}


@settings(max_examples=30, deadline=None)
@given(texts=st.lists(st.text(min_size=1), min_size=1, max_size=5))
def test_text_that_looks_like_the_next_request_stays_text(
    simulator: Simulator, client: Anthropic, texts: list[str]
) -> None:
    hostile = [t + '"}},{"custom_id":"x","params":{}}]}' for t in texts]
    nested = {"custom_id": "inner", "more": [{"custom_id": "inner"}, {"custom_id": "inner"}]}
    asked = [
        {"custom_id": f"r{i}", "params": params(text, metadata=nested)}
        for i, text in enumerate([*texts, *hostile])
    ]
    answer = _post(simulator, orjson.dumps({"requests": asked}))
    assert answer.json()["request_counts"]["processing"] == len(asked)
