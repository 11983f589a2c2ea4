"""Slices of a load that broke, though the whole hardly shows it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from batch_pipeline.measure.slices import SliceCount, broken_slices
from batch_pipeline.stages.trends import same_declaration, same_golden_set
from batch_pipeline.warehouse.history import NightMeasures, SliceNight, nights, slice_nights
from batch_pipeline.warehouse.place import Where

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


def broken(where: Where, workload: str, load: str) -> list[BrokenSlice]:
    """Slices of a graded load that fell against their own nights under the same declaration; the worst first."""
    counted = slice_nights(where, workload, load)
    tonight = [s for s in counted if s.load == load]
    history = nights(where, workload, load, most=SLICE_HISTORY + 1)
    return broken_tonight(tonight, counted, same_declaration(history))


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
        earlier = _sound(counted, before)
        counts = [_against(each, earlier.get(_named(each), [])) for each in slices]
        for i in broken_slices(counts):
            hit, count = slices[i], counts[i]
            usual = count.reference_good / count.reference_n
            found.append(
                BrokenSlice(hit.column, hit.slice, measure, hit.good / hit.n, usual, hit.n)
            )
    return sorted(found, key=lambda b: b.tonight - b.usual)


_Named = tuple[str, str, str]


def _named(one: SliceNight) -> _Named:
    return one.column, one.slice, one.measure


def _sound(
    counted: Sequence[SliceNight], before: Collection[str]
) -> dict[_Named, list[SliceNight]]:
    """Of these loads, each slice's nights on which it was not broken: it would become its own reference after a week."""
    found: dict[_Named, list[SliceNight]] = {}
    loads = set(before)
    for one in counted:
        if one.load in loads and not one.broken:
            found.setdefault(_named(one), []).append(one)
    return found


def _against(tonight: SliceNight, earlier: Sequence[SliceNight]) -> SliceCount:
    same = earlier[-SLICE_WINDOW:]
    return SliceCount(tonight.good, tonight.n, sum(s.good for s in same), sum(s.n for s in same))
