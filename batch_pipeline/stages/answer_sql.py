"""The SQL that opens answers: what is JSON, an object, of the declared fields and types, and what is not.

DuckDB's reader takes NaN, Infinity and trailing commas, turns 12 into '12' when asked for text, and keeps
the first of two equal keys; the contract does none of that, so this file says so to it.
"""

from __future__ import annotations

from batch_pipeline.workload.contract import Contract
from batch_pipeline.workload.field import Field, Kind

_STRING = r'"(?:[^"\\]|\\.)*"'
_NOT_JSON = r"(?i),\s*[\]}]|nan|inf"
_NUMBERS = "('UBIGINT', 'BIGINT', 'DOUBLE')"
# json_type's names for the values that a field of each kind may have.
_JSON_TYPES: dict[Kind, str] = {
    "string": "('VARCHAR')",
    "integer": _NUMBERS,
    "number": _NUMBERS,
    "boolean": "('BOOLEAN')",
    "array": "('ARRAY')",
}


RESULT_COLUMNS = (
    "row",
    "chunk_id",
    "tier",
    "attempt",
    "sending",
    "result",
    "stop_reason",
    "error_type",
    "answer",
)


def problem_column(position: int) -> str:
    return f"problem_{position}"


def value_column(position: int) -> str:
    return f"value_{position}"


def opened_answers(contract: Contract, results: str) -> str:
    """A SELECT over the relation `results`, which has RESULT_COLUMNS.

    Its columns: `row, chunk_id, tier, attempt, sending`; `outcome` and `reason` as far as the result's
    kind decides them (`valid` means an object that remains to be judged); `leftover`, the reason when
    there is more in the object than the fields; and for each field, by position, `problem_<n>` (the
    reason, where it is missing or of another type) and `value_<n>` in the field's own type.
    """
    paths = ", ".join(f"'$.{field.name}'" for field in contract.fields)
    numbered = list(enumerate(contract.fields))
    arrays = "".join(
        f"""
            CASE WHEN types[{n + 1}] = 'ARRAY' THEN json_type(object, '$.{field.name}[*]') END
                AS item_types_{n},
            CASE WHEN types[{n + 1}] = 'ARRAY' THEN json_extract_string(object, '$.{field.name}[*]')
                END AS item_texts_{n},"""
        for n, field in numbered
        if field.items is not None
    )
    values = ",\n".join(f"{_value(n, field)} AS {value_column(n)}" for n, field in numbered)
    problems = ",\n".join(f"{_problem(n, field)} AS {problem_column(n)}" for n, field in numbered)
    kept = ", ".join(value_column(n) for n, _ in numbered)
    return f"""
        WITH results AS (
            SELECT row, chunk_id, tier, attempt, sending, result, stop_reason, error_type,
                   CASE WHEN result = 'succeeded'
                         AND coalesce(stop_reason, 'end_turn') IN ('end_turn', 'stop_sequence')
                        THEN coalesce(answer, '') END AS answer
            FROM {results}
        ), checked AS (
            SELECT * EXCLUDE (answer), answer IS NOT NULL AS judged,
                   CASE WHEN json_valid(answer) AND NOT {_lenient("answer")} THEN answer END AS json
            FROM results
        ), objects AS (
            SELECT * EXCLUDE (json), json IS NOT NULL AS is_json,
                   CASE WHEN json_type(json) = 'OBJECT' THEN json END AS object
            FROM checked
        ), opened AS (
            SELECT *, json_keys(object) AS keys, json_type(object, [{paths}]) AS types,
                   json_extract_string(object, [{paths}]) AS texts
            FROM objects
        ), listed AS (
            SELECT *,{arrays} FROM opened
        ), typed AS (
            SELECT *, {values} FROM listed
        )
        SELECT row, chunk_id, tier, attempt, sending, {_OUTCOME} AS outcome, {_REASON} AS reason,
               CASE WHEN len(keys) = {len(numbered)} THEN NULL
                    WHEN len(list_distinct(keys)) < len(keys) THEN 'duplicate_field'
                    WHEN len(keys) > {len(numbered)} THEN 'unexpected_field' END AS leftover,
               {problems}, {kept}
        FROM typed
    """


def _lenient(text: str) -> str:
    """Whether DuckDB takes the text for JSON although it is not. The first look is cheap, and rare to hit."""
    outside_strings = f"regexp_replace({text}, '{_STRING}', '\"\"', 'gs')"
    return (
        f"(CASE WHEN regexp_matches({text}, '{_NOT_JSON}')"
        f" THEN regexp_matches({outside_strings}, '{_NOT_JSON}') ELSE false END)"
    )


