"""Stops spending on a load: nothing more of it is sent, what is out is asked to stop, what came is kept."""

from dataclasses import dataclass

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.errors import UnreachableError
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger.records import Phase
from batch_pipeline.ledger.transactions import now
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.poll import poll


@dataclass(frozen=True)
class CancelSummary:
    """Batches that were asked to stop, and those still open: some of their requests may complete.

    `later` is why some could not be asked yet; they are when they are next looked at.
    """

    asked: int
    open: int
    later: str | None = None


def cancel_load(context: LoadContext, api: BatchesApi, *, reason: str, by: str) -> CancelSummary:
    """Cancels a load for good; only sending it again brings it back.

    The decision is committed first: from then on nobody sends another chunk of it, whatever else fails here.
    Batches that cannot be asked now are asked when they are next looked at.

    Args:
        context: the load.
        api: where its batches are.
        reason: why; recorded, and shown with the gate's decision.
        by: who: a Dagster run or a user name.

    Raises:
        PipelineError: nothing of the load is running or waiting to be sent.
    """
    record = context.record()
    if record.phase is Phase.SETTLED:
        raise PipelineError(
            f"{context}: every row has its disposition already, so nothing is left to cancel."
        )
    if not record.cancelled:
        context.ledger.update_load(
            record, cancelled_at=now(), cancelled_by=by, cancel_reason=reason
        )
    before = sum(batch.cancel_requested_at is not None for batch in context.ledger.batches(record))
    # It holds no lock: a long sending must not keep a person from stopping it.
    later = None
    try:
        poll(context.ledger, context.record(), api, context.settings.grace_seconds)
    except UnreachableError as error:
        later = str(error)
    batches = context.ledger.batches(record)
    asked = sum(batch.cancel_requested_at is not None for batch in batches)
    return CancelSummary(asked - before, sum(batch.open for batch in batches), later)
