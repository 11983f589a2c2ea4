"""source_rows: reads the load's rows once, weaves the golden ones in, and keeps the result for good.

A load that was read stays as it was read: later stages and re-runs see the same rows, whatever has become
of the file. Until something was sent, reading again is harmless and picks up a mended source.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger import ChunkState, Lane, Load
from batch_pipeline.obstacles import is_no_room
from batch_pipeline.rows import LoadFolder, replacing
from batch_pipeline.rows.query import limit_memory, memory_for, querying, quoted
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.golden_file import GOLDEN_ROWS, expected_columns
from batch_pipeline.stages.source_check import (
    SOURCE,
    OpenedSource,
    check_rows,
    check_source,
    open_source,
    unreadable,
)
from batch_pipeline.stages.source_columns import EXPECTED, GOLDEN, KEY, OWN_COLUMNS, ROW
from batch_pipeline.workload.data_file import literal

__all__ = [
    "EXPECTED",
    "GOLDEN",
    "KEY",
    "OWN_COLUMNS",
    "ROW",
    "SourceSummary",
    "check_source",
    "read_source",
]

_PLACED = "_placed_golden_rows"
# How finely a golden row's place within its stretch is drawn.
_PLACES = 1_000_000
_ROWS_LOOKED_AT = 1_000
# A row group is held in memory by whoever writes or reads it.
_LEAST_GROUP, _MOST_GROUP, _GROUP_BYTES = 2_048, 50_000, 32_000_000


@dataclass(frozen=True)
class SourceSummary:
    """What source_rows shows: rows to answer for, golden rows woven in, and whether it was read now."""

    source_rows: int
    golden_rows: int
    generation: int
    read_now: bool
    columns: list[tuple[str, str]]


def read_source(
    context: LoadContext, *, resend: bool = False, requested_by: str | None = None
) -> SourceSummary:
    """Reads the source into source.parquet and records the load.

    Args:
        context: the load.
        resend: start a new generation: the source is read anew and every row is sent again.
        requested_by: the run that asks; the same run asking twice starts one generation only.

    Raises:
        ConfigurationError: the source, its key or the golden file is not as declared.
        PipelineError: the load is to be sent again while batches of it are out.
    """
    ledger = context.ledger
    with ledger.hold(context.workload.name, context.load):
        record = ledger.load(context.workload.name, context.load)
        again = resend and record is not None and record.requested_by != requested_by
        if record is not None and not again and _begun(context, record):
            return _summary(context, record, read_now=False)
        if record is not None and again:
            _stop_at_running(context, record)
        generation = 1 if record is None else record.generation + (1 if again else 0)
        folder = LoadFolder.configured(
            context.settings, context.workload.name, context.load, generation
        )
        if record is None and any(folder.sent("x").parent.glob("*.parquet")):
            raise PipelineError(
                f"{context}: {folder.root} holds batches that were sent, but the ledger knows nothing of this "
                "load; restore ledger.sqlite from a backup, or move that folder away to send it all again."
            )
        with querying(context.scratch) as connection:
            source = open_source(context.workload, context.load, connection)
            source_rows, golden_rows = _write(context, connection, source, folder)
        ledger.record_load(
            context.workload.name,
            context.load,
            generation=generation,
            fingerprint=context.workload.fingerprint(),
            source_rows=source_rows,
            golden_rows=golden_rows,
            requested_by=requested_by if again else None,
        )
        return _summary(context, context.record(), read_now=True)


def _stop_at_running(context: LoadContext, record: Load) -> None:
    """Batches of a generation that was left behind would be paid for, and collected by nobody."""
    intents = [c for c in context.ledger.chunks(record) if c.state is ChunkState.INTENT]
    if any(chunk.lane is Lane.SYNC for chunk in intents):
        raise PipelineError(
            f"{context}: its synchronous sending was cut off, and goes on when called without --resend (or by "
            "the sensor); let it end first, then send the load again."
        )
    if intents:
        raise PipelineError(
            f"{context}: a chunk was sent and its answer was lost; it is looked for, so call without --resend "
            "(or let the sensor carry on) until that is settled, then send the load again."
        )
    out = [batch for batch in context.ledger.batches(record) if batch.collected_at is None]
    if out:
        raise PipelineError(
            f"{context}: {len(out)} of its batches are out and are paid for; let them be read back first "
            "(call without --resend, or let the sensor carry on), then send the load again."
        )


def _begun(context: LoadContext, record: Load) -> bool:
    """Whether anything of the load may have been sent or judged. A chunk that was refused was not."""
    chunks = context.ledger.chunks(record)
    return record.promoted_at is not None or any(
        chunk.state is not ChunkState.NOT_CREATED for chunk in chunks
    )


def _write(
    context: LoadContext,
    connection: duckdb.DuckDBPyConnection,
    source: OpenedSource,
    folder: LoadFolder,
) -> tuple[int, int]:
    """Writes golden.parquet, then source.parquet, which makes the pair complete.

    Returns how many source and golden rows there are. The rows of the source are checked as they were
    written, so that what was checked is what will be sent.
    """
    try:
        row_bytes = _row_bytes(connection, source)
        limit_memory(connection, memory_for(row_bytes, 0))
        rows = connection.execute(f"SELECT count(*) FROM {SOURCE}").fetchall()[0][0]
        golden_rows = 0
        if context.workload.spec.golden is not None and rows:
            golden_rows = _place_golden(connection, context.load, rows)
            _write_golden(context, connection, folder)
        # They are of the rows that were read before.
        folder.prompts.unlink(missing_ok=True)
        with replacing(folder.source) as path:
            group = max(_LEAST_GROUP, min(_MOST_GROUP, int(_GROUP_BYTES / max(row_bytes, 1))))
            _weave(context, connection, source, path, rows, golden_rows, group)
            written = f"(FROM read_parquet({literal(str(path))}) WHERE NOT {GOLDEN})"
            if check_rows(connection, source, written) != rows:
                raise ConfigurationError(
                    f"{source.where} changed while it was read; launch again when nobody writes to it."
                )
    except duckdb.Error as error:
        if is_no_room(error):
            raise
        raise unreadable(source, error) from None
    return rows, golden_rows


def _row_bytes(connection: duckdb.DuckDBPyConnection, source: OpenedSource) -> float:
    """Bytes of a row as text, by the first ones."""
    size = " + ".join(
        f"coalesce(strlen(CAST({quoted(name)} AS VARCHAR)), 0)" for name in source.columns
    )
    (found,) = connection.execute(
        f"SELECT avg({size}) FROM (FROM {SOURCE} LIMIT {_ROWS_LOOKED_AT})"
    ).fetchall()[0]
    return float(found or 0)


def _place_golden(connection: duckdb.DuckDBPyConnection, load: str, rows: int) -> int:
    """Draws a place for each golden row, and returns how many there are.

    One lies in each equal stretch of the source, so that every batch carries its share; where in it, and
    which one, only the date decides, so that no pattern gives them away.

    Makes the table `_PLACED`: `position` in the golden file, `before`, the number of source rows that come
    before it, and `place` among all rows. Sets the variable `before` to the list of those numbers.
    """
    count = connection.execute(f"SELECT count(*) FROM {GOLDEN_ROWS}").fetchall()[0][0]
    # Exact integers: a rounded border could give two rows one place.
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE {_PLACED} AS
        WITH shuffled AS (
            SELECT {ROW} AS position, md5_number_lower($load || '/place/' || {ROW}) % {_PLACES} AS draw,
                   row_number() OVER (ORDER BY md5($load || '/' || {ROW}), {ROW}) - 1 AS rank
            FROM {GOLDEN_ROWS}
        ), drawn AS (
            SELECT position, rank, (rank::HUGEINT * {_PLACES} + draw) * {rows} AS share,
                   {count}::HUGEINT * {_PLACES} AS shares
            FROM shuffled
        ), placed AS (
            SELECT position, rank, CAST((share + shares - 1) // shares AS BIGINT) AS before FROM drawn
        )
        SELECT position, before, before + rank AS place FROM placed
        """,
        {"load": load},
    )
    connection.execute(f"SET VARIABLE before = (SELECT list(before ORDER BY place) FROM {_PLACED})")
    return int(count)


