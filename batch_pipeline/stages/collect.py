"""batch_results: reads back every batch that has ended; one that lags keeps none of the others from it."""

from collections.abc import Callable

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.ledger import Batch, Load
from batch_pipeline.stages.address import require_same_api
from batch_pipeline.stages.answers import remove_answers
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.lanes import is_sync
from batch_pipeline.stages.patience import try_again_at
from batch_pipeline.stages.read_back import CollectSummary, PostponedError, ReadingBack
from batch_pipeline.stages.side_by_side import side_by_side


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
            chunk, folder = chunks[batch.chunk_id], context.folder(record)
            _read_or_postpone(ReadingBack(context, folder, chunk, batch, client, summary))

        side_by_side(collect, ready, context.settings.at_once)
    return summary


def _read_or_postpone(reading: ReadingBack) -> None:
    context, batch = reading.context, reading.batch
    try:
        reading.read()
    except PostponedError as postponed:
        context.ledger.update_batch(
            batch.batch_id,
            retry_at=try_again_at(context.settings, postponed.error, batch.retries),
            retries=batch.retries + 1,
            retry_reason=str(postponed),
        )
        reading.summary.postponed[batch.batch_id] = str(postponed)
    else:
        reading.summary.add(batches=1)


def _remove_answers(context: LoadContext, record: Load, batches: list[Batch]) -> None:
    """Those that a crash left after their batch was read back."""
    if record.purged_at is None:
        for batch in batches:
            if is_sync(batch) and batch.collected_at is not None:
                remove_answers(context.folder(record).answers(batch.chunk_id))
