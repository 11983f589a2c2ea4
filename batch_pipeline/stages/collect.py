"""batch_results: downloads what has ended, checks it against what was sent, and keeps it for good."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import zstandard

from batch_pipeline.claude.client import BatchesApi, UnreachableError
from batch_pipeline.claude.decode import Reading, mark_gone, read_results
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Batch, Chunk, Load
from batch_pipeline.ledger.store import now
from batch_pipeline.rows import LoadFolder, replacing
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
    with _download_folder(context, chunk) as scratch:
        best = _best_download(context, folder, chunk, batch, api, scratch, summary)
        if best is None:
            with replacing(folder.results(chunk.chunk_id)) as results:
                reading = mark_gone(folder.sent(chunk.chunk_id), results, chunk_id=chunk.chunk_id)
        else:
            reading = best.reading
            _keep_raw(folder, chunk, best.raw)
            with replacing(folder.results(chunk.chunk_id)) as results:
                shutil.move(best.parsed, results)
    for kind, n in reading.results.items():
        summary.results[kind] = summary.results.get(kind, 0) + n
    # The commit comes last: before it, a crash means that this batch is read back once more.
    context.ledger.update_batch(
        batch.batch_id,
        collected_at=now(),
        results_gone=int(best is None),
        defects=reading.defects.to_json() if reading.defects else None,
    )
    if reading.defects:
        summary.defects[batch.batch_id] = str(reading.defects)


@contextmanager
def _download_folder(context: LoadContext, chunk: Chunk) -> Iterator[Path]:
    # Named after the chunk, so that what a crash leaves is gone the next time.
    folder = context.scratch / f"download-{chunk.chunk_id}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _gone_for_good(context: LoadContext, batch: Batch, api: BatchesApi) -> bool:
    """Tells results that were deleted or outlived their 29 days from ones that answer 404 for a moment."""
    status = api.retrieve(batch.batch_id)
    if status is None:
        return unknown_for_too_long(context.ledger, batch, context.settings.grace_seconds)
    return status.archived


@dataclass(frozen=True)
class _Download:
    raw: Path
    parsed: Path
    reading: Reading


def _best_download(
    context: LoadContext,
    folder: LoadFolder,
    chunk: Chunk,
    batch: Batch,
    api: BatchesApi,
    scratch: Path,
    summary: CollectSummary,
) -> _Download | None:
    """The most complete of a few downloads; None where the API has no results any more."""
    if batch.results_gone:
        return None
    counts = {
        "succeeded": batch.succeeded,
        "errored": batch.errored,
        "canceled": batch.canceled,
        "expired": batch.expired,
    }
    best: _Download | None = None
    failure: UnreachableError | None = None
    for n in range(DOWNLOADS):
        summary.downloads += 1
        raw, parsed = scratch / f"{n}.jsonl", scratch / f"{n}.parquet"
        try:
            if not api.download(batch.batch_id, raw):
                if _gone_for_good(context, batch, api):
                    return None
                raise UnreachableError("The API does not hand the results out at the moment.")
        except UnreachableError as error:
            # What came before a break is never taken for all there is: its rows would be paid twice.
            failure = error
            continue
        reading = read_results(
            raw,
            folder.sent(chunk.chunk_id),
            parsed,
            token=chunk.token,
            chunk_id=chunk.chunk_id,
            counts=counts,
        )
        if best is None or reading.defects.harm < best.reading.defects.harm:
            best = _Download(raw, parsed, reading)
        if not reading.defects:
            break
    if best is None:
        raise PipelineError(
            f"The results of batch {batch.batch_id} could not be downloaded: {failure} "
            "They are kept by the API for 29 days; the next collect tries again."
        )
    return best


def _keep_raw(folder: LoadFolder, chunk: Chunk, raw: Path) -> None:
    with (
        replacing(folder.raw(chunk.chunk_id)) as temporary,
        raw.open("rb") as source,
        temporary.open("wb") as target,
    ):
        zstandard.ZstdCompressor(level=3).copy_stream(source, target)