def _write_golden(
    context: LoadContext, connection: duckdb.DuckDBPyConnection, folder: LoadFolder
) -> None:
    """Writes the right answers by row, to a file that nothing that builds requests reads."""
    present = _columns(connection, GOLDEN_ROWS)
    answers = [name for name in expected_columns(context.workload) if name in present]
    named = ", ".join(f"g.{quoted(name)}" for name in answers)
    with replacing(folder.golden) as path:
        connection.execute(
            f"COPY (SELECT place AS {ROW}, {named} FROM {_PLACED} JOIN {GOLDEN_ROWS} AS g "
            f"ON g.{ROW} = position ORDER BY place) TO {literal(str(path))} (FORMAT parquet)"
        )


def _weave(
    context: LoadContext,
    connection: duckdb.DuckDBPyConnection,
    source: OpenedSource,
    path: Path,
    rows: int,
    golden_rows: int,
    group: int,
) -> None:
    """Writes source.parquet in one pass over the source: nothing is sorted, whatever its size.

    It has `group` rows in each row group.
    """
    names = ", ".join(quoted(name) for name in source.columns)
    key = f"CAST({quoted(source.key)} AS VARCHAR)"
    place, golden = ROW, ""
    if golden_rows:
        # Of the golden rows, those of the stretches before this one have gone ahead, and perhaps its own.
        stretch = f"CAST(({ROW}::HUGEINT * {golden_rows}) // {rows} AS BIGINT)"
        own = f"CAST({ROW} >= getvariable('before')[{stretch} + 1] AS BIGINT)"
        place = f"{ROW} + {stretch} + coalesce({own}, 0)"
        golden = f"UNION ALL {_golden_rows(context, connection, source)}"
    connection.execute(
        f"""
        COPY (
            SELECT {place} AS {ROW}, false AS {GOLDEN}, {key} AS {KEY}, {names}
            FROM (SELECT row_number() OVER () - 1 AS {ROW}, {names} FROM {SOURCE})
            {golden}
        ) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {group})
        """
    )


