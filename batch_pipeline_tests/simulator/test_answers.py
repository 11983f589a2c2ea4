"""Where answers come from: the answer key, or the request's own schema."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from batch_pipeline.simulator.answers import Shape
from batch_pipeline.simulator.schema_language import objection

from .asking import SCHEMA, account, answer, answer_text, client_of, one_result, params
from .conftest import Simulate


def _key(tmp_path: Path, text: str, **lookup: str) -> dict[str, Any]:
    (tmp_path / "key.csv").write_text(text, encoding="utf-8")
    return {"file": tmp_path / "key.csv", "lookup": lookup}


def test_the_keys_columns_answer_the_schemas_properties(simulate: Simulate, tmp_path: Path) -> None:
    simulator = simulate(answers=_key(tmp_path, "text,label,score\nhello,green,4\nbye,red,1\n"))
    client = client_of(simulator)
    assert answer(one_result(client, "hello")) == {"label": "green", "score": 4}
    assert answer(one_result(client, "bye")) == {"label": "red", "score": 1}
    assert account(simulator)["requests"]["from_answer_key"] == 2


def test_white_space_does_not_matter(simulate: Simulate, tmp_path: Path) -> None:
    client = client_of(simulate(answers=_key(tmp_path, 'text,label\n"a  b\nc",green\n')))
    assert answer(one_result(client, " a b\n\n c "))["label"] == "green"


def test_a_pattern_finds_the_text_within_the_message(simulate: Simulate, tmp_path: Path) -> None:
    key = _key(tmp_path, "body,label\nthe text,green\n", column="body", pattern=r"(?s)\n\n(.*)\Z")
    client = client_of(simulate(answers=key))
    assert answer(one_result(client, "Channel: mail\n\nthe text"))["label"] == "green"


def test_the_last_user_message_counts(simulate: Simulate, tmp_path: Path) -> None:
    client = client_of(simulate(answers=_key(tmp_path, "text,label\nsecond,green\nfirst,red\n")))
    messages = [
        {"role": "user", "content": "first"},
        {"role": "assistant", "content": "ok"},
        {"role": "user", "content": [{"type": "text", "text": "second"}]},
    ]
    assert answer(one_result(client, messages=messages))["label"] == "green"


def test_cells_become_the_schemas_types(simulate: Simulate, tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "i": {"type": "integer"},
        "n": {"type": "number"},
        "b": {"type": "boolean"},
        "l": {"type": "array", "items": {"type": "string"}},
        "o": {"anyOf": [{"type": "string"}, {"type": "null"}]},
        "e": {"type": "integer", "enum": [1, 2]},
        "s": {"type": "string"},
    }
    schema = {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }
    key = 'text,i,n,b,l,o,e,s\nhello,3,2.5,true,"[""x""]",,2,007\n'
    client = client_of(simulate(answers=_key(tmp_path, key)))
    config = {"format": {"type": "json_schema", "schema": schema}}
    assert answer(one_result(client, output_config=config)) == {
        "i": 3,
        "n": 2.5,
        "b": True,
        "l": ["x"],
        "o": None,
        "e": 2,
        "s": "007",
    }


def test_without_a_schema_the_answer_column_is_the_text(simulate: Simulate, tmp_path: Path) -> None:
    client = client_of(simulate(answers=_key(tmp_path, "text,answer\nhello,Good day.\n")))
    assert answer_text(one_result(client, output_config=None)) == "Good day."


def test_an_unknown_text_gets_a_made_up_answer_that_obeys_the_schema(client: Anthropic) -> None:
    found = answer(one_result(client, "never seen"))
    Draft202012Validator(SCHEMA).validate(found)


def test_without_schema_and_key_the_answer_says_what_it_is(client: Anthropic) -> None:
    assert "simulator" in answer_text(one_result(client, output_config=None))


def test_a_model_that_thinks_answers_after_a_thinking_block(client: Anthropic) -> None:
    result = one_result(client, model="claude-opus-5-5")
    assert [b.type for b in result.message.content] == ["thinking", "text"]
    assert result.message.usage.output_tokens_details.thinking_tokens > 0
    plain = one_result(client, model="claude-opus-5", thinking={"type": "disabled"})
    assert [b.type for b in plain.message.content] == ["text"]


def test_the_answer_names_the_dated_model(client: Anthropic) -> None:
    assert one_result(client).message.model == "claude-haiku-4-5-20251001"


def test_an_answer_longer_than_max_tokens_is_cut(simulate: Simulate, tmp_path: Path) -> None:
    client = client_of(simulate(answers=_key(tmp_path, "text,answer\nhello," + "x" * 400 + "\n")))
    message = one_result(client, output_config=None, max_tokens=10).message
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 10
    assert message.content[0].text == "x" * 40


def test_a_single_message_is_answered_like_a_batch(simulate: Simulate, tmp_path: Path) -> None:
    simulator = simulate(answers=_key(tmp_path, "text,label,score\nhello,green,4\n"))
    message = client_of(simulator).messages.create(**params("hello"))
    assert message.content[0].text == '{"label":"green","score":4}'
    assert message.usage.service_tier == "standard"


_FIELDS = st.recursive(
    st.one_of(
        st.just({"type": "string"}),
        st.just({"type": "integer"}),
        st.just({"type": "number"}),
        st.just({"type": "boolean"}),
        st.just({"type": "null"}),
        st.just({"type": ["integer", "null"]}),
        st.just({"const": "fixed"}),
        st.just({"$ref": "#/$defs/shared"}),
        st.lists(st.text(), min_size=1, unique=True).map(lambda v: {"type": "string", "enum": v}),
        st.sampled_from(["date", "email", "uuid"]).map(lambda f: {"type": "string", "format": f}),
    ),
    lambda inner: st.one_of(
        inner.map(lambda f: {"type": "array", "items": f, "minItems": 1}),
        st.lists(inner, min_size=1, max_size=3).map(lambda f: {"anyOf": f}),
        st.dictionaries(st.text(), inner, max_size=3).map(
            lambda p: {
                "type": "object",
                "properties": p,
                "required": list(p),
                "additionalProperties": False,
            }
        ),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    fields=st.dictionaries(st.text(), _FIELDS, min_size=1, max_size=5),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_made_up_answers_obey_any_schema_the_api_takes(fields: dict[str, Any], draw: float) -> None:
    schema = {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
        "$defs": {"shared": {"type": "string", "enum": ["x", "y"]}},
    }
    assert objection(schema, "schema") is None
    shape = Shape(schema)
    made = shape.answer(None, draw)
    Draft202012Validator(schema).validate(made)


@given(
    label=st.sampled_from(["red", "green", "blue"]),
    score=st.integers(),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_wrong_answer_is_valid_and_has_another_label(label: str, score: int, draw: float) -> None:
    right = {"label": label, "score": score}
    wrong = Shape(SCHEMA).wrong(right, draw)
    Draft202012Validator(SCHEMA).validate(wrong)
    assert wrong["label"] != label


def test_without_labels_a_wrong_answer_has_other_values() -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}, "s": {"type": "string"}}}
    assert Shape(schema).wrong({"n": 1, "s": "a"}, 0.5) == {"n": 2, "s": "Not so: a"}


@pytest.mark.parametrize("text", ["minimum: 3, maximum: 5", "from 3 to 5", "Between 3 and 5."])
def test_a_made_up_number_heeds_the_description(text: str) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer", "description": text}}}
    assert Shape(schema).answer(None, 0.1) == {"n": 3}
