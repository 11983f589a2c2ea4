"""Short ways to ask the simulated API something, through the real SDK."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx2
from anthropic import Anthropic
from anthropic.types.messages import MessageBatch

from batch_pipeline.simulator import Simulator

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "label": {"type": "string", "enum": ["red", "green", "blue"]},
        "score": {"type": "integer"},
    },
    "required": ["label", "score"],
    "additionalProperties": False,
}
FORMAT = {"format": {"type": "json_schema", "schema": SCHEMA}}
MODEL = "claude-haiku-4-5"
VERSION = "2026-10-21"


def client_of(simulator: Simulator, key: str = "a-key", timeout: float = 20) -> Anthropic:
    """A client that does not retry, so that each call is seen once."""
    return Anthropic(base_url=simulator.base_url, api_key=key, max_retries=0, timeout=timeout)


def params(text: str = "hello", **changed: Any) -> dict[str, Any]:
    """Valid params; a keyword changes one, and None leaves it out."""
    default = {
        "model": MODEL,
        "max_tokens": 200,
        "messages": [{"role": "user", "content": text}],
        "output_config": FORMAT,
    }
    return {k: v for k, v in {**default, **changed}.items() if v is not None}


def requests(*texts: str, **changed: Any) -> list[dict[str, Any]]:
    """One request per text, with ids r0, r1, ..."""
    return [
        {"custom_id": f"r{i}", "params": params(text, **changed)} for i, text in enumerate(texts)
    ]


def ended(client: Anthropic, batch_id: str) -> MessageBatch:
    """The batch, once it has ended."""
    deadline = time.monotonic() + 20
    while True:
        batch = client.messages.batches.retrieve(batch_id)
        if batch.processing_status == "ended":
            return batch
        assert time.monotonic() < deadline, "the batch does not end"
        time.sleep(0.02)


def send(client: Anthropic, asked: list[dict[str, Any]]) -> MessageBatch:
    """Create a batch and wait for its end."""
    batch = client.messages.batches.create(requests=asked)  # type: ignore[arg-type]
    return ended(client, batch.id)


def lines(simulator: Simulator, batch_id: str) -> list[str]:
    """The results as they come over the wire."""
    url = f"{simulator.base_url}/v1/messages/batches/{batch_id}/results"
    answer = httpx2.get(url, headers={"x-api-key": "k", "anthropic-version": VERSION})
    assert answer.status_code == 200
    return answer.text.splitlines()


def results(client: Anthropic, asked: list[dict[str, Any]]) -> dict[str, Any]:
    """Send, and give the results by custom_id."""
    batch = send(client, asked)
    return {line.custom_id: line.result for line in client.messages.batches.results(batch.id)}


def one_result(client: Anthropic, text: str = "hello", **changed: Any) -> Any:
    return results(client, requests(text, **changed))["r0"]


def answer_text(result: Any) -> str:
    assert result.type == "succeeded"
    return "".join(b.text for b in result.message.content if b.type == "text")


def answer(result: Any) -> Any:
    return json.loads(answer_text(result))


def account(simulator: Simulator) -> Any:
    return httpx2.get(f"{simulator.base_url}/simulator/account").json()