def _golden_rows(
    context: LoadContext, connection: duckdb.DuckDBPyConnection, source: OpenedSource
) -> str:
    """A SELECT of the golden rows in the source's columns; what a golden file does not have is null."""
    present = _columns(connection, GOLDEN_ROWS)
    answers = expected_columns(context.workload)
    cells = ", ".join(
        f"TRY_CAST(g.{quoted(name)} AS {kind})"
        if name in present and name not in answers
        else f"CAST(NULL AS {kind})"
        for name, kind in source.columns.items()
    )
    key = f"CAST(g.{quoted(source.key)} AS VARCHAR)" if source.key in present else "NULL"
    return (
        f"SELECT place, true, coalesce({key}, 'golden-' || position), {cells} "
        f"FROM {_PLACED} JOIN {GOLDEN_ROWS} AS g ON g.{ROW} = position"
    )


def _summary(context: LoadContext, record: Load, *, read_now: bool) -> SourceSummary:
    with querying(context.scratch) as connection:
        described = connection.execute(
            "DESCRIBE SELECT * FROM read_parquet(?)", [str(context.folder(record).source)]
        ).fetchall()
    return SourceSummary(
        source_rows=record.source_rows,
        golden_rows=record.golden_rows,
        generation=record.generation,
        read_now=read_now,
        columns=[(row[0], row[1]) for row in described],
    )


def _columns(connection: duckdb.DuckDBPyConnection, relation: str) -> list[str]:
    return [row[0] for row in connection.execute(f"DESCRIBE {relation}").fetchall()]
