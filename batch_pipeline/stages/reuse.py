"""Answers carried over: a row that has not changed since it was promoted keeps its answer, and is not sent.

What was said of a key last decides: the newest earlier load that promoted it. Its answer stands where that
load had the same prompt, contract and tiers, and the row has the same rendered prompt. It is judged once
more, since the user's own checks may have changed; a row whose old answer fails is sent like any other.
"""

import hashlib
from collections.abc import Iterator
from itertools import groupby

import duckdb

from batch_pipeline.ledger import Chunk, ChunkState, Load
from batch_pipeline.ledger.transactions import now
from batch_pipeline.measure.spend import TOKENS
from batch_pipeline.rows import LoadFolder, replacing
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.same_prompts import prompt_digests
from batch_pipeline.stages.verdicts import write_verdicts
from batch_pipeline.workload.data_file import literal


def carry_over(connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load) -> int:
    """Answers rows of a load from what earlier loads promoted, where the workload asks for that; how many.

    Only before anything else was made of the load: called later, or again, it does nothing. Call it while
    holding the load. What it decides is a chunk of its own that was never sent, whose record comes last.

    Raises:
        ConfigurationError: a check of the user's own cannot be evaluated.
        PipelineError: a file of an earlier load is damaged.
    """
    wanted = context.workload.spec.reuse and not record.cancelled
    if not wanted or record.fingerprint != context.workload.fingerprint():
        return 0
    chunks = context.ledger.chunks(record)
    # Whoever sends a load again wants other answers than it had.
    if record.generation > 1 or any(c.state is not ChunkState.NOT_CREATED for c in chunks):
        return 0
    folder = context.folder(record)
    _open_rows(connection, context, folder)
    for earlier in _promoted_before(context, record):
        if not _take_over(connection, context, record, earlier):
            break
    # The same each time, so that what a crash left of it is written over.
    name = f"{record.workload}/{record.load}/{record.generation}/{ChunkState.REUSED}"
    chunk_id = hashlib.sha256(name.encode()).hexdigest()[:32]
    rows = _write(connection, context, folder, chunk_id)
    if rows:
        context.ledger.record_intent(_chunk(context, record, chunk_id))
    return rows


def _promoted_before(context: LoadContext, record: Load) -> Iterator[Load]:
    """What each earlier load promoted last, the newest first.

    It ends where rows were purged: what that load said of a key is not known any more, and may be newer
    than what the ones before it said.
    """
    generations = [
        each
        for each in context.ledger.generations(record.workload)
        if each.load < record.load and each.promoted_at is not None
    ]
    for _, promoted in groupby(reversed(generations), lambda each: each.load):
        latest = next(promoted)
        folder = _folder(context, latest)
        if latest.purged_at is not None or not folder.promoted.is_file():
            return
        yield latest


def _folder(context: LoadContext, record: Load) -> LoadFolder:
    return LoadFolder.configured(context.settings, record.workload, record.load, record.generation)


def _open_rows(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, folder: LoadFolder
) -> None:
    """Makes the tables `undecided`, the source rows with their digests, and `carried`, none yet."""
    digests = prompt_digests(connection, folder, context.workload.prompt)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE undecided AS SELECT row, key, digest FROM read_parquet(?)",
        [str(digests)],
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE carried "
        "(row BIGINT, answer VARCHAR, tier INTEGER, model VARCHAR, batch_id VARCHAR)"
    )


