"""promoted_rows: writes the answered rows to the system of record, if the gate lets them through.

It asks the gate itself, however it was launched: a check that passed in some other run proves nothing about
the rows that are here now.
"""

from dataclasses import dataclass, replace

import duckdb

from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Load
from batch_pipeline.rows import replacing
from batch_pipeline.rows.folder import present
from batch_pipeline.rows.query import quoted, read_parquets
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.decisions import HUMAN, human_answers
from batch_pipeline.stages.grade import require_settled
from batch_pipeline.stages.kept_scorecards import keep_scorecard
from batch_pipeline.stages.measured import remember
from batch_pipeline.stages.scorecard import Scorecard, measuring
from batch_pipeline.targets import target_of
from batch_pipeline.warehouse import Promotion


class GateClosedError(PipelineError):
    """The gate holds the load; nothing was promoted."""


@dataclass(frozen=True)
class PromoteSummary:
    """What a promotion did to the table, and on whose word; and the scorecard of what was promoted."""

    promotion: Promotion
    override_reason: str | None
    columns: list[tuple[str, str]]
    card: Scorecard


def promote(
    context: LoadContext, *, override_reason: str | None = None, requested_by: str = "unknown"
) -> PromoteSummary:
    """Upserts the load's validated rows, and those that reviewers answered, where the workload promotes to.

    By default that is `promoted.<workload>` in the warehouse. Whole, or not at all.

    Args:
        context: the load.
        override_reason: lets a load through that the gate holds, for these very rows; recorded.
        requested_by: who gave it: a Dagster run id or a user name.

    Raises:
        GateClosedError: the gate holds the load.
        PipelineError: rows are still open, or were purged; or the place cannot be reached or written.
    """
    with context.ledger.hold(context.workload.name, context.load):
        record = context.record()
        folder = context.folder(record)
        reason = (override_reason or "").strip() or None
        with measuring(context, reason) as (connection, card):
            if not card.settled and record.held_by is not None:
                raise GateClosedError(
                    f"{context} is held before all of it was sent, so most rows have no answer to promote: "
                    f"{record.stopped}"
                )
            require_settled(context, card)
            gate = card.gate
            assert gate is not None
            if not gate.promote:
                raise GateClosedError(
                    f"{context} is held: {'; '.join(gate.reasons)}. Look at the scorecard; to promote all "
                    "the same, launch promoted_rows with override_reason, or `batch-pipeline promote`."
                )
            if gate.override_reason is not None and reason is not None:
                context.ledger.record_override(
                    record, fingerprint=gate.fingerprint, reason=reason, requested_by=requested_by
                )
            columns = _write_promoted(connection, context, record, card)
        # What follows takes effect outside the ledger, for which its lock is no fence.
        context.ledger.require_hold(record.workload, record.load)
        # The measures' tables are given back first: they and the warehouse's would be twice the memory.
        promotion = target_of(context.workload).promote_rows(
            context.settings,
            workload=record.workload,
            load=record.load,
            key=context.workload.spec.source.key,
            rows=folder.promoted,
            fingerprint=gate.fingerprint,
            override_reason=gate.override_reason,
        )
        kept = replace(card, promoted_rows=promotion.rows)
        keep_scorecard(context.shared, record, kept)
        context.ledger.record_promotion(record, rows=promotion.rows, fingerprint=gate.fingerprint)
        remember(context, kept)
        return PromoteSummary(promotion, gate.override_reason, columns, kept)


def _write_promoted(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load, card: Scorecard
) -> list[tuple[str, str]]:
    """Writes promoted.parquet: the key, the contract's fields, and where each answer came from.

    An answer that was carried over keeps its tier, model and batch; `_load` is the load that promotes it now.
    A row that a reviewer answered has the model `human`, no tier, and the batch of the answer they saw.

    Raises PipelineError unless it holds each validated row and each of theirs once; nothing is promoted then.
    """
    folder = context.folder(record)
    people = human_answers(folder, context.workload.contract)
    chunks = {chunk.chunk_id: chunk for chunk in context.ledger.chunks(record)}
    connection.execute("CREATE OR REPLACE TEMP TABLE batch_of (chunk_id VARCHAR, batch_id VARCHAR)")
    pairs = [(b.chunk_id, b.batch_id) for b in context.ledger.batches(record)]
    if pairs:
        connection.executemany("INSERT INTO batch_of VALUES (?, ?)", pairs)
    results = read_parquets(
        present(folder.results(chunk_id) for chunk_id in chunks),
        {"row": "BIGINT", "chunk_id": "VARCHAR", "model": "VARCHAR", "batch_id": "VARCHAR"},
    )
    fields = ", ".join(f"a.fields.{quoted(name)} AS {quoted(name)}" for name in _names(context))
    key = quoted(context.workload.spec.source.key)
    with replacing(folder.promoted) as path:
        connection.execute(
            f"""
            COPY (
                WITH answered AS (
                    SELECT rows.row, a.fields, rows.tier, r.model, coalesce(b.batch_id, r.batch_id) AS batch_id
                    FROM rows JOIN answers AS a USING (row)
                    JOIN {results} AS r ON r.row = rows.row AND r.chunk_id = rows.chunk_id
                    LEFT JOIN batch_of AS b ON b.chunk_id = rows.chunk_id
                    WHERE NOT rows.golden AND rows.disposition = 'validated'
                    AND (rows.reused OR b.chunk_id IS NOT NULL)
                    UNION ALL
                    SELECT rows.row, p.fields, NULL, '{HUMAN}', b.batch_id
                    FROM rows JOIN {people} AS p USING (row)
                    JOIN batch_of AS b ON b.chunk_id = rows.chunk_id
                    WHERE NOT rows.golden AND rows.disposition = 'human_review'
                )
                SELECT s.{key}, {fields}, a.tier AS _tier, a.model AS _model,
                       a.batch_id AS _batch_id, '{record.load}' AS _load
                FROM answered AS a
                JOIN read_parquet('{str(folder.source).replace("'", "''")}') AS s ON s._row = a.row
                ORDER BY a.row
            ) TO '{str(path).replace("'", "''")}' (FORMAT parquet, COMPRESSION zstd)
            """
        )
        written, reviewed = connection.execute(
            f"SELECT (SELECT count(*) FROM read_parquet(?)), (SELECT count(*) FROM {people})",
            [str(path)],
        ).fetchall()[0]
        validated = card.dispositions["validated"]
        if written != validated + reviewed:
            people_too = f" and {reviewed:,} answered by people" if reviewed else ""
            raise PipelineError(
                f"{context}: {validated:,} rows are validated{people_too}, but the files of "
                f"{folder.root} hold the answers of {written:,}; restore what is missing there from a "
                "backup, or send the load again with --resend. Nothing was promoted."
            )
    described = connection.execute(
        "DESCRIBE SELECT * FROM read_parquet(?)", [str(folder.promoted)]
    ).fetchall()
    return [(row[0], row[1]) for row in described]


def _names(context: LoadContext) -> tuple[str, ...]:
    return tuple(field.name for field in context.workload.contract.fields)