def _machine_word(column: str) -> str:
    """The API's own word, or `other` when it is nothing that belongs into a reason."""
    return (
        f"(CASE WHEN regexp_full_match({column}, '[A-Za-z0-9_]{{1,64}}') THEN {column}"
        f" WHEN {column} IS NULL THEN 'unknown' ELSE 'other' END)"
    )


_OUTCOME = """
    CASE WHEN result = 'succeeded' THEN
            CASE WHEN judged THEN
                    CASE WHEN object IS NULL THEN 'contract_broken' ELSE 'valid' END
                 WHEN stop_reason = 'refusal' THEN 'refusal'
                 WHEN stop_reason IN ('max_tokens', 'model_context_window_exceeded') THEN 'truncated'
                 ELSE 'contract_broken' END
         WHEN result = 'errored' AND error_type = 'invalid_request_error' THEN 'invalid_request'
         WHEN result IN ('errored', 'expired', 'canceled', 'absent') THEN result
         WHEN result = 'gone' THEN 'results_gone'
         ELSE 'errored' END"""

_REASON = f"""
    CASE WHEN result = 'succeeded' THEN
            CASE WHEN judged THEN
                    CASE WHEN NOT is_json THEN 'not_json' WHEN object IS NULL THEN 'not_object' END
                 WHEN stop_reason = 'refusal' THEN 'refusal'
                 WHEN stop_reason IN ('max_tokens', 'model_context_window_exceeded')
                 THEN 'truncated:' || stop_reason
                 ELSE 'stop_reason:' || {_machine_word("stop_reason")} END
         WHEN result = 'errored' AND error_type = 'invalid_request_error' THEN 'invalid_request'
         WHEN result = 'errored' THEN 'errored:' || {_machine_word("error_type")}
         WHEN result IN ('expired', 'canceled', 'absent') THEN result
         WHEN result = 'gone' THEN 'results_gone'
         ELSE 'unknown_result' END"""


def _value(n: int, field: Field) -> str:
    """The field in its own type, or NULL where the JSON is of another type or does not fit."""
    if field.items is None:
        wanted = f"types[{n + 1}] IN {_JSON_TYPES[field.kind]}"
        return f"CASE WHEN {wanted} THEN {_converted(field.kind, f'texts[{n + 1}]')} END"
    others = f"list_filter(item_types_{n}, lambda t: t NOT IN {_item_types(field.items)})"
    converted = f"list_transform(item_texts_{n}, lambda t: {_converted(field.items.kind, 't')})"
    return f"CASE WHEN len({others}) = 0 THEN {converted} END"


def _item_types(items: Field) -> str:
    names = _JSON_TYPES[items.kind]
    return f"{names[:-1]}, 'NULL')" if items.nullable else names


def _converted(kind: Kind, text: str) -> str:
    """JSON text of an allowed type as a value of ours; NULL where 64 bits cannot hold it."""
    double = f"TRY_CAST({text} AS DOUBLE)"
    match kind:
        case "integer":
            # 3.0 and 3e0 are integers to JSON Schema; a cast alone would round 3.7 to 4.
            whole = f"{double} = trunc({double}) AND abs({double}) < 9223372036854775808"
            return (
                f"CASE WHEN regexp_full_match({text}, '-?[0-9]+') THEN TRY_CAST({text} AS BIGINT)"
                f" WHEN {whole} THEN TRY_CAST({double} AS BIGINT) END"
            )
        case "number":
            return f"CASE WHEN isfinite({double}) THEN {double} END"
        case "boolean":
            return f"({text} = 'true')"
        case _:
            return text


def _problem(n: int, field: Field) -> str:
    """The reason, where the field is missing or of another type than declared."""
    json_type, value = f"types[{n + 1}]", value_column(n)
    wrong = f"'wrong_type:{field.name}'"
    if field.items is not None:
        lost = (
            f"len(list_filter({value}, lambda v: v IS NULL))"
            f" > len(list_filter(item_types_{n}, lambda t: t = 'NULL'))"
        )
        unfit = f"WHEN {value} IS NULL OR {lost} THEN 'items:{field.name}'"
    elif field.kind == "integer":
        double = f"TRY_CAST(texts[{n + 1}] AS DOUBLE)"
        unfit = (
            f"WHEN {value} IS NULL AND {double} = trunc({double}) THEN 'out_of_range:{field.name}'"
            f" WHEN {value} IS NULL THEN {wrong}"
        )
    else:
        unfit = f"WHEN {value} IS NULL THEN 'out_of_range:{field.name}'"
    return (
        "CASE WHEN object IS NULL THEN NULL"
        f" WHEN {json_type} IS NULL THEN 'missing:{field.name}'"
        f" WHEN {json_type} = 'NULL' THEN {'NULL' if field.nullable else wrong}"
        f" WHEN {json_type} NOT IN {_JSON_TYPES[field.kind]} THEN {wrong}"
        f" {unfit} END"
    )