def _take_over(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load, earlier: Load
) -> bool:
    """Decides the rows whose keys `earlier` promoted; whether any row remains."""
    folder = _folder(context, earlier)
    key = f"CAST(p.{quoted(context.workload.spec.source.key)} AS VARCHAR)"
    promoted = f"read_parquet({literal(str(folder.promoted))})"
    named = {row[0] for row in connection.execute(f"DESCRIBE FROM {promoted}").fetchall()}
    if context.workload.spec.source.key not in named:
        # The key was another column then: what was said of a key cannot be told.
        return False
    if earlier.fingerprint == record.fingerprint and (
        folder.prompts.is_file() or folder.source.is_file()
    ):
        digests = prompt_digests(connection, folder, context.workload.prompt)
        names = context.workload.contract.names
        answer = ", ".join(f"{quoted(name)} := p.{quoted(name)}" for name in names)
        connection.execute(
            f"""
            INSERT INTO carried
            SELECT u.row, CAST(to_json(struct_pack({answer})) AS VARCHAR), p._tier, p._model, p._batch_id
            FROM undecided AS u JOIN {promoted} AS p ON {key} = u.key
            JOIN read_parquet({literal(str(digests))}) AS d ON d.key = u.key AND d.digest = u.digest
            """
        )
    connection.execute(f"DELETE FROM undecided WHERE key IN (SELECT {key} FROM {promoted} AS p)")
    return bool(connection.execute("SELECT count(*) FROM undecided").fetchall()[0][0])


def _write(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, folder: LoadFolder, chunk_id: str
) -> int:
    """Judges what was carried over, and writes results and verdicts of all of it, and as sent what stands.

    Such a row was sent nowhere: its attempt and sending are 0, its tier is that of the answer (null where a
    person gave it). Its result is `reused`: the API was asked nothing, and nothing is paid.
    """
    nothing = ", ".join(f"CAST(0 AS BIGINT) AS {kind}_tokens" for kind in TOKENS)
    line = (
        f"SELECT row, '{chunk_id}' AS chunk_id, {{tier}} AS tier, 0 AS attempt, 0 AS sending, '{{result}}' AS result, "
        "CAST(NULL AS VARCHAR) AS stop_reason, CAST(NULL AS VARCHAR) AS error_type, answer, model, batch_id, "
        f"true AS shared, {nothing} FROM carried ORDER BY row"
    )
    if not connection.execute("SELECT count(*) FROM carried").fetchall()[0][0]:
        return 0
    context.scratch.mkdir(parents=True, exist_ok=True)
    answers = context.scratch / f"reused-{chunk_id}.parquet"
    try:
        # Judged as the API's answers are.
        _copy(connection, line.format(result="succeeded", tier="tier"), answers)
        write_verdicts(
            connection,
            answers,
            folder.source,
            context.workload.contract,
            context.workload.user_checks(),
            folder.verdicts(chunk_id),
        )
    finally:
        answers.unlink(missing_ok=True)
    with replacing(folder.results(chunk_id)) as results:
        # Whatever sums results up by tier meets no result without one.
        _copy(connection, line.format(result="reused", tier="coalesce(tier, 0)"), results)
    verdicts = f"read_parquet({literal(str(folder.verdicts(chunk_id)))})"
    with replacing(folder.sent(chunk_id)) as sent:
        _copy(
            connection,
            'SELECT row, tier, attempt, sending, chunk_id, CAST(NULL AS BIGINT) AS "of" '
            f"FROM {verdicts} WHERE outcome = 'valid' ORDER BY row",
            sent,
        )
    (stand,) = connection.execute(
        "SELECT count(*) FROM read_parquet(?)", [str(folder.sent(chunk_id))]
    ).fetchall()[0]
    return int(stand)


def _copy(connection: duckdb.DuckDBPyConnection, query: str, path: object) -> None:
    connection.execute(f"COPY ({query}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)")


def _chunk(context: LoadContext, record: Load, chunk_id: str) -> Chunk:
    moment = now()
    return Chunk(
        chunk_id=chunk_id,
        workload=record.workload,
        load=record.load,
        generation=record.generation,
        wave=0,
        tier=0,
        model=context.workload.spec.tiers[0].model,
        token=chunk_id,
        requests=0,
        bytes=0,
        sha256="",
        state=ChunkState.REUSED,
        api=None,
        intended_at=moment,
        looked_for_since=None,
        closed_at=moment,
        note=None,
    )
