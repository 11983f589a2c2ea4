"""Looks at a load's open batches and writes down what the API says. Reads and writes no row data."""

import random
from collections.abc import Callable, Collection, Mapping
from datetime import datetime, timedelta

from batch_pipeline.claude.client import BatchesApi, BatchStatus
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Batch, Ledger, Load
from batch_pipeline.ledger.records import Adopted
from batch_pipeline.ledger.transactions import now
from batch_pipeline.stages.address import require_same_api
from batch_pipeline.stages.lanes import is_sync

# A batch's own created_at bounds how far down the list must be read.
_MARGIN = timedelta(minutes=5)
# What a page of the list holds.
_PAGE = 1000
# Other batches that are asked for before a single one is believed to be gone.
_WITNESSES = 3


def poll(
    ledger: Ledger,
    record: Load,
    api: BatchesApi,
    grace_seconds: float,
    shown_in: Callable[[], Mapping[str, BatchStatus]] | None = None,
) -> list[Batch]:
    """Brings the ledger up to date on the open batches of a load; returns those that changed.

    A batch that the API does not know is waited for: right after creation that is normal. When it has
    been unknown for `grace_seconds`, its results count as gone. Those of a cancelled load are asked to stop.

    Args:
        ledger: where the batches are known.
        record: the load.
        api: where they are.
        grace_seconds: for how long a batch may be unknown.
        shown_in: what `listed` gave for this load's batches and others'; by default it is asked here.

    Raises:
        UnreachableError: the API gave no usable answer; nothing is lost, look again later.
        ConfigurationError: the batches are not at the API that is configured now.
    """
    open_batches = [batch for batch in ledger.batches(record) if batch.open]
    if not open_batches:
        return []
    for batch in open_batches:
        require_same_api(f"Batch {batch.batch_id}", batch.api, api.address)
    shown = shown_in() if shown_in else listed(api, open_batches)
    changed: list[str] = []
    # First what costs no call of its own. The others in no order, so that a look which is cut short each time
    # comes to all of them in the end.
    random.shuffle(open_batches)
    open_batches.sort(key=lambda batch: batch.batch_id not in shown)
    for batch in open_batches:
        status = shown.get(batch.batch_id) or api.retrieve(batch.batch_id)
        if status is not None and record.cancelled and _may_cancel(batch):
            status = _cancel(ledger, batch, api) or status
        if status is None:
            if unknown_for_too_long(ledger, batch, api, grace_seconds):
                changed.append(batch.batch_id)
        elif _update(ledger, batch, status):
            changed.append(batch.batch_id)
    return [batch for batch in ledger.batches(record) if batch.batch_id in changed]


def listed(api: BatchesApi, batches: Collection[Batch]) -> dict[str, BatchStatus]:
    """Open batches, of one load or of many, as the workspace's list has them.

    One call for a thousand. Those are left out that it does not show, and those that lie so far down that asking
    for each is cheaper; no call is made for batches that another API holds. Raises UnreachableError.
    """
    wanted = {batch.batch_id: batch for batch in batches if _is_here(batch, api)}
    if not wanted:
        return {}
    missing = set(wanted)
    seen = 0

    def enough(status: BatchStatus) -> bool:
        nonlocal seen
        seen += 1
        missing.discard(status.batch_id)
        return seen >= _PAGE * len(missing)

    since = min(batch.created_at for batch in wanted.values()) - _MARGIN
    found = api.created_since(since, enough)
    return {status.batch_id: status for status in found if status.batch_id in wanted}


def _is_here(batch: Batch, api: BatchesApi) -> bool:
    try:
        require_same_api(f"Batch {batch.batch_id}", batch.api, api.address)
    except ConfigurationError:
        return False
    return True


def _may_cancel(batch: Batch) -> bool:
    # One that is ours by its size alone may be somebody else's: it is left to run until its results tell.
    return batch.cancel_requested_at is None and batch.adopted is not Adopted.PROVISIONAL


def _cancel(ledger: Ledger, batch: Batch, api: BatchesApi) -> BatchStatus | None:
    """Asks for the batch to stop; it is asked again at the next look where the API did not take it."""
    status = api.cancel(batch.batch_id)
    if status is not None:
        ledger.update_batch(batch.batch_id, cancel_requested_at=now())
    return status


def unknown_for_too_long(
    ledger: Ledger, batch: Batch, api: BatchesApi, grace_seconds: float
) -> bool:
    """Notes that the API did not know `batch` just now; true once that has lasted `grace_seconds`.

    Never true while the API knows none of our other recent batches either: then the key is probably one
    of another workspace, and nothing is gone at all.
    """
    moment: datetime = now()
    since = batch.missing_since or moment
    gone = moment - since >= timedelta(seconds=grace_seconds) and _knows_others(ledger, batch, api)
    ledger.update_batch(batch.batch_id, missing_since=since, results_gone=int(gone))
    return gone


def _knows_others(ledger: Ledger, batch: Batch, api: BatchesApi) -> bool:
    others = [
        other.batch_id
        for other in ledger.batches_since(batch.created_at - timedelta(days=7))
        if other.api == batch.api
        and other.batch_id != batch.batch_id
        and not is_sync(other)
        and not (other.missing_since or other.results_gone or other.deleted_at)
    ]
    witnesses = others[-_WITNESSES:]
    return not witnesses or any(api.retrieve(other) is not None for other in witnesses)


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
