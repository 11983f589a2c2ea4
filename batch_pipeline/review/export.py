"""Writes the queue of a load as one flat CSV that a person can open in any spreadsheet."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Load
from batch_pipeline.review.answer import fields_of
from batch_pipeline.review.cells import guarded, shown, written
from batch_pipeline.review.columns import header
from batch_pipeline.review.queue import open_queue, require_reviewable
from batch_pipeline.rows import Place, replacing
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.decisions import decisions
from batch_pipeline.stages.source_columns import OWN_COLUMNS, ROW

_ROWS_AT_ONCE = 1_000


@dataclass(frozen=True)
class Exported:
    """`rows` written, of a queue of `queue` rows, of which `decided` have a decision already."""

    rows: int
    queue: int
    decided: int


def export_queue(
    context: LoadContext, path: Path, *, everything: bool, replace: bool, by: str
) -> Exported:
    """Writes the rows that wait for a decision to `path`, whole or not at all, for its owner's eyes alone.

    UTF-8 with a byte order mark, separated by commas, a row per item.

    Args:
        context: the load.
        path: the CSV file.
        everything: write the rows that are decided too, with their decisions filled in.
        replace: whether an existing file may go: it may hold a reviewer's work.
        by: who asks; recorded.

    Raises:
        ConfigurationError: the load has no queue yet, its declaration changed, or the file exists.
        PipelineError: its rows were purged.
    """
    if path.exists() and not replace:
        raise ConfigurationError(
            f"{path} exists, and may hold decisions that nobody has imported yet; choose another name, or "
            "replace it with --force."
        )
    record = context.record()
    folder = context.folder(record)
    require_reviewable(context, record)
    contract = context.workload.contract
    with context.querying() as connection:
        queue = open_queue(connection, context, record)
        inputs = _inputs(connection, folder.source, context.workload.spec.source.key)
        with replacing(path) as temporary:
            temporary.touch(mode=0o600)
            with temporary.open("w", encoding="utf-8-sig", newline="") as file:
                writer = csv.writer(file)
                writer.writerow(header(contract, inputs))
                rows = decided = 0
                for line, has_decision in _lines(
                    connection, context, record, inputs, everything=everything
                ):
                    writer.writerow(line)
                    rows += 1
                    decided += has_decision
        context.ledger.record_review_export(record, rows=rows, exported_by=by)
        return Exported(rows, queue, decided if everything else queue - rows)


def _inputs(connection: duckdb.DuckDBPyConnection, source: Place, key: str) -> list[str]:
    described = connection.execute("DESCRIBE FROM read_parquet(?)", [str(source)]).fetchall()
    return [name for name, *_ in described if name not in (*OWN_COLUMNS, key)]


def _lines(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    record: Load,
    inputs: list[str],
    *,
    everything: bool,
) -> Iterator[tuple[list[str], bool]]:
    """The cells of each row of the queue, in the source's order, and whether it is decided."""
    contract, folder = context.workload.contract, context.folder(record)
    columns = "".join(f", CAST(s.{quoted(name)} AS VARCHAR)" for name in inputs)
    connection.execute(
        f"""
        SELECT q.review_id, q.key, q.reason, q.tier, a.answer,
               d.decision, to_json(d.fields), d.note, d.reviewer {columns}
        FROM queue AS q JOIN read_parquet($source) AS s ON s.{ROW} = q.row
        LEFT JOIN last_answers AS a ON a.row = q.row
        LEFT JOIN {decisions(folder, contract)} AS d ON d.row = q.row
        WHERE $everything OR d.row IS NULL ORDER BY q.row
        """,
        {"source": str(folder.source), "everything": everything},
    )
    while rows := connection.fetchmany(_ROWS_AT_ONCE):
        for review_id, key, reason, tier, answer, decision, fields, note, reviewer, *own in rows:
            model = fields_of(answer, contract)
            fixed = json.loads(fields) if decision == "fix" else {}
            yield (
                [
                    review_id,
                    shown(key),
                    shown(reason),
                    "" if tier is None else str(tier),
                    *map(shown, own),
                    shown(answer),
                    *_cells(model, contract.names),
                    decision or "",
                    *_cells(fixed, contract.names),
                    guarded(note or ""),
                    guarded(reviewer or ""),
                ],
                decision is not None,
            )


def _cells(values: dict[str, Any], names: tuple[str, ...]) -> list[str]:
    return [written(values[name]) if name in values else "" for name in names]
