"""How far the review of a load is, how long it took, and how often people agreed with the model."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from batch_pipeline.ledger import Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.ledger.transactions import now
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.decisions import decisions, promoted_as_decided
from batch_pipeline.warehouse import Measure
from batch_pipeline.workload.data_file import literal


@dataclass(frozen=True)
class ReviewStatus:
    """The review of one load.

    Attributes:
        rows: rows in the queue; `accepted`, `fixed` and `dropped` of them are decided.
        waiting_since: when the load was settled, where rows are left; null where none is.
        exported_at: when its queue was last written to a file.
        imported_at: when a file was last taken in.
        hours: the median time from the load's settling to a decision; null before the first.
        kept: for each field, in how many of the fixed rows it is what the model said.
        promoted: whether what the load promoted holds the decisions; false while it is not promoted.
    """

    workload: str
    load: str
    generation: int
    rows: int
    accepted: int
    fixed: int
    dropped: int
    waiting_since: datetime | None
    exported_at: datetime | None
    imported_at: datetime | None
    hours: float | None
    kept: dict[str, int]
    promoted: bool

    @property
    def decided(self) -> int:
        return self.accepted + self.fixed + self.dropped

    @property
    def left(self) -> int:
        return self.rows - self.decided

    @property
    def agreement(self) -> float | None:
        """Accepted ÷ decided: how often a person found the model's answer right as it was."""
        return self.accepted / self.decided if self.decided else None

    @property
    def waiting(self) -> timedelta | None:
        """How long the oldest row has waited. All rows of a load begin to wait when it is settled."""
        return None if self.waiting_since is None else now() - self.waiting_since

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and ISO 8601 times; null where unknown."""
        waiting = self.waiting
        return {
            "workload": self.workload,
            "load": self.load,
            "generation": self.generation,
            "rows": self.rows,
            "decided": self.decided,
            "accepted": self.accepted,
            "fixed": self.fixed,
            "dropped": self.dropped,
            "left": self.left,
            "waiting_hours": None if waiting is None else waiting.total_seconds() / 3600,
            "exported_at": self.exported_at and self.exported_at.isoformat(),
            "imported_at": self.imported_at and self.imported_at.isoformat(),
            "review_hours": self.hours,
            "agreement": self.agreement,
            "field_agreement": {
                name: count / self.fixed if self.fixed else None
                for name, count in self.kept.items()
            },
            "promoted": self.promoted,
        }


def review_status(context: LoadContext, record: Load) -> ReviewStatus | None:
    """The review of a load; None where it has no queue yet, or none any more because its rows were purged."""
    if record.phase is not Phase.SETTLED or record.settled_at is None or record.purged_at:
        return None
    folder, contract = context.folder(record), context.workload.contract
    exports, imports = (
        context.ledger.review_exports(record),
        context.ledger.review_imports(record),
    )
    kept = ", ".join(
        f"count(*) FILTER (decision = 'fix' AND list_contains(kept, {literal(name)})) AS {quoted(name)}"
        for name in contract.names
    )
    with context.querying() as connection:
        rows = connection.execute(
            "SELECT count(*) FROM read_parquet(?) WHERE NOT golden AND disposition = 'human_review'",
            [str(folder.dispositions)],
        ).fetchall()[0][0]
        accepted, fixed, dropped, hours, *counts = connection.execute(
            f"""
            SELECT count(*) FILTER (decision = 'accept'), count(*) FILTER (decision = 'fix'),
                   count(*) FILTER (decision = 'drop'),
                   median(epoch(decided_at) - epoch($settled)) / 3600, {kept}
            FROM {decisions(folder, contract)}
            """,
            {"settled": record.settled_at.replace(tzinfo=None)},
        ).fetchall()[0]
        promoted = record.promoted_at is not None and promoted_as_decided(
            connection, record, folder
        )
    left = rows - accepted - fixed - dropped
    return ReviewStatus(
        workload=record.workload,
        load=record.load,
        generation=record.generation,
        rows=rows,
        accepted=accepted,
        fixed=fixed,
        dropped=dropped,
        waiting_since=record.settled_at if left else None,
        exported_at=exports[-1].exported_at if exports else None,
        imported_at=imports[-1].imported_at if imports else None,
        hours=hours,
        kept=dict(zip(contract.names, counts, strict=True)),
        promoted=promoted,
    )


def review_measures(context: LoadContext, record: Load) -> list[Measure]:
    """The review of a settled load as rows of the metrics; their values are null where nobody has to decide.

    review_decided: rows decided ÷ rows in the queue. review_agreement: accepted ÷ decided. review_hours: the median
    time from the load's settling to a decision.
    """
    status = review_status(context, record)
    if status is None:
        return []
    decided, rows = status.decided, status.rows
    return [
        Measure("review_decided", decided, rows, decided / rows if rows else None),
        Measure("review_agreement", status.accepted, decided, status.agreement),
        Measure("review_hours", status.hours, None, status.hours),
    ]
