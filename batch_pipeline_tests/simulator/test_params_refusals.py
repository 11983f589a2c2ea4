"""Params that the API refuses: later, as errored results in a batch; at once, of a single message."""

from __future__ import annotations

import re
from typing import Any

import anthropic
import orjson
import pytest
from anthropic import Anthropic

from .asking import MODEL, SCHEMA, account, answer, client_of, one_result, params, requests, results
from .conftest import Simulate


def _breakpoints(*ttls: str) -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": f"part {i}", "cache_control": {"type": "ephemeral", "ttl": ttl}}
        for i, ttl in enumerate(ttls)
    ]


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"temperature": 0.5}, "temperature: Extra inputs are not permitted"),
    ({"temperature": 1.0}, "temperature: Extra inputs are not permitted"),
    ({"top_p": 1.0}, "top_p: Extra inputs are not permitted"),
    ({"top_k": 5}, "top_k: Extra inputs are not permitted"),
    ({"betas": ["x"]}, "betas: Extra inputs are not permitted"),
    ({"requests": 1}, "requests: Extra inputs are not permitted"),
    ({"model": None}, "model: Field required"),
    ({"model": 5}, "model: Input should be a valid string"),
    ({"max_tokens": None}, "max_tokens: Field required"),
    ({"max_tokens": 0}, "max_tokens: Input should be greater than or equal to 1"),
    ({"max_tokens": "200"}, "max_tokens: Input should be a valid integer"),
    ({"max_tokens": 64_001}, f"max_tokens: 64001 > 64000, which is the maximum .* for {MODEL}"),
    ({"stream": True}, "stream: "),
    ({"inference_geo": "eu"}, "inference_geo: Input should be 'global' or 'us'"),
    ({"inference_geo": "us"}, f"inference_geo is not supported by {MODEL}"),
    ({"messages": None}, "messages: Field required"),
    ({"messages": []}, "messages: at least one message is required"),
    ({"messages": "hello"}, "messages: Input should be a valid list"),
    ({"messages": [{"role": "user"}]}, "messages.0.content: Field required"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role: Input should be"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages.0: .* non-empty content"),
    ({"messages": [{"role": "user", "content": "x", "id": 1}]}, "messages.0.id: Extra inputs"),
    ({"messages": [{"role": "assistant", "content": "x"}]}, "first message must use"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
        r"messages\.0\.content\.0\.text\.text: Field required",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
        "text content blocks must be non-empty",
    ),
    ({"system": [{"type": "text", "text": 5}]}, r"system\.0\.text: Input should be a valid string"),
    ({"system": _breakpoints(*["5m"] * 5)}, "A maximum of 4 blocks with cache_control .* Found 5"),
    ({"system": _breakpoints("5m", "1h")}, "must not come after"),
    ({"system": _breakpoints("2h")}, "cache_control.ttl: Input should be"),
    ({"thinking": {"type": "adaptive"}}, "thinking.type: adaptive is not supported"),
    ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "at least 1024"),
    ({"thinking": {"type": "enabled", "budget_tokens": 2_000}}, "must be greater than"),
    ({"output_config": {"effort": "high"}}, "output_config.effort: high is not supported"),
    ({"output_config": {"format": {"type": "json"}}}, "output_config.format.type: Input should be"),
    ({"service_tier": "batch"}, "service_tier: Input should be"),
]


@pytest.mark.parametrize(("changed", "message"), REFUSED, ids=lambda v: str(v)[:60])
def test_a_batch_takes_it_and_returns_an_errored_result(
    client: Anthropic, changed: dict[str, Any], message: str
) -> None:
    result = one_result(client, **changed)
    assert result.type == "errored"
    assert result.error.type == "error"
    assert result.error.error.type == "invalid_request_error"
    assert result.error.request_id.startswith("req_")
    assert re.search(message, result.error.error.message)


