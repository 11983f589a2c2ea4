"""The metrics of earlier nights, read from their Parquet copies: nothing here opens the warehouse.

A copy that is not there yet reads as no history. Whoever writes the warehouse writes the copies, so a night
whose grading was killed half-way appears when it is graded again.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from batch_pipeline.warehouse.metrics import Measure


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


def nights(state: Path, workload: str, until: str | None = None) -> list[NightMeasures]:
    """Every graded load of a workload up to and with `until`, the oldest first."""
    place = (state, workload, until)
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


def slice_nights(state: Path, workload: str, until: str | None = None) -> list[SliceNight]:
    """Every slice of every graded load up to and with `until`, the oldest load first."""
    columns = ("load", "slice_column", "slice", "measure", "good", "n", "broken")
    return [SliceNight(*row) for row in _read("slices", columns, state, workload, until)]


def label_nights(
    state: Path, workload: str, until: str | None = None
) -> dict[str, dict[str, dict[str, int]]]:
    """Validated rows by load, field and label."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    columns = ("load", "field", "label", "rows")
    for load, name, label, n in _read("labels", columns, state, workload, until):
        found.setdefault(load, {}).setdefault(name, {})[label] = n
    return found


def _read(
    table: str, columns: Sequence[str], state: Path, workload: str, until: str | None
) -> list[Any]:
    """Rows of a copy, sorted. Not through DuckDB: opening it costs ten times as much as reading these."""
    path = state / "metrics" / f"{table}.parquet"
    if not path.is_file():
        return []
    kept = [("workload", "==", workload), ("load", "<=", until or "9999-12-31")]
    found = pq.read_table(path, columns=list(columns), filters=kept).sort_by(
        [(name, "ascending") for name in columns]
    )
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))
