"""batch_results: downloads what has ended, checks it against what was sent, and keeps it for good."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from threading import Lock

import zstandard

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.decode import Reading, mark_gone, read_results, token_of
from batch_pipeline.claude.errors import LaterError, UnreachableError
from batch_pipeline.claude.whole_results import read_whole_results
from batch_pipeline.ledger import Batch, Chunk, Lane, Load
from batch_pipeline.ledger.records import Adopted
from batch_pipeline.ledger.transactions import now
from batch_pipeline.rows import LoadFolder, replacing
from batch_pipeline.stages.address import require_same_api
from batch_pipeline.stages.answers import write_results
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.lanes import is_sync
from batch_pipeline.stages.patience import try_again_at
from batch_pipeline.stages.poll import unknown_for_too_long
from batch_pipeline.stages.side_by_side import side_by_side
from batch_pipeline.stages.sync_lane import counts

# A results file that does not add up is fetched this often at a time.
DOWNLOADS = 3


@dataclass
class CollectSummary:
    """What one call read back: batches, result lines by type, and by batch id what is wrong.

    `defects` are of results that were accepted all the same; `postponed` says why a batch was left for later.
    """

    batches: int = 0
    results: dict[str, int] = field(default_factory=dict)
    downloads: int = 0
    defects: dict[str, str] = field(default_factory=dict)
    postponed: dict[str, str] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(
        self, *, batches: int = 0, downloads: int = 0, results: Mapping[str, int] | None = None
    ) -> None:
        """Adds to the counts; batches are read side by side."""
        with self._lock:
            self.batches += batches
            self.downloads += downloads
            for kind, n in (results or {}).items():
                self.results[kind] = self.results.get(kind, 0) + n


class _PostponedError(Exception):
    """Its results cannot be taken now."""

    def __init__(self, why: str, error: LaterError | None = None) -> None:
        super().__init__(why)
        self.error = error


def collect_results(context: LoadContext, api: Callable[[], BatchesApi]) -> CollectSummary:
    """Reads back every batch of the load that has ended and was not read yet.

    One whose results cannot be had now, or do not add up yet, is left for a later call, and the ledger says
    until when: they are kept for 29 days. One that lags never keeps the others from being read.

    Raises:
        ConfigurationError: the batches are not at the API that is configured now.
    """
    summary = CollectSummary()
    with context.ledger.hold(context.workload.name, context.load):
        record = context.record()
        chunks = {chunk.chunk_id: chunk for chunk in context.ledger.chunks(record)}
        batches = context.ledger.batches(record)
        _remove_answers(context, record, batches)
        ready = [batch for batch in batches if batch.ready]
        # What was answered one by one is here already.
        client = api() if not all(is_sync(batch) for batch in ready) else None
        for batch in ready:
            if client is not None and not is_sync(batch):
                require_same_api(f"Batch {batch.batch_id}", batch.api, client.address)

        def collect(batch: Batch) -> None:
            _collect_or_postpone(context, record, chunks[batch.chunk_id], batch, client, summary)

        side_by_side(collect, ready, context.settings.at_once)
    return summary


def _collect_or_postpone(
    context: LoadContext,
    record: Load,
    chunk: Chunk,
    batch: Batch,
    api: BatchesApi | None,
    summary: CollectSummary,
) -> None:
    try:
        _collect(context, record, chunk, batch, api, summary)
    except _PostponedError as postponed:
        moment = try_again_at(context.settings, postponed.error, batch.retries)
        context.ledger.update_batch(
            batch.batch_id,
            retry_at=moment,
            retries=batch.retries + 1,
            retry_reason=str(postponed),
        )
        summary.postponed[batch.batch_id] = str(postponed)
    else:
        summary.add(batches=1)


def _collect(
    context: LoadContext,
    record: Load,
    chunk: Chunk,
    batch: Batch,
    api: BatchesApi | None,
    summary: CollectSummary,
) -> None:
    folder = context.folder(record)
    unconfirmed = batch.adopted is Adopted.PROVISIONAL and not batch.results_gone
    if unconfirmed and api is not None and not _is_ours(context, batch, chunk, api):
        return
    with _download_folder(context, chunk) as scratch:
        if chunk.lane is Lane.SYNC:
            best = _kept_answers(context, folder, chunk, batch, scratch)
        else:
            assert api is not None
            best = _best_download(context, folder, chunk, batch, api, scratch, summary)
        if best is None:
            with replacing(folder.results(chunk.chunk_id)) as results:
                reading = mark_gone(folder.sent(chunk.chunk_id), results, chunk_id=chunk.chunk_id)
        else:
            reading = best.reading
            if reading.defects:
                _doubt(context, batch, reading)
            _keep_raw(folder, chunk, best.raw)
            with replacing(folder.results(chunk.chunk_id)) as results:
                shutil.move(best.parsed, results)
    uncounted = chunk.lane is Lane.SYNC and batch.ended_at is None
    summary.add(results=reading.results)
    # The commit comes last: before it, a crash means that this batch is read back once more.
    context.ledger.update_batch(
        batch.batch_id,
        collected_at=now(),
        results_gone=int(best is None),
        adopted=Adopted.CONFIRMED.value if batch.adopted and best is not None else batch.adopted,
        retry_at=None,
        retry_reason=None,
        defects=reading.defects.to_json() if reading.defects else None,
        # A process that ended as it wrote the batch down left it without counts.
        **({"ended_at": now(), **counts(reading.results)} if uncounted else {}),
    )
    folder.answers(chunk.chunk_id).unlink(missing_ok=True)
    if reading.defects:
        summary.defects[batch.batch_id] = str(reading.defects)


def _is_ours(context: LoadContext, batch: Batch, chunk: Chunk, api: BatchesApi) -> bool:
    """Whether an adopted batch's results carry the chunk's token; one that does not is given back."""
    try:
        custom_ids = api.first_custom_ids(batch.batch_id)
    except UnreachableError as error:
        raise _PostponedError(f"Its results could not be opened: {error}", error) from None
    # Any one of ours proves it: a results file may hold a foreign line, too.
    tokens = {token_of(custom_id) for custom_id in custom_ids} or {chunk.token}
    if chunk.token in tokens:
        return True
    context.ledger.disown(
        batch,
        foreign=not any(token and context.ledger.chunk_of(token) for token in tokens),
        note=f"batch {batch.batch_id} was taken for it, but carries other requests",
    )
    return False


def _doubt(context: LoadContext, batch: Batch, reading: Reading) -> None:
    """Results that do not add up are taken for final only when they have not for the whole grace period.

    Rows without a result are sent, and paid for, again.
    """
    since = batch.doubted_since or now()
    if batch.doubted_since is None:
        context.ledger.update_batch(batch.batch_id, doubted_since=since)
    if now() - since < timedelta(seconds=context.settings.grace_seconds):
        raise _PostponedError(
            f"Its results do not add up ({reading.defects}); they are fetched again."
        )


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
        return unknown_for_too_long(context.ledger, batch, api, context.settings.grace_seconds)
    return status.archived


@dataclass(frozen=True)
class _Download:
    raw: Path
    parsed: Path
    reading: Reading


def _remove_answers(context: LoadContext, record: Load, batches: list[Batch]) -> None:
    """Those that a crash left after their batch was read back."""
    if record.purged_at is None:
        for batch in batches:
            if is_sync(batch) and batch.collected_at is not None:
                context.folder(record).answers(batch.chunk_id).unlink(missing_ok=True)


def _kept_answers(
    context: LoadContext, folder: LoadFolder, chunk: Chunk, batch: Batch, scratch: Path
) -> _Download | None:
    """The answers of a chunk that was sent one by one; None where they were removed meanwhile."""
    raw, parsed = scratch / "answers.jsonl", scratch / "answers.parquet"
    if not write_results(folder.answers(chunk.chunk_id), raw):
        return None
    counted = _counts(batch) if batch.ended_at else None
    reading = _read(context, folder, chunk, raw, parsed, counted)
    return _Download(raw, parsed, reading)


def _read(
    context: LoadContext,
    folder: LoadFolder,
    chunk: Chunk,
    raw: Path,
    parsed: Path,
    counts: dict[str, int] | None,
) -> Reading:
    """As a whole where nothing is amiss in it, else line by line, which finds out what is."""
    sent, token, chunk_id = folder.sent(chunk.chunk_id), chunk.token, chunk.chunk_id
    with context.querying(ordered=False) as connection:
        whole = read_whole_results(
            connection, raw, sent, parsed, token=token, chunk_id=chunk_id, counts=counts
        )
    if whole is not None:
        return whole
    return read_results(raw, sent, parsed, token=token, chunk_id=chunk_id, counts=counts)


def _counts(batch: Batch) -> dict[str, int]:
    return {
        "succeeded": batch.succeeded,
        "errored": batch.errored,
        "canceled": batch.canceled,
        "expired": batch.expired,
    }


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
    best: _Download | None = None
    failure: UnreachableError | None = None
    for n in range(DOWNLOADS):
        summary.add(downloads=1)
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
        reading = _read(context, folder, chunk, raw, parsed, _counts(batch))
        if best is None or reading.defects.harm < best.reading.defects.harm:
            best = _Download(raw, parsed, reading)
        if not reading.defects:
            break
    if best is None:
        raise _PostponedError(f"Its results could not be downloaded: {failure}", failure)
    return best


def _keep_raw(folder: LoadFolder, chunk: Chunk, raw: Path) -> None:
    with (
        replacing(folder.raw(chunk.chunk_id)) as temporary,
        raw.open("rb") as source,
        temporary.open("wb") as target,
    ):
        zstandard.ZstdCompressor(level=3).copy_stream(source, target)
