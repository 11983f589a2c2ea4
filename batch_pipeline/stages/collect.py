"""batch_results: downloads what has ended, checks it against what was sent, and keeps it for good."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import zstandard

from batch_pipeline.claude.client import BatchesApi, UnreachableError, is_utf8
from batch_pipeline.claude.decode import Defects, mark_gone, read_results
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Batch, Chunk, Load
from batch_pipeline.ledger.store import now
from batch_pipeline.rows import LoadFolder, replacing
from batch_pipeline.rows.query import querying
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.poll import unknown_for_too_long

# A results file that does not add up is fetched this often before the good lines are accepted.
DOWNLOADS = 3


@dataclass
class CollectSummary:
    """What one call read back: batches, result lines by type, and defects by batch id."""

    batches: int = 0
    results: dict[str, int] = field(default_factory=dict)
    downloads: int = 0
    defects: dict[str, str] = field(default_factory=dict)


def collect_results(context: LoadContext, api: Callable[[], BatchesApi]) -> CollectSummary:
    """Reads back every batch of the load that has ended and was not read yet.

    Raises:
        PipelineError: the results of some batch cannot be downloaded now; those of the others are kept.
    """
    summary = CollectSummary()
    failures: list[PipelineError] = []
    with context.ledger.hold(context.workload.name, context.load):
        record = context.record()
        chunks = {chunk.chunk_id: chunk for chunk in context.ledger.chunks(record)}
        ready = [batch for batch in context.ledger.batches(record) if batch.ready]
        client = api() if ready else None
        for batch in ready:
            assert client is not None
            try:
                _collect(context, record, chunks[batch.chunk_id], batch, client, summary)
            except PipelineError as error:
                # One that lags must not keep the others from being read before they are gone.
                failures.append(error)
                continue
            summary.batches += 1
    if failures:
        raise failures[0]
    return summary


def _collect(
    context: LoadContext,
    record: Load,
    chunk: Chunk,
    batch: Batch,
    api: BatchesApi,
    summary: CollectSummary,
) -> None:
    folder = context.folder(record)
    context.scratch.mkdir(parents=True, exist_ok=True)
    downloads = [context.scratch / f"{chunk.chunk_id}.{n}.jsonl" for n in range(DOWNLOADS)]
    try:
        with querying(context.scratch) as connection:
            defects = _best_download(
                context, connection, folder, chunk, batch, api, downloads, summary
            )
            if defects is None:
                mark_gone(
                    connection,
                    folder.sent(chunk.chunk_id),
                    downloads[0],
                    token=chunk.token,
                    chunk_id=chunk.chunk_id,
                )
            _write_results(connection, folder, chunk)
            for kind, n in connection.execute(
                "SELECT result, count(*) FROM results GROUP BY ALL"
            ).fetchall():
                summary.results[kind] = summary.results.get(kind, 0) + n
    finally:
        for path in downloads:
            path.unlink(missing_ok=True)
    # The commit comes last: before it, a crash means that this batch is read back once more.
    context.ledger.update_batch(
        batch.batch_id,
        collected_at=now(),
        results_gone=int(defects is None),
        defects=defects.to_json() if defects else None,
    )
    if defects:
        summary.defects[batch.batch_id] = str(defects)


def _gone_for_good(context: LoadContext, batch: Batch, api: BatchesApi) -> bool:
    """Tells results that were deleted or outlived their 29 days from ones that answer 404 for a moment."""
    status = api.retrieve(batch.batch_id)
    if status is None:
        return unknown_for_too_long(context.ledger, batch, context.settings.grace_seconds)
    return status.archived


def _best_download(
    context: LoadContext,
    connection: duckdb.DuckDBPyConnection,
    folder: LoadFolder,
    chunk: Chunk,
    batch: Batch,
    api: BatchesApi,
    downloads: list[Path],
    summary: CollectSummary,
) -> Defects | None:
    """Leaves the most complete of a few downloads in the table `results`; None where there are none."""
    if batch.results_gone:
        return None
    counts = {
        "succeeded": batch.succeeded,
        "errored": batch.errored,
        "canceled": batch.canceled,
        "expired": batch.expired,
    }
    best: tuple[Path, Defects] | None = None
    failure: UnreachableError | None = None
    for path in downloads:
        summary.downloads += 1
        try:
            if not api.download(batch.batch_id, path):
                if _gone_for_good(context, batch, api):
                    return None
                raise UnreachableError("The API does not hand the results out at the moment.")
        except UnreachableError as error:
            # What came before a break is never taken for all there is: its rows would be paid twice.
            failure = error
            continue
        defects = _read(connection, folder, chunk, path, counts)
        if best is None or defects.harm < best[1].harm:
            best = (path, defects)
        if not defects:
            break
    if best is None:
        raise PipelineError(
            f"The results of batch {batch.batch_id} could not be downloaded: {failure} "
            "They are kept by the API for 29 days; the next collect tries again."
        )
    path, defects = best
    if defects:
        # Later downloads were read over it.
        defects = _read(connection, folder, chunk, path, counts)
    _keep_raw(folder, chunk, path)
    return defects


def _read(
    connection: duckdb.DuckDBPyConnection,
    folder: LoadFolder,
    chunk: Chunk,
    raw: Path,
    counts: dict[str, int],
) -> Defects:
    readable = raw
    if not is_utf8(raw):
        readable = raw.with_suffix(".utf8")
        with (
            raw.open(encoding="utf-8", errors="replace", newline="") as source,
            readable.open("w", encoding="utf-8", newline="") as target,
        ):
            while block := source.read(1 << 20):
                target.write(block)
    try:
        return read_results(
            connection,
            readable,
            folder.sent(chunk.chunk_id),
            token=chunk.token,
            chunk_id=chunk.chunk_id,
            counts=counts,
        )
    finally:
        if readable is not raw:
            readable.unlink()


def _keep_raw(folder: LoadFolder, chunk: Chunk, raw: Path) -> None:
    with (
        replacing(folder.raw(chunk.chunk_id)) as temporary,
        raw.open("rb") as source,
        temporary.open("wb") as target,
    ):
        zstandard.ZstdCompressor(level=3).copy_stream(source, target)


def _write_results(connection: duckdb.DuckDBPyConnection, folder: LoadFolder, chunk: Chunk) -> None:
    with replacing(folder.results(chunk.chunk_id)) as temporary:
        literal = str(temporary).replace("'", "''")
        connection.execute(f"COPY results TO '{literal}' (FORMAT parquet, COMPRESSION zstd)")
