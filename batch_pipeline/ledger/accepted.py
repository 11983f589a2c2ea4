"""Baselines: golden outcomes that a person accepted."""

from datetime import datetime

from sqlalchemy import select

from batch_pipeline.ledger.records import Baseline
from batch_pipeline.ledger.tables import baselines
from batch_pipeline.ledger.transactions import Transactions


class Baselines(Transactions):
    """The part of the ledger that `batch-pipeline baseline` writes. Nothing is ever changed or removed."""

    def record_baseline(self, baseline: Baseline) -> None:
        """The newest counts from now on."""
        self._write(self._upsert(baselines).values(**vars(baseline)).on_conflict_do_nothing())

    def baselines(self, workload: str) -> list[Baseline]:
        """Every baseline of a workload, the newest first."""
        query = (
            select(baselines)
            .where(baselines.c.workload == workload)
            .order_by(baselines.c.recorded_at.desc())
        )
        return [Baseline(**row) for row in self._all(query)]

    def baseline(self, workload: str, until: datetime | None = None) -> Baseline | None:
        """The one that counted at a moment; now, by default."""
        found = self.baselines(workload)
        return next((b for b in found if until is None or b.recorded_at <= until), None)
