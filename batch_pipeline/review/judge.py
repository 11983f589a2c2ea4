"""Judges what reviewers decided by the workload's own contract, as the models' answers were judged.

A decision becomes an answer, and goes through `stages.verdicts`: a fix has to meet the contract and the workload's
own checks; an answer that is accepted has to meet the contract, and may fail the checks, which is what a person is
asked about.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batch_pipeline.review.answer import fields_of, fixed_answer, kept_fields
from batch_pipeline.review.cells import CellError
from batch_pipeline.review.file import Line, Rejected, ReviewFile
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.verdicts import write_verdicts
from batch_pipeline.workload.contract import Contract
from batch_pipeline.workload.data_file import listed, literal
from batch_pipeline.workload.field import Field

_ROWS_AT_ONCE = 1_000

# pyarrow ships no types.
arrow: Any = pa
parquet: Any = pq

_LINES = arrow.schema(
    [
        ("line", arrow.int64()),
        ("review_id", arrow.string()),
        ("decision", arrow.string()),
        ("fixed", arrow.list_(arrow.string())),
        ("note", arrow.string()),
        ("reviewer", arrow.string()),
    ]
)
# As `write_verdicts` reads results, and beside them what a decision is besides its answer.
_DECIDED = arrow.schema(
    [
        ("row", arrow.int64()),
        ("chunk_id", arrow.string()),
        ("tier", arrow.int32()),
        ("attempt", arrow.int32()),
        ("sending", arrow.int32()),
        ("result", arrow.string()),
        ("stop_reason", arrow.string()),
        ("error_type", arrow.string()),
        ("answer", arrow.string()),
        ("line", arrow.int64()),
        ("review_id", arrow.string()),
        ("decision", arrow.string()),
        ("kept", arrow.list_(arrow.string())),
        ("note", arrow.string()),
        ("reviewer", arrow.string()),
    ]
)
_KINDS = ("accept", "fix", "drop")


def judge_file(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, file: ReviewFile, work: Path
) -> list[Rejected]:
    """Makes the temporary table `incoming` of the file's decisions, and returns the lines that are none.

    Columns of `incoming`: row, decision, fields (null when dropped), kept, note, reviewer. Needs the tables of
    `queue.open_queue`; works in the folder `work`.

    Raises:
        ConfigurationError: the file is of another load or cannot be read, or a user's check cannot be evaluated.
    """
    contract, folder = context.workload.contract, context.folder(context.record())
    rejected: list[Rejected] = []
    lines = work / "lines.parquet"
    _write(lines, _LINES, _lines(file, rejected))
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE lines AS
        SELECT l.*, q.row, min(line) OVER (PARTITION BY l.review_id) AS first_line
        FROM read_parquet({literal(str(lines))}) AS l LEFT JOIN queue AS q USING (review_id)
        """
    )
    rejected += _misplaced(connection)
    paths = {kind: work / f"{kind}.parquet" for kind in _KINDS}
    for kind, path in paths.items():
        decided = _decided(connection, kind, contract, rejected, comma=file.decimal_comma)
        _write(path, _DECIDED, decided)
    checks = context.workload.user_checks()
    for kind in ("accept", "fix"):
        write_verdicts(
            connection,
            paths[kind],
            folder.source,
            contract,
            checks if kind == "fix" else None,
            work / f"{kind}_verdicts.parquet",
        )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE incoming AS
        WITH judged AS (
            SELECT row, outcome, reason, fields FROM read_parquet($verdicts)
        )
        SELECT d.row, d.line, d.review_id, d.decision, j.fields, d.kept, d.note, d.reviewer,
               coalesce(j.outcome, 'valid') AS outcome, j.reason
        FROM read_parquet([{", ".join(literal(str(path)) for path in paths.values())}]) AS d
        LEFT JOIN judged AS j USING (row)
        """,
        {"verdicts": [str(work / f"{kind}_verdicts.parquet") for kind in ("accept", "fix")]},
    )
    broken = connection.execute(
        "SELECT line, review_id, decision, coalesce(reason, outcome) FROM incoming WHERE outcome <> 'valid'"
    ).fetchall()
    rejected += [
        Rejected(line, review_id, _sentence(decision, reason, contract))
        for line, review_id, decision, reason in broken
    ]
    return sorted(rejected, key=lambda each: each.number)


def _lines(file: ReviewFile, rejected: list[Rejected]) -> Iterator[dict[str, Any]]:
    for line in file.lines():
        if isinstance(line, Rejected):
            rejected.append(line)
        else:
            yield _cells(line)


def _cells(line: Line) -> dict[str, Any]:
    return {
        "line": line.number,
        "review_id": line.review_id,
        "decision": line.decision,
        "fixed": list(line.fixed),
        "note": line.note or None,
        "reviewer": line.reviewer or None,
    }


def _misplaced(connection: duckdb.DuckDBPyConnection) -> Iterator[Rejected]:
    """Lines of no row of the queue, and further lines of the same."""
    found = connection.execute(
        "SELECT line, review_id, row IS NULL, first_line FROM lines WHERE row IS NULL OR line > first_line"
    ).fetchall()
    for line, review_id, unknown, first in found:
        yield Rejected(
            line,
            review_id,
            "no row of this queue has this review_id; was it edited, or is the file from another state folder?"
            if unknown
            else f"line {first} decides the same row; keep one of them",
        )


def _decided(
    connection: duckdb.DuckDBPyConnection,
    kind: str,
    contract: Contract,
    rejected: list[Rejected],
    *,
    comma: bool,
) -> Iterator[dict[str, Any]]:
    """The decisions of one kind in order of row, each with the answer that it makes."""
    # Not a cursor: it does not know the temporary tables.
    connection.execute(
        """
        SELECT row, line, review_id, fixed, note, reviewer, answer FROM lines LEFT JOIN last_answers USING (row)
        WHERE row IS NOT NULL AND line = first_line AND decision = ? ORDER BY row
        """,
        [kind],
    )
    while rows := connection.fetchmany(_ROWS_AT_ONCE):
        for row, line, review_id, fixed, note, reviewer, answer in rows:
            model = fields_of(answer, contract)
            made, kept = (answer, list(model)) if kind == "accept" else (None, None)
            if kind == "fix":
                try:
                    fields = fixed_answer(model, tuple(fixed), contract, decimal_comma=comma)
                except CellError as error:
                    rejected.append(Rejected(line, review_id, str(error)))
                    continue
                made, kept = json.dumps(fields), kept_fields(model, fields, contract)
            yield {
                "row": row,
                "chunk_id": "",
                "tier": 0,
                "attempt": 1,
                "sending": 1,
                "result": "succeeded",
                "stop_reason": "end_turn",
                "answer": made,
                "line": line,
                "review_id": review_id,
                "decision": kind,
                "kept": kept,
                "note": note,
                "reviewer": reviewer,
            }


def _write(path: Path, schema: Any, rows: Iterable[dict[str, Any]]) -> None:
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        held: list[dict[str, Any]] = []
        for row in rows:
            held.append(row)
            if len(held) == _ROWS_AT_ONCE:
                writer.write_table(arrow.Table.from_pylist(held, schema=schema))
                held.clear()
        writer.write_table(arrow.Table.from_pylist(held, schema=schema))


_WORDS = {
    "missing": "is not in the answer",
    "wrong_type": "is of another type than output declares",
    "unknown_label": "is none of the values that output allows",
    "out_of_range": "is out of its range",
    "not_multiple": "is not a multiple of what output declares",
    "too_short": "is too short",
    "too_long": "is too long",
    "pattern": "does not match its pattern",
    "items": "has an item that output does not allow",
    "repeated": "has an item twice",
}
_LABELS_SHOWN = 12


def _sentence(decision: str, reason: str, contract: Contract) -> str:
    """Why a decision cannot stand: the reason of its verdict in words."""
    kind, _, name = reason.partition(":")
    if kind == "check":
        return f"the answer fails the workload's own check {name}; fix it so that it holds, or drop the row"
    field = next((each for each in contract.fields if each.name == name), None)
    if field is None:
        said = "the model's answer is not JSON" if kind == "not_json" else f"the answer is {kind}"
    else:
        said = f"{name} {_WORDS.get(kind, kind)}{_allowed(field)}"
    if decision == "accept":
        return (
            f"accept is for an answer that meets the output contract and fails only the workload's own check, and "
            f"here {said}; write fix with the right values, or drop"
        )
    return said


def _allowed(field: Field) -> str:
    if field.allowed is not None:
        return f" ({listed(map(str, field.allowed), _LABELS_SHOWN)})"
    rules = field.requirements()
    return f" ({rules.removesuffix('.')})" if rules else ""