@pytest.mark.parametrize(("changed", "message"), REFUSED[:12], ids=lambda v: str(v)[:60])
def test_a_single_message_is_refused_at_once(
    client: Anthropic, changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(anthropic.BadRequestError, match=message):
        client.post("/v1/messages", body=params(**changed), cast_to=object)


def test_only_the_bad_request_fails(client: Anthropic) -> None:
    found = results(
        client, [*requests("good"), {"custom_id": "bad", "params": params(temperature=1)}]
    )
    assert {k: r.type for k, r in found.items()} == {"r0": "succeeded", "bad": "errored"}


def test_a_good_request_before_does_not_excuse_a_bad_one(client: Anthropic) -> None:
    """The validator remembers what was good; numbers that merely equal it are not."""
    for good, equal in ((200, 200.0), (1, True)):
        bad = {"custom_id": "bad", "params": params("c", max_tokens=equal)}
        found = results(client, [*requests(*(f"row {i}" for i in range(20)), max_tokens=good), bad])
        assert {k for k, r in found.items() if r.type == "errored"} == {"bad"}


@pytest.mark.parametrize("model", ["claude-haiku-9", "claude-mythos-preview"])
def test_an_unknown_or_retired_model(client: Anthropic, model: str) -> None:
    result = one_result(client, model=model)
    assert result.error.error.type == "not_found_error"
    assert result.error.error.message == f"model: {model}"


def test_a_prefill_is_refused_by_newer_models_only(client: Anthropic) -> None:
    messages = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "{"}]
    assert one_result(client, messages=messages).type == "succeeded"
    result = one_result(client, messages=messages, model="claude-sonnet-4-6")
    assert "prefill" in result.error.error.message


@pytest.mark.parametrize(
    ("model", "thinking", "taken"),
    [
        ("claude-sonnet-4-6", {"type": "adaptive"}, True),
        ("claude-opus-5-5", {"type": "disabled"}, False),
        ("claude-sonnet-5-5", {"type": "between_tools"}, True),
        ("claude-opus-5", {"type": "enabled", "budget_tokens": 1_024}, False),
    ],
)
def test_each_model_has_its_thinking(
    client: Anthropic, model: str, thinking: dict[str, Any], taken: bool
) -> None:
    result = one_result(client, model=model, thinking=thinking, max_tokens=2_000)
    assert (result.type == "succeeded") is taken


def test_newest_models_refuse_a_forced_tool(client: Anthropic) -> None:
    tool = {"name": "t", "input_schema": {"type": "object"}}
    forced: dict[str, Any] = {"tools": [tool], "tool_choice": {"type": "any"}}
    assert one_result(client, **forced).type == "succeeded"
    assert one_result(client, model="claude-opus-5-5", **forced).type == "errored"


def test_the_extended_output_beta_lifts_max_tokens(client: Anthropic) -> None:
    def type_of(betas: list[str]) -> str:
        batch = client.beta.messages.batches.create(
            requests=requests("x", model="claude-sonnet-4-6", max_tokens=300_000),  # type: ignore[arg-type]
            betas=betas,
        )
        [line] = client.messages.batches.results(batch.id)
        return line.result.type

    assert type_of(["output-300k-2026-03-24"]) == "succeeded"
    assert type_of(["some-other-beta"]) == "errored"


def test_the_older_api_version_still_takes_temperature(client: Anthropic) -> None:
    older = client.with_options(default_headers={"anthropic-version": "2023-06-01"})
    assert one_result(older, temperature=0.2).type == "succeeded"
    assert one_result(older, temperature=0.2, model="claude-opus-5").type == "errored"


def _format(field: dict[str, Any], **top: Any) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"f": field},
        "required": ["f"],
        "additionalProperties": False,
        **top,
    }
    return {"format": {"type": "json_schema", "schema": schema}}


