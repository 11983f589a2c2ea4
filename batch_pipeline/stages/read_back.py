"""Reading one batch back: its results are fetched, checked against what was sent, and kept for good."""

import shutil
from collections.abc import Iterator, Mapping
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
from batch_pipeline.ledger import Batch, Chunk, Lane
from batch_pipeline.ledger.records import Adopted
from batch_pipeline.ledger.transactions import now
from batch_pipeline.rows import LoadFolder, replacing
from batch_pipeline.stages.answers import remove_answers, write_results
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.poll import unknown_for_too_long
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


class PostponedError(Exception):
    """Its results cannot be taken now."""

    def __init__(self, why: str, error: LaterError | None = None) -> None:
        super().__init__(why)
        self.error = error


@dataclass(frozen=True)
class _Download:
    raw: Path
    parsed: Path
    reading: Reading


@dataclass(frozen=True)
class ReadingBack:
    """A chunk whose batch has ended. `api` is not asked for one that was answered in the synchronous lane."""

    context: LoadContext
    folder: LoadFolder
    chunk: Chunk
    batch: Batch
    api: BatchesApi | None
    summary: CollectSummary

    def read(self) -> None:
        """Raises PostponedError where the results cannot be taken now."""
        folder, chunk, batch = self.folder, self.chunk, self.batch
        unconfirmed = batch.adopted is Adopted.PROVISIONAL and not batch.results_gone
        if unconfirmed and self.api is not None and not self._is_ours(self.api):
            return
        with self._scratch() as scratch:
            if chunk.lane is Lane.SYNC:
                best = self._kept_answers(scratch)
            else:
                assert self.api is not None
                best = self._best_download(scratch, self.api)
            if best is None:
                with replacing(folder.results(chunk.chunk_id)) as results:
                    reading = mark_gone(
                        folder.sent(chunk.chunk_id), results, chunk_id=chunk.chunk_id
                    )
            else:
                reading = best.reading
                if reading.defects:
                    self._doubt(reading)
                self._keep_raw(best.raw)
                with replacing(folder.results(chunk.chunk_id)) as results:
                    shutil.move(best.parsed, results)
        uncounted = chunk.lane is Lane.SYNC and batch.ended_at is None
        self.summary.add(results=reading.results)
        # The commit comes last: before it, a crash means that this batch is read back once more.
        self.context.ledger.update_batch(
            batch.batch_id,
            collected_at=now(),
            results_gone=int(best is None),
            adopted=Adopted.CONFIRMED.value
            if batch.adopted and best is not None
            else batch.adopted,
            retry_at=None,
            retry_reason=None,
            defects=reading.defects.to_json() if reading.defects else None,
            # A process that ended as it wrote the batch down left it without counts.
            **({"ended_at": now(), **counts(reading.results)} if uncounted else {}),
        )
        if chunk.lane is Lane.SYNC:
            remove_answers(folder.answers(chunk.chunk_id))
        if reading.defects:
            self.summary.defects[batch.batch_id] = str(reading.defects)

    def _is_ours(self, api: BatchesApi) -> bool:
        """Whether an adopted batch's results carry the chunk's token; one that does not is given back."""
        try:
            custom_ids = api.first_custom_ids(self.batch.batch_id)
        except UnreachableError as error:
            raise PostponedError(f"Its results could not be opened: {error}", error) from None
        # Any one of ours proves it: a results file may hold a foreign line, too.
        tokens = {token_of(custom_id) for custom_id in custom_ids} or {self.chunk.token}
        if self.chunk.token in tokens:
            return True
        self.context.ledger.disown(
            self.batch,
            foreign=not any(token and self.context.ledger.chunk_of(token) for token in tokens),
            note=f"batch {self.batch.batch_id} was taken for it, but carries other requests",
        )
        return False

    def _doubt(self, reading: Reading) -> None:
        """Results that do not add up are taken for final only when they have not for the whole grace period.

        Rows without a result are sent, and paid for, again.
        """
        since = self.batch.doubted_since or now()
        if self.batch.doubted_since is None:
            self.context.ledger.update_batch(self.batch.batch_id, doubted_since=since)
        if now() - since < timedelta(seconds=self.context.settings.grace_seconds):
            raise PostponedError(
                f"Its results do not add up ({reading.defects}); they are fetched again."
            )

    def _gone_for_good(self, api: BatchesApi) -> bool:
        """Tells results that were deleted or outlived their 29 days from ones that answer 404 for a moment."""
        status = api.retrieve(self.batch.batch_id)
        if status is None:
            return unknown_for_too_long(
                self.context.ledger, self.batch, api, self.context.settings.grace_seconds
            )
        return status.archived

    def _kept_answers(self, scratch: Path) -> _Download | None:
        """The answers of a chunk that was sent one by one; None where they were removed meanwhile."""
        raw, parsed = scratch / "answers.jsonl", scratch / "answers.parquet"
        if not write_results(self.folder.answers(self.chunk.chunk_id), raw):
            return None
        counted = _counts(self.batch) if self.batch.ended_at else None
        reading = self._parse(raw, parsed, counted)
        return _Download(raw, parsed, reading)

    def _parse(self, raw: Path, parsed: Path, counts: dict[str, int] | None) -> Reading:
        """As a whole where nothing is amiss in it, else line by line, which finds out what is."""
        token, chunk_id = self.chunk.token, self.chunk.chunk_id
        sent = self.folder.sent(chunk_id)
        with self.context.querying(ordered=False) as connection:
            whole = read_whole_results(
                connection, raw, sent, parsed, token=token, chunk_id=chunk_id, counts=counts
            )
        if whole is not None:
            return whole
        return read_results(raw, sent, parsed, token=token, chunk_id=chunk_id, counts=counts)

    def _best_download(self, scratch: Path, api: BatchesApi) -> _Download | None:
        """The most complete of a few downloads; None where the API has no results any more."""
        if self.batch.results_gone:
            return None
        best: _Download | None = None
        failure: UnreachableError | None = None
        for n in range(DOWNLOADS):
            self.summary.add(downloads=1)
            raw, parsed = scratch / f"{n}.jsonl", scratch / f"{n}.parquet"
            try:
                if not api.download(self.batch.batch_id, raw):
                    if self._gone_for_good(api):
                        return None
                    raise UnreachableError("The API does not hand the results out at the moment.")
            except UnreachableError as error:
                # What came before a break is never taken for all there is: its rows would be paid twice.
                failure = error
                continue
            reading = self._parse(raw, parsed, _counts(self.batch))
            if best is None or reading.defects.harm < best.reading.defects.harm:
                best = _Download(raw, parsed, reading)
            if not reading.defects:
                break
        if best is None:
            raise PostponedError(f"Its results could not be downloaded: {failure}", failure)
        return best

    def _keep_raw(self, raw: Path) -> None:
        with (
            replacing(self.folder.raw(self.chunk.chunk_id)) as temporary,
            raw.open("rb") as source,
            temporary.open("wb") as target,
        ):
            zstandard.ZstdCompressor(level=3).copy_stream(source, target)

    @contextmanager
    def _scratch(self) -> Iterator[Path]:
        # Named after the chunk, so that what a crash leaves is gone the next time.
        folder = self.context.scratch / f"download-{self.chunk.chunk_id}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _counts(batch: Batch) -> dict[str, int]:
    return {
        "succeeded": batch.succeeded,
        "errored": batch.errored,
        "canceled": batch.canceled,
        "expired": batch.expired,
    }
