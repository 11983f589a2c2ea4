"""Which of the ledger's batches went through the synchronous API, where no batch of that name exists."""

from batch_pipeline.ledger import Batch, Chunk

_SYNC = "sync_"


def sync_batch_id(chunk: Chunk) -> str:
    """The name under which a chunk that was answered one by one stands beside the API's batches."""
    return _SYNC + chunk.chunk_id


def is_sync(batch: Batch) -> bool:
    """Whether the Message Batches API knows nothing of it: it is never looked at, cancelled or deleted there."""
    return batch.batch_id.startswith(_SYNC)
