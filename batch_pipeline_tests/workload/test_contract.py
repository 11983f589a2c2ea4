"""The output contract: what may be declared, and what the API, SQL and pandas are told of it."""

import json
import subprocess
import sys
from typing import Any

import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pytest
from anthropic import transform_schema
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.workload.contract import Contract

from .declarations import Schema, declarations

TICKET: dict[str, Schema] = {
    "category": {"type": "string", "enum": ["billing", "bug"], "title": "Category"},
    "urgency": {"type": "integer", "minimum": 1, "maximum": 5, "description": "How soon."},
    "score": {"type": ["number", "null"], "exclusiveMinimum": 0, "multipleOf": 0.5},
    "summary": {"type": "string", "minLength": 1, "maxLength": 140, "pattern": "^[A-Z]"},
    "tags": {"type": "array", "items": {"type": "string", "maxLength": 9}, "maxItems": 3},
    "kind": {"type": "string", "const": "ticket"},
    "open": {"type": "boolean"},
}
LACKING = {
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf",
    "minLength", "maxLength", "pattern", "maxItems", "uniqueItems",
}  # fmt: skip


def subschemas(schema: Schema) -> list[Schema]:
    below = [*schema.get("properties", {}).values(), *schema.get("anyOf", [])]
    if "items" in schema:
        below.append(schema["items"])
    return [schema, *(each for child in below for each in subschemas(child))]


