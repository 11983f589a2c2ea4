"""What a person should know of a load's sending: lost answers, stops, and time running out."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from batch_pipeline.ledger import Batch, Chunk, ChunkState, Lane, Ledger, Load
from batch_pipeline.ledger.transactions import now
from batch_pipeline.settings import Settings
from batch_pipeline.stages.lanes import is_sync

# The API ends a batch 24 hours after it was created; a margin, so that its own delay is not reported.
CEILING = timedelta(hours=24)
_MARGIN = timedelta(hours=1)
# Results are kept for 29 days from creation; a page at 20 leaves nine to act.
KEPT = timedelta(days=29)
PAGE_AT = timedelta(days=20)
_MANY_RETRIES = 3


@dataclass(frozen=True)
class Finding:
    """One sentence: what is wrong, and what to do. `page` says that it cannot wait for the morning.

    `topic` stays the same while the sentence changes with time.
    """

    topic: str
    sentence: str
    page: bool


def findings(ledger: Ledger, record: Load, settings: Settings) -> list[Finding]:
    """All findings on the latest generation of a load, read from the ledger alone."""
    moment = now()
    found = list(_of_load(record))
    for chunk in ledger.chunks(record):
        if chunk.lane is Lane.SYNC:
            found += _of_sync_chunk(chunk)
        else:
            found += _of_chunk(chunk, moment, timedelta(seconds=settings.grace_seconds))
    for batch in ledger.batches(record):
        if batch.collected_at is None and not is_sync(batch):
            found += _of_batch(batch, moment, timedelta(seconds=settings.grace_seconds))
    return found


def _of_load(record: Load) -> Iterator[Finding]:
    if record.stopped is not None and not record.cancelled:
        # The sentence of a gate that was closed says what to do.
        then = (
            " Mend that, then launch the submit job (or call `batch-pipeline run`) again."
            if record.held_by is None
            else ""
        )
        yield Finding("stopped", f"Sending has stopped: {record.stopped}{then}", page=True)
    elif record.not_before is not None and record.not_before > now():
        yield Finding(
            "waits",
            f"Sending waits until {record.not_before:%Y-%m-%d %H:%M:%S} UTC: {record.waits_for} Nothing is to "
            "be done.",
            page=False,
        )


def _of_chunk(chunk: Chunk, moment: datetime, grace: timedelta) -> Iterator[Finding]:
    if chunk.state is ChunkState.INTENT:
        since = chunk.looked_for_since or moment
        yield Finding(
            "lost_answer",
            f"A chunk of {chunk.requests:,} requests was sent and its answer was lost"
            f" ({chunk.note or 'the process ended'}); its batch is looked for since {since:%H:%M:%S} UTC, and "
            "nothing more of the load is sent until that is settled. Nothing is to be done unless it lasts for "
            "more than a day.",
            page=moment - since > 2 * grace,
        )
    if chunk.state is ChunkState.DUPLICATE:
        yield Finding(
            "paid_twice",
            f"A batch of {chunk.requests:,} requests appeared after its rows had been sent again: they are paid "
            "twice. Raise BATCH_PIPELINE_GRACE_SECONDS, since the API's list lags by more than that.",
            page=True,
        )


def _of_sync_chunk(chunk: Chunk) -> Iterator[Finding]:
    if chunk.looked_for_since is not None:
        yield Finding(
            "interrupted",
            f"A synchronous sending of {chunk.requests:,} requests was interrupted at "
            f"{chunk.looked_for_since:%Y-%m-%d %H:%M:%S} UTC: {chunk.note}; they may have been paid, and are sent "
            "again. Nothing is to be done.",
            page=False,
        )


def _of_batch(batch: Batch, moment: datetime, grace: timedelta) -> Iterator[Finding]:
    age = moment - batch.created_at
    if age >= PAGE_AT:
        left = max((KEPT - age).days, 0)
        yield Finding(
            "uncollected",
            f"Batch {batch.batch_id} is {age.days} days old and was not read back; its results are deleted in "
            f"{left} days. Launch the collect job now{_because(batch)}.",
            page=True,
        )
    elif batch.missing_since is not None:
        yield Finding(
            "unknown",
            f"The API does not know batch {batch.batch_id} since {batch.missing_since:%Y-%m-%d %H:%M:%S} UTC. "
            "If that lasts, check that ANTHROPIC_API_KEY is of the workspace that sent it.",
            page=moment - batch.missing_since > grace,
        )
    elif batch.open and age >= CEILING + _MARGIN:
        yield Finding(
            "overdue",
            f"Batch {batch.batch_id} is {age.total_seconds() / 3600:.0f} h old and has not ended, though the "
            "API ends every batch after 24 h; look at it in the Anthropic Console.",
            page=True,
        )
    elif batch.ended and batch.retries >= _MANY_RETRIES:
        yield Finding(
            "not_taken",
            f"The results of batch {batch.batch_id} could not be taken {batch.retries} times"
            f"{_because(batch)}; they are asked for again by themselves.",
            page=False,
        )


def _because(batch: Batch) -> str:
    return f" (last: {batch.retry_reason})" if batch.retry_reason else ""
