"""The tables of a page whose rows carry a bar: turnaround, spend, reasons, and the mix of labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from batch_pipeline.ledger import Batch, Chunk
from batch_pipeline.report.wording import duration, percent, plural
from batch_pipeline.stages.scorecard import Scorecard

MOST_BATCHES = 30
MOST_REASONS = 40
MOST_LABELS = 12
_CEILING = 24 * 3600.0
_LATE = 18 * 3600.0
_KINDS = {
    "input": "Uncached input",
    "cache_write_5m": "5-minute cache writes",
    "cache_write_1h": "1-hour cache writes",
    "cache_read": "Cache reads",
    "output": "Output",
}


@dataclass(frozen=True)
class BatchBar:
    """A batch and how much of its 24 hours it took."""

    name: str
    tier: int
    requests: int
    state: str
    took: str
    share: float  # of 24 hours, at most 1
    late: bool


@dataclass(frozen=True)
class Turnaround:
    """The slowest batches, and a sentence about all."""

    bars: Sequence[BatchBar]
    summary: str
    more: int


@dataclass(frozen=True)
class SpendBar:
    kind: str
    tokens: int
    usd: float
    share: float


@dataclass(frozen=True)
class LabelShare:
    label: str
    share: float
    before: float | None  # over the nights before
    rows: int


@dataclass(frozen=True)
class LabelMix:
    """The labels of one field, by how far their share moved."""

    field: str
    nights: int  # before this one
    labels: Sequence[LabelShare]
    more: int


def turnaround(batches: Sequence[tuple[Batch, Chunk]], now: datetime) -> Turnaround:
    """Each batch from its creation to its end, or to now while it is open."""
    timed = [
        (((batch.ended_at or now) - batch.created_at).total_seconds(), batch, chunk)
        for batch, chunk in batches
    ]
    timed.sort(key=lambda one: (-one[0], one[1].batch_id))
    bars = [
        BatchBar(
            name=batch.batch_id,
            tier=chunk.tier,
            requests=chunk.requests,
            state=_state(batch),
            took=duration(max(seconds, 0.0)),
            share=min(max(seconds, 0.0) / _CEILING, 1.0),
            late=seconds > _LATE,
        )
        for seconds, batch, chunk in timed[:MOST_BATCHES]
    ]
    ended = sorted(seconds for seconds, batch, _ in timed if batch.ended_at)
    summary = f"{plural(len(timed), 'batch', 'batches')}"
    if ended:
        p50, p95 = _quantile(ended, 0.5), _quantile(ended, 0.95)
        summary += (
            f": half ended within {duration(p50)}, 95% within {duration(p95)}, "
            f"the slowest after {duration(ended[-1])}"
        )
    still = len(timed) - len(ended)
    if still:
        summary += f"; {still:,} not ended"
    return Turnaround(bars, summary + ".", max(len(timed) - MOST_BATCHES, 0))


def spend_bars(card: Scorecard) -> list[SpendBar]:
    """The load's dollars by kind of token."""
    if card.spend is None:
        return []
    total = card.spend.total_usd or 1.0
    return [
        SpendBar(words, card.spend.tokens[kind], card.spend.usd[kind], card.spend.usd[kind] / total)
        for kind, words in _KINDS.items()
        if card.spend.tokens[kind] or card.spend.usd[kind]
    ]


def label_mixes(labels: Mapping[str, Mapping[str, Mapping[str, int]]], load: str) -> list[LabelMix]:
    """Tonight's share of each label against the nights before, the furthest moved first.

    Args:
        labels: rows by load, field and label.
        load: tonight.
    """
    before = [labels[other] for other in sorted(labels) if other < load][-28:]
    mixes = []
    for name, tonight in sorted(labels.get(load, {}).items()):
        earlier: dict[str, int] = {}
        nights = 0
        for one in before:
            nights += name in one
            for label, n in one.get(name, {}).items():
                earlier[label] = earlier.get(label, 0) + n
        total, total_before = sum(tonight.values()), sum(earlier.values())
        shares = [
            LabelShare(
                label,
                tonight.get(label, 0) / total if total else 0.0,
                earlier.get(label, 0) / total_before if total_before else None,
                tonight.get(label, 0),
            )
            for label in {*tonight, *earlier}
        ]
        shares.sort(key=lambda s: (-abs(s.share - (s.before or 0.0)), s.label))
        mixes.append(
            LabelMix(name, nights, shares[:MOST_LABELS], max(len(shares) - MOST_LABELS, 0))
        )
    return mixes


def reason_rows(card: Scorecard) -> tuple[list[tuple[str, str, int, str]], str]:
    """(disposition, reason, rows, share of the source rows), and what is left out in words."""
    listed = [
        (
            disposition,
            reason or "no reason recorded",
            n,
            percent(n / card.source_rows if card.source_rows else None),
        )
        for disposition, reason, n in card.reasons[:MOST_REASONS]
    ]
    rest = card.reasons[MOST_REASONS:]
    if not rest:
        return listed, ""
    rows = sum(n for _, _, n in rest)
    return listed, f"{plural(len(rest), 'more reason')} with {plural(rows, 'row')} are not shown."


def _state(batch: Batch) -> str:
    if batch.results_gone:
        return "results gone"
    if batch.ended_at is None:
        return "open"
    return "read back" if batch.collected_at else "ended"


def _quantile(values: Sequence[float], share: float) -> float:
    """The smallest value that `share` of all are not above."""
    return values[min(int(share * len(values) + 0.999999), len(values)) - 1]
