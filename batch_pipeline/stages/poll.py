"""Looks at a load's open batches and writes down what the API says. Reads and writes no row data."""

from datetime import datetime, timedelta

from batch_pipeline.claude.client import BatchesApi, BatchStatus
from batch_pipeline.ledger import Batch, Ledger, Load
from batch_pipeline.ledger.store import now

# The list is newest first; a batch's own created_at bounds how far down it must be read.
_MARGIN = timedelta(minutes=5)


def poll(ledger: Ledger, record: Load, api: BatchesApi, grace_seconds: float) -> list[Batch]:
    """Brings the ledger up to date on the open batches of a load; returns those that changed.

    A batch that the API does not know is waited for: right after creation that is normal. When it has
    been unknown for `grace_seconds`, its results count as gone.

    Raises:
        UnreachableError: the API gave no usable answer; nothing is lost, look again later.
    """
    open_batches = [batch for batch in ledger.batches(record) if batch.open]
    if not open_batches:
        return []
    oldest = min(batch.created_at for batch in open_batches)
    shown = api.statuses({batch.batch_id for batch in open_batches}, oldest - _MARGIN)
    changed: list[str] = []
    for batch in open_batches:
        status = shown.get(batch.batch_id) or api.retrieve(batch.batch_id)
        if status is None:
            if unknown_for_too_long(ledger, batch, grace_seconds):
                changed.append(batch.batch_id)
        elif _update(ledger, batch, status):
            changed.append(batch.batch_id)
    return [batch for batch in ledger.batches(record) if batch.batch_id in changed]


def unknown_for_too_long(ledger: Ledger, batch: Batch, grace_seconds: float) -> bool:
    """Notes that the API did not know `batch` just now; true once that has lasted `grace_seconds`."""
    moment: datetime = now()
    since = batch.missing_since or moment
    gone = moment - since >= timedelta(seconds=grace_seconds)
    ledger.update_batch(batch.batch_id, missing_since=since, results_gone=int(gone))
    return gone


def _update(ledger: Ledger, batch: Batch, status: BatchStatus) -> bool:
    gone = status.ended and status.archived
    if status.status == batch.status and not gone and batch.missing_since is None:
        return False
    ledger.update_batch(
        batch.batch_id,
        status=status.status,
        succeeded=status.succeeded,
        errored=status.errored,
        canceled=status.canceled,
        expired=status.expired,
        expires_at=status.expires_at,
        ended_at=status.ended_at,
        missing_since=None,
        results_gone=int(gone),
    )
    return status.status != batch.status or gone
