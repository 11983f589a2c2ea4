"""The ledger: what was sent, what came of it, and who decided what. Small, transactional, shared.

One record per batch, never one per row. Every write is one committed transaction.
"""

from batch_pipeline.ledger.records import Batch, Chunk, ChunkState, Lane, Load, Override
from batch_pipeline.ledger.store import Ledger

__all__ = ["Batch", "Chunk", "ChunkState", "Lane", "Ledger", "Load", "Override"]