LACKING: list[tuple[dict[str, Any], str]] = [
    (_format({"type": "integer", "minimum": 1}), "For 'integer' type, property 'minimum' is not"),
    (
        _format({"type": "integer", "minimum": 1, "maximum": 5}),
        "For 'integer' type, properties 'maximum', 'minimum' are not supported",
    ),
    (_format({"type": "string", "maxLength": 5}), "'maxLength' is not supported"),
    (_format({"type": "string", "minLength": 5}), "'minLength' is not supported"),
    (_format({"type": "number", "multipleOf": 2}), "'multipleOf' is not supported"),
    (_format({"type": "array", "items": {}, "minItems": 2}), "'minItems' values other than 0 or 1"),
    (_format({"type": "string"}, additionalProperties=True), "must be explicitly set to false"),
    (_format({"type": "object", "properties": {}}), "must be explicitly set to false"),
    (_format({"$ref": "#"}), "Recursive schemas are not supported"),
    (_format({"$ref": "https://example.com/s.json"}), "External \\$ref"),
    (_format({"$ref": "#/$defs/none"}), "\\$ref is not supported"),
    (
        _format({"$ref": "#/$defs/n"}, **{"$defs": {"n": {"anyOf": [{"$ref": "#/$defs/n"}]}}}),
        "Recursive",
    ),
    (
        _format({"type": "string"}, properties={f"p{i}": {} for i in range(25)}, required=[]),
        "too many optional parameters",
    ),
    (
        _format(
            {"type": "string"},
            properties={f"p{i}": {"type": ["string", "null"]} for i in range(17)},
            required=[f"p{i}" for i in range(17)],
        ),
        "too many parameters with union types",
    ),
]


@pytest.mark.parametrize(("config", "message"), LACKING, ids=lambda v: str(v)[-50:])
def test_a_schema_that_says_what_the_api_cannot(
    client: Anthropic, config: dict[str, Any], message: str
) -> None:
    result = one_result(client, output_config=config)
    assert result.type == "errored"
    assert re.search(f"output_config.format.schema: .*{message}", result.error.error.message)


@pytest.mark.parametrize(
    "field",
    [
        {"type": "string", "enum": ["a"], "description": "d", "title": "t", "default": "a"},
        {"type": "string", "pattern": "^a$", "format": "date"},
        {"type": "array", "items": {"type": "string"}, "minItems": 1},
        {"anyOf": [{"type": "string"}, {"type": "null"}]},
        {"$ref": "#/$defs/n"},
    ],
)
def test_a_schema_within_the_language_is_taken(client: Anthropic, field: dict[str, Any]) -> None:
    config = _format(field, **{"$defs": {"n": {"type": "string"}}})
    assert one_result(client, output_config=config).type == "succeeded"


def test_what_the_sdk_makes_of_a_schema_is_taken(client: Anthropic) -> None:
    schema = {
        **SCHEMA,
        "properties": {"n": {"type": "integer", "minimum": 2, "maximum": 5}},
        "required": ["n"],
    }
    config = {"format": {"type": "json_schema", "schema": anthropic.transform_schema(schema)}}
    assert answer(one_result(client, output_config=config))["n"] in range(2, 6)


def test_a_prompt_longer_than_the_context(simulate: Simulate) -> None:
    simulator = simulate()
    result = one_result(client_of(simulator), text="x" * 900_000)
    assert result.error.error.message == "prompt is too long: 225000 tokens > 200000 maximum"


def test_errors_are_not_billed(simulate: Simulate) -> None:
    simulator = simulate()
    one_result(client_of(simulator), temperature=1)
    found = account(simulator)
    assert found["requests"]["errored"] == 1
    assert found["requests"]["billed"] == 0
    assert found["tokens"] == {}


def test_count_tokens_refuses_likewise(client: Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="max_tokens: Extra inputs"):
        client.post("/v1/messages/count_tokens", body=params(), cast_to=object)
    with pytest.raises(anthropic.NotFoundError, match="model: none"):
        client.messages.count_tokens(model="none", messages=[{"role": "user", "content": "x"}])


def test_a_single_message_that_is_not_json(client: Anthropic) -> None:
    with pytest.raises(anthropic.BadRequestError, match="not valid JSON"):
        client.post("/v1/messages", content=orjson.dumps({})[:-1], cast_to=object)
