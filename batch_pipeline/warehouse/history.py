"""The metrics of earlier nights, read from their Parquet copies: nothing here opens the warehouse.

A copy that is not there yet reads as no history. Whoever writes the warehouse writes the copies, so a night
whose grading was killed half-way appears when it is graded again.

Each reader looks back over so many nights and no further: what was graded before them is not read, since a
year of it would cost a little more every night. Cancelled nights do not count, and are read where they lie among
the others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from batch_pipeline.measure.spend import TOKENS
from batch_pipeline.warehouse.metrics import Measure

COST_COLUMNS = (
    *(
        "part",
        "tier",
        "lane",
        "model",
        "disposition",
        "requests",
        "read_requests",
        "cached_requests",
    ),
    *(f"tokens_{kind}" for kind in TOKENS),
    *(f"usd_{kind}" for kind in TOKENS),
    *("saved_batch_usd", "saved_cache_usd", "plain_input_usd", "write_premium_usd"),
    *("shared_rows", "asked_once_usd"),
)
# As many as the report draws. Trends look at 88 of them.
NIGHTS = 120
# Twice the 28 nights from which the usual mix, and the usual distance from it, are taken; and tonight.
LABEL_NIGHTS = 57
# What slices are held against lies within 28 nights before tonight.
SLICE_NIGHTS = 29
COST_NIGHTS = 28
_FIRST, _LAST = "0001-01-01", "9999-12-31"
MONTH_COLUMNS = (
    *("synchronous_usd", "saved_batch_usd", "saved_cache_usd", "spent_usd", "asked_once_usd"),
    "good_rows",
)


@dataclass(frozen=True)
class NightMeasures:
    """One load: its measures by name, and under which declaration (prompt, contract, tiers) it was sent."""

    load: str
    declaration: str
    promote: bool | None = None
    cancelled: bool = False
    verdict: str | None = None
    baseline_score: float | None = None
    golden_set: str | None = None
    measures: Mapping[str, Measure] = field(default_factory=dict)


@dataclass(frozen=True)
class SliceNight:
    """One slice in one load: `good` of `n` for `measure`, which is validity or golden_score.

    `broken` is what was found when the load was graded.
    """

    load: str
    column: str
    slice: str
    measure: str
    good: int
    n: int
    broken: bool = False


def nights(
    state: Path, workload: str, until: str | None = None, most: int = NIGHTS
) -> list[NightMeasures]:
    """The last `most` graded loads of a workload up to and with `until`, the oldest first."""
    place = (state, workload, since(state, workload, until, most), until)
    measured: dict[str, dict[str, Measure]] = {}
    columns = ("load", "measure", "numerator", "denominator", "value")
    for load, *values in _read("measures", columns, *place):
        measured.setdefault(load, {})[values[0]] = Measure(*values)
    decided = dict(_read("nights", ("load", "promote"), *place))
    facts = ("load", "declaration", "cancelled", "verdict", "baseline_score", "golden_set")
    return [
        NightMeasures(
            load,
            declaration,
            promote=decided.get(load),
            cancelled=cancelled,
            verdict=verdict,
            baseline_score=baseline_score,
            golden_set=golden_set,
            measures=measured.get(load, {}),
        )
        for load, declaration, cancelled, verdict, baseline_score, golden_set in _read(
            "loads", facts, *place
        )
    ]


def graded_before(state: Path, workload: str, load: str) -> int:
    """How many graded loads lie before `load`, however long ago."""
    return sum(name < load for (name,) in _read("loads", ("load",), state, workload, _FIRST, load))


def since(state: Path, workload: str, until: str | None, most: int) -> str:
    """The first of the last `most` graded loads up to and with `until`; one line per load is read for it."""
    loads = _read("loads", ("load", "cancelled"), state, workload, _FIRST, until)
    counted = [load for load, cancelled in loads if not cancelled]
    return counted[-most] if len(counted) > most else _FIRST


def slice_nights(
    state: Path, workload: str, until: str | None = None, most: int = SLICE_NIGHTS
) -> list[SliceNight]:
    """Every slice of the last `most` graded loads up to and with `until`, the oldest load first."""
    columns = ("load", "slice_column", "slice", "measure", "good", "n", "broken")
    first = since(state, workload, until, most)
    return [SliceNight(*row) for row in _read("slices", columns, state, workload, first, until)]


def label_nights(
    state: Path, workload: str, until: str | None = None, most: int = LABEL_NIGHTS
) -> dict[str, dict[str, dict[str, int]]]:
    """Validated rows by load, field and label, of the last `most` graded loads up to and with `until`."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    columns = ("load", "field", "label", "rows")
    first = since(state, workload, until, most)
    for load, name, label, n in _read("labels", columns, state, workload, first, until):
        found.setdefault(load, {}).setdefault(name, {})[label] = n
    return found


def cost_lines(
    state: Path, workload: str, until: str | None = None, first: str | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The lines of metrics.costs by load, of graded loads from `first` up to and with `until`.

    Without `first`, of the last COST_NIGHTS.
    """
    if first is None:
        first = since(state, workload, until, COST_NIGHTS)
    found: dict[str, list[dict[str, Any]]] = {}
    for load, *values in _read("costs", ("load", *COST_COLUMNS), state, workload, first, until):
        found.setdefault(load, []).append(dict(zip(COST_COLUMNS, values, strict=True)))
    return found


def month_savings(state: Path, workload: str, load: str) -> list[dict[str, Any]]:
    """The lines of metrics.savings of a load's month, up to and with it, the oldest first."""
    columns = ("load", *MONTH_COLUMNS)
    lines = _read("savings", columns, state, workload, f"{load[:7]}-01", load)
    return [dict(zip(columns, line, strict=True)) for line in lines]


def _read(
    table: str, columns: Sequence[str], state: Path, workload: str, first: str, until: str | None
) -> list[Any]:
    """Rows of a copy, sorted. Not through DuckDB: opening it costs ten times as much as reading these.

    The copies are sorted by workload and load in row groups that say which they hold: others are not read.
    """
    path = state / "metrics" / f"{table}.parquet"
    if not path.is_file():
        return []
    kept = [("workload", "==", workload), ("load", ">=", first), ("load", "<=", until or _LAST)]
    found = pq.read_table(path, columns=list(columns), filters=kept).sort_by(
        [(name, "ascending") for name in columns]
    )
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))