def without_type_beside_enum(schema: Any) -> Any:
    """The SDK leaves the type out where an enum or const says it."""
    if isinstance(schema, list):
        return [without_type_beside_enum(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    literal = "enum" in schema or "const" in schema
    return {
        key: without_type_beside_enum(value)
        for key, value in schema.items()
        if not (key == "type" and literal)
    }


def test_the_api_is_told_in_its_own_language_and_the_rest_in_words() -> None:
    assert Contract.from_declaration(TICKET).api_schema() == {
        "type": "object",
        "properties": {
            "category": {"type": "string", "enum": ["billing", "bug"], "title": "Category"},
            "urgency": {"type": "integer", "description": "How soon. At least 1 and at most 5."},
            "score": {
                "anyOf": [{"type": "number"}, {"type": "null"}],
                "description": "Greater than 0. A multiple of 0.5.",
            },
            "summary": {
                "type": "string",
                "description": "At least 1 character long and at most 140 characters long."
                " Matches the regular expression `^[A-Z]`.",
            },
            "tags": {
                "type": "array",
                "items": {"type": "string", "description": "At most 9 characters long."},
                "description": "At most 3 items.",
            },
            "kind": {"type": "string", "const": "ticket"},
            "open": {"type": "boolean"},
        },
        "required": ["category", "urgency", "score", "summary", "tags", "kind", "open"],
        "additionalProperties": False,
    }


@pytest.mark.parametrize(
    ("declared", "told", "said"),
    [
        ({"minItems": 1, "uniqueItems": True}, {"minItems": 1}, "No item twice."),
        ({"minItems": 2, "maxItems": 2}, {}, "Exactly 2 items."),
        ({"minItems": 2}, {}, "At least 2 items."),
        ({"minItems": 0, "maxItems": 1}, {"minItems": 0}, "At most 1 item."),
    ],
)
def test_an_arrays_length_is_told_as_far_as_the_api_takes_it(
    declared: Schema, told: Schema, said: str
) -> None:
    array = {"type": "array", "items": {"type": "boolean"}}
    (found,) = (
        Contract.from_declaration({"a": {**array, **declared}}).api_schema()["properties"].values()
    )
    assert found == {**array, **told, "description": said}


@given(declarations())
def test_every_api_schema_obeys_the_apis_limits(declared: dict[str, Schema]) -> None:
    schema = Contract.from_declaration(declared).api_schema()
    for each in subschemas(schema):
        assert not LACKING & each.keys()
        assert each.get("minItems", 0) in (0, 1)
        assert isinstance(each.get("type", ""), str)
        if each.get("type") == "object":
            assert each["additionalProperties"] is False
            assert each["required"] == list(each["properties"])
    # The SDK would move what the API lacks; there is nothing left for it to move.
    assert transform_schema(schema) == without_type_beside_enum(schema)


@given(declarations())
def test_the_same_declaration_gives_the_same_bytes_and_fingerprint(
    declared: dict[str, Schema],
) -> None:
    twice = [Contract.from_declaration(json.loads(json.dumps(declared))) for _ in range(2)]
    first, second = twice
    assert json.dumps(first.api_schema()) == json.dumps(second.api_schema())
    assert first.fingerprint() == second.fingerprint()


@pytest.mark.parametrize(
    "change",
    [
        {"urgency": {"type": "integer", "minimum": 1, "maximum": 5, "description": "How fast."}},
        {"urgency": {"type": "integer", "minimum": 0, "maximum": 5, "description": "How soon."}},
        {"tags": {"type": "array", "items": {"type": "string", "maxLength": 8}, "maxItems": 3}},
        {"more": {"type": "boolean"}},
    ],
)
def test_any_change_gives_another_fingerprint(change: dict[str, Schema]) -> None:
    before = Contract.from_declaration(TICKET).fingerprint()
    assert Contract.from_declaration(TICKET | change).fingerprint() != before


def test_the_order_of_fields_counts_and_that_of_keywords_does_not() -> None:
    contract = Contract.from_declaration(TICKET)
    fields_reversed = dict(reversed(TICKET.items()))
    keywords_reversed = {name: dict(reversed(each.items())) for name, each in TICKET.items()}
    assert Contract.from_declaration(fields_reversed).fingerprint() != contract.fingerprint()
    assert Contract.from_declaration(keywords_reversed).fingerprint() == contract.fingerprint()
    assert len(contract.fingerprint()) == 64


def test_each_field_has_an_sql_type() -> None:
    contract = Contract.from_declaration(TICKET)
    types = {field.name: contract.duckdb_type(field) for field in contract.fields}
    assert types == {
        "category": "VARCHAR",
        "urgency": "BIGINT",
        "score": "DOUBLE",
        "summary": "VARCHAR",
        "tags": "VARCHAR[]",
        "kind": "VARCHAR",
        "open": "BOOLEAN",
    }


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ({}, "output: declare at least one field"),
        ([], "output: declare at least one field"),
        ({"_a": {"type": "string"}}, "output._a: a field's name"),
        ({"a" * 65: {"type": "string"}}, "a field's name"),
        ({"naïve": {"type": "string"}}, "a field's name"),
        ({True: {"type": "string"}}, "output.True: a field's name"),
        ({"a": "string"}, "output.a: is not a JSON Schema"),
        ({"a": {}}, "output.a.type: is missing"),
        ({"a": {"type": 3}}, "output.a.type: is missing"),
        ({"a": {"type": "object"}}, "output.a.type: object is not supported"),
        ({"a": {"type": "null"}}, "output.a.type: null is not supported"),
        ({"a": {"type": ["string", "integer"]}}, "output.a.type: string, integer is not"),
        ({"a": {"type": ["string", "string"]}}, "output.a.type: string, string is not"),
        ({"a": {"oneOf": []}}, "output.a: keyword oneOf is not supported"),
        ({"a": {"$ref": "#/b"}}, "output.a: keyword $ref is not supported"),
        ({"a": {"type": "string", "format": "date"}}, "keyword format is not supported"),
        ({"a": {"type": "string", "optional": True}}, "keyword optional is not supported"),
        ({"a": {"type": "string", "minimum": 1}}, "minimum is not supported for a field of type"),
        ({"a": {"type": "boolean", "enum": [True]}}, "enum is not supported for a field of type"),
        ({"a": {"type": "string", "title": 3}}, "output.a.title: must be text"),
        ({"a": {"type": "string", "description": None}}, "output.a.description: must be text"),
        ({"a": {"type": "string", "enum": []}}, "output.a.enum: must be a list"),
        ({"a": {"type": "string", "enum": "ab"}}, "output.a.enum: must be a list"),
        ({"a": {"type": "string", "enum": ["a", True]}}, "True is not of type string"),
        ({"a": {"type": "integer", "enum": [1, "2"]}}, "'2' is not of type integer"),
        ({"a": {"type": "integer", "enum": [1.5]}}, "1.5 is not of type integer"),
        ({"a": {"type": "integer", "enum": [1, 1.0]}}, "lists a value twice"),
        ({"a": {"type": ["string", "null"], "enum": ["a"]}}, "leaves out null"),
        ({"a": {"type": "string", "enum": ["a", None]}}, "lists null but the type does not"),
        ({"a": {"type": ["string", "null"], "enum": [None]}}, "a value besides null"),
        ({"a": {"type": ["string", "null"], "const": "a"}}, "output.a.const: leaves no room"),
        ({"a": {"type": "string", "const": 1}}, "output.a.const: must be text"),
        ({"a": {"type": "string", "pattern": "("}}, "output.a.pattern: '('"),
        ({"a": {"type": "string", "pattern": "(?=a)"}}, "no lookaround"),
        ({"a": {"type": "string", "minLength": -1}}, "output.a.minLength: must be a whole number"),
        ({"a": {"type": "string", "maxLength": True}}, "output.a.maxLength: must be a whole"),
        ({"a": {"type": "string", "minLength": 3, "maxLength": 2}}, "minLength 3 is more than"),
        ({"a": {"type": "integer", "minimum": "1"}}, "output.a.minimum: must be a whole number"),
        ({"a": {"type": "integer", "minimum": 1.5}}, "output.a.minimum: must be a whole number"),
        ({"a": {"type": "integer", "maximum": 2**63}}, "within 64 bits"),
        ({"a": {"type": "number", "maximum": float("nan")}}, "must be a finite number"),
        ({"a": {"type": "number", "maximum": float("inf")}}, "must be a finite number"),
        ({"a": {"type": "number", "maximum": True}}, "must be a finite number"),
        ({"a": {"type": "integer", "minimum": 5, "maximum": 4}}, "minimum 5 is more than"),
        ({"a": {"type": "number", "exclusiveMinimum": 4, "maximum": 4}}, "no number lies between"),
        ({"a": {"type": "integer", "multipleOf": 0}}, "multipleOf: must be greater than 0"),
        ({"a": {"type": "array"}}, "output.a.items: is missing"),
        ({"a": {"type": "array", "items": [{"type": "string"}]}}, "output.a.items: is not a JSON"),
        (
            {"a": {"type": "array", "items": {"type": "array", "items": {"type": "string"}}}},
            "an array of arrays",
        ),
        ({"a": {"type": "array", "items": {"type": "object"}}}, "output.a.items.type: object"),
        (
            {"a": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 1}},
            "minItems 2 is more than",
        ),
        (
            {"a": {"type": "array", "items": {"type": "string"}, "uniqueItems": "yes"}},
            "output.a.uniqueItems: must be true or false",
        ),
        ({"a": {"type": "string"}, "A": {"type": "string"}}, "differs from output.a only in case"),
        ({f"f{n}": {"type": ["string", "null"]} for n in range(17)}, "the API allows 16"),
    ],
)
def test_what_is_not_supported_is_refused_in_a_sentence(declared: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        Contract.from_declaration(declared)
    assert said in str(error.value)
    assert str(error.value).endswith(".")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda below: st.lists(below, max_size=3) | st.dictionaries(st.text(max_size=5), below),
)
KEYWORDS = st.sampled_from([*LACKING, "type", "enum", "const", "items", "minItems", "title", "x"])


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(["a", "B", "_c"]),
        st.dictionaries(KEYWORDS, JSON | st.sampled_from(["string", "integer", "array"])),
    )
)
def test_nonsense_is_either_read_or_refused_in_a_sentence(declared: Any) -> None:
    try:
        Contract.from_declaration(declared).api_schema()
    except ConfigurationError as error:
        assert str(error).startswith("output")


