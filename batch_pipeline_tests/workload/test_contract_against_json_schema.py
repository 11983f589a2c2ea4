"""Whatever is declared, the verdicts and the `jsonschema` package agree on what is valid."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from batch_pipeline.stages.verdicts import write_verdicts
from batch_pipeline.workload.contract import Contract

from .declarations import Schema, answers, declarations

ANSWERS = 12


def as_declared(schema: Schema, value: Any) -> Any:
    """`value` as the contract keeps it: labels in their declared spelling, numbers as doubles."""
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    if isinstance(value, list) and "items" in schema:
        return [as_declared(schema["items"], each) for each in value]
    if isinstance(value, str):
        allowed = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
        texts = [each for each in allowed if isinstance(each, str)]
        alike = [each for each in texts if each.strip().lower() == value.strip().lower()]
        return alike[0] if len(alike) == 1 and value not in texts else value
    if "number" in kinds and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def fits_64_bits(schema: Schema, value: Any) -> bool:
    if isinstance(value, list) and "items" in schema:
        return all(fits_64_bits(schema["items"], each) for each in value)
    return (
        "integer" not in schema["type"] or not isinstance(value, int) or -(2**63) <= value < 2**63
    )


def accepts(declared: dict[str, Schema], answer: dict[str, Any]) -> bool:
    return all(
        Draft202012Validator(schema).is_valid(as_declared(schema, answer[name]))
        and fits_64_bits(schema, answer[name])
        for name, schema in declared.items()
    )


def verdicts(declared: dict[str, Schema], texts: list[str]) -> list[tuple[str, Any]]:
    """Outcome and fields of each answer."""
    with TemporaryDirectory() as folder:
        results, to = Path(folder, "results.parquet"), Path(folder, "verdicts.parquet")
        connection = duckdb.connect()
        connection.execute(
            "CREATE TABLE results AS SELECT unnest(range(len($1))) AS row, 'c' AS chunk_id, 0 AS tier,"
            " 1 AS attempt, 1 AS sending, 'succeeded' AS result, 'end_turn' AS stop_reason,"
            " NULL::VARCHAR AS error_type, unnest($1) AS answer",
            [texts],
        )
        connection.execute(f"COPY results TO '{results}' (FORMAT parquet)")
        contract = Contract.from_declaration(declared)
        write_verdicts(connection, results, Path("unread"), contract, None, to)
        return connection.execute(
            "SELECT outcome, fields FROM read_parquet(?) ORDER BY row", [str(to)]
        ).fetchall()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_value_is_valid_exactly_when_its_declaration_accepts_it(data: st.DataObject) -> None:
    """The answer's fields are then what was sent, in the declared spelling."""
    declared = data.draw(declarations())
    objects = data.draw(st.lists(answers(declared), min_size=ANSWERS // 2, max_size=ANSWERS))
    found = verdicts(declared, [json.dumps(each) for each in objects])
    for answer, (outcome, fields) in zip(objects, found, strict=True):
        assert outcome == ("valid" if accepts(declared, answer) else "contract_broken"), answer
        if outcome == "valid":
            assert fields == {
                name: as_declared(schema, answer[name]) for name, schema in declared.items()
            }
