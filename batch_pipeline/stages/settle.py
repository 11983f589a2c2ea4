"""Closes a load when every row has its disposition, and writes them down.

Reading states back afterwards costs one small file instead of all results.
"""

import duckdb

from batch_pipeline.ledger import Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.rows import replacing
from batch_pipeline.stages.context import LoadContext


def settle(connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load) -> bool:
    """Sets the load's phase by what is open, and returns whether nothing is.

    Call it while holding the load, after what was due has been sent as far as that is possible now, with
    the table `states` of that moment.
    """
    if _due_rows(connection):
        return _set(context, record, Phase.SENDING)
    if any(batch.collected_at is None for batch in context.ledger.batches(record)):
        return _set(context, record, Phase.WAITING)
    if _open_rows(connection, context, record):
        return _set(context, record, Phase.WAITING)
    return _set(context, record, Phase.SETTLED)


def _due_rows(connection: duckdb.DuckDBPyConnection) -> int:
    (due,) = connection.execute(
        "SELECT count(*) FROM states WHERE next_tier IS NOT NULL"
    ).fetchall()[0]
    return int(due)


def _open_rows(connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load) -> int:
    """The number of rows without a disposition; where it is 0, writes dispositions.parquet."""
    (open_rows,) = connection.execute(
        "SELECT count(*) FROM states WHERE disposition IS NULL"
    ).fetchall()[0]
    if not open_rows:
        with replacing(context.folder(record).dispositions) as path:
            connection.execute(
                "COPY (SELECT row, golden, key, disposition, disposition_reason AS reason, tier, "
                "top_tier, attempt, coalesce(sending, 0) AS attempts, chunk_id FROM states "
                "ORDER BY row) TO '" + str(path).replace("'", "''") + "' (FORMAT parquet)"
            )
    return int(open_rows)


def _set(context: LoadContext, record: Load, phase: Phase) -> bool:
    current = context.record().phase
    if current is not phase:
        context.ledger.set_phase(record, phase)
    return phase is Phase.SETTLED
