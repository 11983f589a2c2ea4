"""All that a page shows, gathered once: the scorecard, the ledger, and the Parquet copies of the metrics.

The warehouse itself is never opened: whoever has it open must not keep a page from being written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from batch_pipeline.ledger import Batch, Chunk, Load
from batch_pipeline.ledger.alerting import Alert
from batch_pipeline.stages.broken_slices import BrokenSlice, broken
from batch_pipeline.stages.cache_pays import cache_pays
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.cost_history import CostsExplained, costs_explained
from batch_pipeline.stages.findings import Finding, findings
from batch_pipeline.stages.lanes import is_sync
from batch_pipeline.stages.noticed import Noticed, noticed
from batch_pipeline.stages.review_status import ReviewStatus, review_status
from batch_pipeline.stages.scorecard import Scorecard
from batch_pipeline.stages.trends import TrendFinding, trends_of
from batch_pipeline.warehouse.history import (
    NIGHTS,
    NightMeasures,
    SliceNight,
    graded_before,
    label_nights,
    month_savings,
    nights,
    slice_nights,
)
from batch_pipeline.workload.spec import WorkloadSpec

# What fits into a picture of this width; older nights stay in the metrics.
MOST_NIGHTS = NIGHTS
SLICE_NIGHTS = 14


@dataclass(frozen=True)
class PageFacts:
    """Everything one page says. History ends with the load itself."""

    card: Scorecard
    spec: WorkloadSpec
    day: date
    record: Load | None
    nights: Sequence[NightMeasures]
    earlier_nights: int  # graded before those
    slices: Sequence[SliceNight]
    labels: dict[str, dict[str, dict[str, int]]]
    batches: Sequence[tuple[Batch, Chunk]]
    findings: Sequence[Finding]
    trends: dict[str, TrendFinding]  # by measure
    broken: Sequence[BrokenSlice]
    noticed: Sequence[Noticed]
    month: Sequence[Mapping[str, Any]]  # the savings of the month's loads so far
    explained: CostsExplained | None
    alerts: Sequence[Alert]  # open ones of the workload
    review: ReviewStatus | None
    previous: str | None  # the load before
    written_at: datetime

    @property
    def before(self) -> list[NightMeasures]:
        """The graded nights before this load."""
        return [night for night in self.nights if night.load < self.card.load]


def gather(context: LoadContext, card: Scorecard) -> PageFacts:
    """Reads what the page of `card`'s load shows beside the scorecard."""
    where, name = context.settings, card.workload
    record = context.ledger.load(name, card.load)
    graded = nights(where, name, until=card.load)
    shown = graded[-MOST_NIGHTS:]
    before = graded_before(where, name, shown[0].load) if shown else 0
    # A load that is not graded, or was cancelled, says nothing of a trend.
    judged = bool(graded) and graded[-1].load == card.load and not graded[-1].cancelled
    chunks = {c.chunk_id: c for c in context.ledger.chunks(record)} if record else {}
    return PageFacts(
        card=card,
        spec=context.workload.spec,
        day=date.fromisoformat(card.load),
        record=record,
        nights=shown,
        earlier_nights=before,
        slices=slice_nights(where, name, until=card.load),
        labels=label_nights(where, name, until=card.load),
        batches=[
            (batch, chunks[batch.chunk_id])
            for batch in (context.ledger.batches(record) if record else [])
            # One by one there is no turnaround to speak of.
            if batch.chunk_id in chunks and not is_sync(batch)
        ],
        findings=findings(context.ledger, record, context.settings) if record else [],
        trends={one.watched.measure: one for one in trends_of(graded, context.workload.spec)}
        if judged
        else {},
        broken=broken(where, name, card.load) if judged else [],
        noticed=[*noticed(where, context.workload.spec, card.load), cache_pays(context)]
        if judged
        else [],
        month=month_savings(where, name, card.load) if judged else [],
        explained=costs_explained(where, name, card.load) if judged else None,
        alerts=context.ledger.open_alerts([name]),
        review=_review(context, record, card),
        previous=context.ledger.load_before(name, card.load),
        written_at=datetime.now(UTC),
    )


def _review(context: LoadContext, record: Load | None, card: Scorecard) -> ReviewStatus | None:
    """How far the review is, where there is a queue and its rows are still there."""
    if record is None or record.purged_at or not card.dispositions["human_review"]:
        return None
    return review_status(context, record) if context.folder(record).dispositions.is_file() else None
