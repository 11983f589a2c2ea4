"""The metrics of earlier nights, read from their Parquet copies: nothing here opens the warehouse.

A copy that is not there yet reads as no history. Whoever writes the warehouse writes the copies, so a night
whose grading was killed half-way appears when it is graded again.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from batch_pipeline.rows.query import querying
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
    measures: Mapping[str, Measure] = field(default_factory=dict)


@dataclass(frozen=True)
class SliceNight:
    """One slice in one load: `good` of `n` for `measure`, which is validity or golden_score."""

    load: str
    column: str
    slice: str
    measure: str
    good: int
    n: int


def nights(state: Path, workload: str, until: str | None = None) -> list[NightMeasures]:
    """Every graded load of a workload up to and with `until`, the oldest first."""
    with _reading(state) as read:
        measured: dict[str, dict[str, Measure]] = {}
        for load, *values in read(
            "measures", "load, measure, numerator, denominator, value", workload, until
        ):
            measured.setdefault(load, {})[values[0]] = Measure(*values)
        decided = dict(read("nights", "load, promote", workload, until))
        return [
            NightMeasures(
                load,
                declaration,
                promote=decided.get(load),
                cancelled=cancelled,
                verdict=verdict,
                baseline_score=baseline_score,
                measures=measured.get(load, {}),
            )
            for load, declaration, cancelled, verdict, baseline_score in read(
                "loads", "load, declaration, cancelled, verdict, baseline_score", workload, until
            )
        ]


def slice_nights(state: Path, workload: str, until: str | None = None) -> list[SliceNight]:
    """Every slice of every graded load up to and with `until`, the oldest load first."""
    with _reading(state) as read:
        columns = "load, slice_column, slice, measure, good, n"
        return [SliceNight(*row) for row in read("slices", columns, workload, until)]


def label_nights(
    state: Path, workload: str, until: str | None = None
) -> dict[str, dict[str, dict[str, int]]]:
    """Validated rows by load, field and label."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    with _reading(state) as read:
        for load, name, label, n in read("labels", "load, field, label, rows", workload, until):
            found.setdefault(load, {}).setdefault(name, {})[label] = n
    return found


@contextmanager
def _reading(state: Path) -> Iterator[Any]:
    with querying(state / "tmp") as connection:

        def read(table: str, columns: str, workload: str, until: str | None) -> list[Any]:
            path = state / "metrics" / f"{table}.parquet"
            if not path.is_file():
                return []
            return connection.execute(
                f"SELECT {columns} FROM read_parquet(?) WHERE workload = ? AND load <= ? ORDER BY ALL",
                [str(path), workload, until or "9999-12-31"],
            ).fetchall()

        yield read
