"""Slices as a heat map: a row per slice, a column per night, the worst first."""

from bisect import bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date

from batch_pipeline.report.wording import percent
from batch_pipeline.warehouse.history import SliceNight

MOST_SLICES = 40
# From which share of failures on a cell is a shade darker. Golden answers fail more often than contracts do.
_SHADES = {
    "validity": (0.005, 0.01, 0.025, 0.05, 0.10, 0.20),
    "golden_score": (0.05, 0.10, 0.15, 0.25, 0.35, 0.50),
}
_TITLES = {"validity": "Output validity", "golden_score": "Golden score"}


@dataclass(frozen=True)
class Cell:
    """One slice in one night; `shade` is 0 to 6, `text` a dash where it had no rows."""

    text: str
    shade: int
    counted: str


@dataclass(frozen=True)
class SliceRow:
    name: str
    broken: bool
    n: int  # rows in the last night
    cells: Sequence[Cell]


@dataclass(frozen=True)
class HeatMap:
    """The slices of one column, by one measure."""

    key: str
    title: str
    column: str
    nights: Sequence[date]
    rows: Sequence[SliceRow]
    more: int  # slices that are not shown, all of them better


def heat_maps(
    slices: Sequence[SliceNight], broken: Collection[tuple[str, str, str]], nights: int
) -> list[HeatMap]:
    """A map per column and measure over the last nights.

    Args:
        slices: any order; only the last `nights` loads among them are shown.
        broken: (measure, column, slice) of those that fell against their own earlier nights.
        nights: how many columns.
    """
    loads = sorted({one.load for one in slices})[-nights:]
    kinds = sorted(
        {
            (one.measure, one.column)
            for one in slices
            if one.load in loads and one.measure in _SHADES
        },
        key=lambda kind: (kind[0] != "validity", kind[1]),
    )
    return [_map(n, *kind, slices, loads, broken) for n, kind in enumerate(kinds)]


def _map(
    number: int,
    measure: str,
    column: str,
    slices: Sequence[SliceNight],
    loads: Sequence[str],
    broken: Collection[tuple[str, str, str]],
) -> HeatMap:
    counts: dict[str, dict[str, SliceNight]] = {}
    for one in slices:
        if one.measure == measure and one.column == column and one.load in loads:
            counts.setdefault(one.slice, {})[one.load] = one
    rows = [
        SliceRow(
            name,
            (measure, column, name) in broken,
            by_load[loads[-1]].n if loads[-1] in by_load else 0,
            [_cell(by_load.get(load), measure) for load in loads],
        )
        for name, by_load in counts.items()
    ]

    def worst_first(row: SliceRow) -> tuple[bool, float, str]:
        last = counts[row.name].get(loads[-1])
        return not row.broken, last.good / last.n if last and last.n else 2.0, row.name

    rows.sort(key=worst_first)
    return HeatMap(
        key=f"slices-{number}",
        title=_TITLES[measure],
        column=column,
        nights=[date.fromisoformat(load) for load in loads],
        rows=rows[:MOST_SLICES],
        more=max(len(rows) - MOST_SLICES, 0),
    )


def _cell(one: SliceNight | None, measure: str) -> Cell:
    if one is None or not one.n:
        return Cell("–", 0, "no rows")
    shade = bisect_right(_SHADES[measure], 1 - one.good / one.n + 1e-12)
    digits = 0 if one.good == one.n else 1
    return Cell(percent(one.good / one.n, digits), shade, f"{one.good:,} of {one.n:,}")
