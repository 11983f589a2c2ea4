"""Slices of a load that broke, though the whole hardly shows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from batch_pipeline.measure.slices import SliceCount, broken_slices
from batch_pipeline.stages.trends import same_declaration, same_golden_set
from batch_pipeline.warehouse.history import NightMeasures, SliceNight, nights, slice_nights

# A slice's rate is held against its last sound nights, however long it has been broken, within a month.
SLICE_WINDOW = 7
SLICE_HISTORY = 28


@dataclass(frozen=True)
class BrokenSlice:
    """A slice that fell against its own last nights."""

    column: str
    slice: str
    measure: str
    tonight: float
    usual: float
    n: int


def broken(state: Path, workload: str, load: str) -> list[BrokenSlice]:
    """Slices of a graded load that fell against their own nights under the same declaration; the worst first."""
    counted = slice_nights(state, workload, load)
    tonight = [s for s in counted if s.load == load]
    return broken_tonight(tonight, counted, same_declaration(nights(state, workload, load)))


def broken_tonight(
    tonight: Sequence[SliceNight],
    counted: Sequence[SliceNight],
    since: Sequence[NightMeasures],
) -> list[BrokenSlice]:
    """Which of tonight's slices fell against their own last sound nights, among `counted`.

    Args:
        tonight: one per column, slice and measure.
        counted: those of earlier loads; others are left out.
        since: the nights under tonight's declaration, the oldest first and tonight last.
    """
    load = tonight[0].load if tonight else ""
    found: list[BrokenSlice] = []
    for measure in ("validity", "golden_score"):
        comparable = same_golden_set(since) if measure == "golden_score" else since
        before = [night.load for night in comparable if night.load < load][-SLICE_HISTORY:]
        slices = [s for s in tonight if s.measure == measure]
        counts = [_against(each, counted, before) for each in slices]
        for i in broken_slices(counts):
            hit, count = slices[i], counts[i]
            usual = count.reference_good / count.reference_n
            found.append(
                BrokenSlice(hit.column, hit.slice, measure, hit.good / hit.n, usual, hit.n)
            )
    return sorted(found, key=lambda b: b.tonight - b.usual)


def _against(
    tonight: SliceNight, counted: Sequence[SliceNight], before: Sequence[str]
) -> SliceCount:
    """Nights on which the slice was broken are no reference: it would become its own after a week."""
    same = [
        s
        for s in counted
        if (s.column, s.slice, s.measure) == (tonight.column, tonight.slice, tonight.measure)
        and s.load in before
        and not s.broken
    ][-SLICE_WINDOW:]
    return SliceCount(tonight.good, tonight.n, sum(s.good for s in same), sum(s.n for s in same))