@pytest.mark.parametrize(
    ("answer", "label"),
    [
        ("billing", "billing"),
        ("BILLING", "billing"),
        (" Billing\n", "billing"),
        ("Bug", "Bug"),
        ("bug", "bug"),
        ("BUG", None),
        ("bugs", None),
        ("", None),
    ],
)
def test_a_label_may_differ_in_case_and_blanks_unless_that_is_ambiguous(
    answer: str, label: str | None
) -> None:
    (field,) = Contract.from_declaration(
        {"a": {"type": "string", "enum": ["billing", "bug", "Bug"]}}
    ).fields
    assert field.label(answer) == label


def test_the_pandera_schema_takes_a_frame_that_meets_the_declaration() -> None:
    frame = pd.DataFrame(
        {
            "category": pd.Series(["bug"], dtype="str"),
            "urgency": pd.Series([5], dtype="Int64"),
            "score": pd.Series([None], dtype="float64"),
            "summary": pd.Series(["A line"], dtype="str"),
            "tags": pd.Series([["a", "b"]], dtype=pd.ArrowDtype(pa.list_(pa.string()))),
            "kind": pd.Series(["ticket"], dtype="str"),
            "open": pd.Series([True], dtype="boolean"),
        }
    )
    schema = Contract.from_declaration(TICKET).pandera_schema()
    schema.validate(frame)
    for column, value in {"category": "x", "urgency": 6, "score": -0.5, "summary": "a"}.items():
        with pytest.raises(pandera.errors.SchemaError):
            schema.validate(frame.assign(**{column: pd.Series([value], dtype=frame[column].dtype)}))


def test_a_tenth_is_a_step_although_binary_fractions_cannot_say_it() -> None:
    schema = Contract.from_declaration(
        {"a": {"type": "number", "multipleOf": 0.1}}
    ).pandera_schema()
    schema.validate(pd.DataFrame({"a": [0.3, 0.7, 1.1, 4.35e15, -2.3, 0.0]}))
    for wrong in (0.05, 0.30001, 1e-9):
        with pytest.raises(pandera.errors.SchemaError):
            schema.validate(pd.DataFrame({"a": [wrong]}))


def test_the_end_of_a_pattern_is_the_end_of_the_text() -> None:
    """Python's `$` would let a line break pass; JSON Schema's does not."""
    declared = {"a": {"type": "string", "pattern": "^[a-z]+$"}}
    schema = Contract.from_declaration(declared).pandera_schema()
    schema.validate(pd.DataFrame({"a": ["ab"]}))
    with pytest.raises(pandera.errors.SchemaError):
        schema.validate(pd.DataFrame({"a": ["ab\n"]}))


def test_reading_a_contract_does_not_import_what_is_slow() -> None:
    code = (
        "import sys; from batch_pipeline.workload.contract import Contract;"
        "Contract.from_declaration({'a': {'type': 'string', 'maxLength': 3}}).api_schema();"
        "sys.exit(bool({'pandas', 'pandera', 'pyarrow', 'duckdb', 'dagster'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
