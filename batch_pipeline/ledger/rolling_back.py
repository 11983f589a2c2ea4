"""Promotions that were undone."""

from sqlalchemy import update

from batch_pipeline.ledger.records import Load
from batch_pipeline.ledger.tables import loads
from batch_pipeline.ledger.transactions import Transactions, now


class RollingBack(Transactions):
    """The part of the ledger that `batch-pipeline rollback` writes."""

    def record_rollback(self, load: Load, *, by: str, reason: str) -> None:
        """No generation of the load is promoted any more, and its gate is closed until a person opens it."""
        self._write(
            update(loads)
            .where(
                loads.c.workload == load.workload,
                loads.c.load == load.load,
                loads.c.promoted_at.is_not(None),
            )
            .values(
                rolled_back_at=now(),
                rolled_back_by=by,
                rollback_reason=reason,
                promoted_at=None,
                promoted_rows=None,
                promoted_fingerprint=None,
                gate="hold",
            )
        )
