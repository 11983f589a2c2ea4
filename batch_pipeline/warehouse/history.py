"""The metrics of earlier nights, read from their Parquet copies: nothing here opens the warehouse's file.

A copy that is not there yet reads as no history. Whoever writes the warehouse writes the copies, so a night
whose grading was killed half-way appears when it is graded again. A DuckLake has no copies: several hosts would
write them over each other, and reading the lake itself locks nobody out.

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
from batch_pipeline.warehouse.place import Where, lake_of, state_of

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
    where: Where, workload: str, until: str | None = None, most: int = NIGHTS
) -> list[NightMeasures]:
    """The last `most` graded loads of a workload up to and with `until`, the oldest first."""
    place = (where, workload, since(where, workload, until, most), until)
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


def last_of_each(where: Where, columns: Sequence[str], most: int) -> list[tuple[Any, ...]]:
    """Columns of metrics.nights of the last `most` graded loads of each workload, the oldest first."""
    query = (
        f"SELECT {', '.join(columns)} FROM {{}} QUALIFY "
        f"row_number() OVER (PARTITION BY workload ORDER BY load DESC) <= {most} ORDER BY load"
    )
    if (settings := lake_of(where)) is not None:
        from batch_pipeline.warehouse.ducklake import read

        return read(settings, query.format("metrics.nights"))
    copy = _copy(
        state_of(where), "nights", columns=list(dict.fromkeys(["workload", "load", *columns]))
    )
    if copy is None:
        return []
    from batch_pipeline.rows.query import querying

    with querying(state_of(where) / "tmp") as connection:
        connection.register("copy", copy)
        return connection.execute(query.format("copy")).fetchall()


def graded_before(where: Where, workload: str, load: str) -> int:
    """How many graded loads lie before `load`, however long ago."""
    return sum(name < load for (name,) in _read("loads", ("load",), where, workload, _FIRST, load))


def since(where: Where, workload: str, until: str | None, most: int) -> str:
    """The first of the last `most` graded loads up to and with `until`; one line per load is read for it."""
    loads = _read("loads", ("load", "cancelled"), where, workload, _FIRST, until)
    counted = [load for load, cancelled in loads if not cancelled]
    return counted[-most] if len(counted) > most else _FIRST


def slice_nights(
    where: Where, workload: str, until: str | None = None, most: int = SLICE_NIGHTS
) -> list[SliceNight]:
    """Every slice of the last `most` graded loads up to and with `until`, the oldest load first."""
    columns = ("load", "slice_column", "slice", "measure", "good", "n", "broken")
    first = since(where, workload, until, most)
    return [SliceNight(*row) for row in _read("slices", columns, where, workload, first, until)]


def label_nights(
    where: Where, workload: str, until: str | None = None, most: int = LABEL_NIGHTS
) -> dict[str, dict[str, dict[str, int]]]:
    """Validated rows by load, field and label, of the last `most` graded loads up to and with `until`."""
    found: dict[str, dict[str, dict[str, int]]] = {}
    columns = ("load", "field", "label", "rows")
    first = since(where, workload, until, most)
    for load, name, label, n in _read("labels", columns, where, workload, first, until):
        found.setdefault(load, {}).setdefault(name, {})[label] = n
    return found


def cost_lines(
    where: Where, workload: str, until: str | None = None, first: str | None = None
) -> dict[str, list[dict[str, Any]]]:
    """The lines of metrics.costs by load, of graded loads from `first` up to and with `until`.

    Without `first`, of the last COST_NIGHTS.
    """
    if first is None:
        first = since(where, workload, until, COST_NIGHTS)
    found: dict[str, list[dict[str, Any]]] = {}
    for load, *values in _read("costs", ("load", *COST_COLUMNS), where, workload, first, until):
        found.setdefault(load, []).append(dict(zip(COST_COLUMNS, values, strict=True)))
    return found


def month_savings(where: Where, workload: str, load: str) -> list[dict[str, Any]]:
    """The lines of metrics.savings of a load's month, up to and with it, the oldest first."""
    columns = ("load", *MONTH_COLUMNS)
    lines = _read("savings", columns, where, workload, f"{load[:7]}-01", load)
    return [dict(zip(columns, line, strict=True)) for line in lines]


def _read(
    table: str, columns: Sequence[str], where: Where, workload: str, first: str, until: str | None
) -> list[Any]:
    """Rows of a table of the metrics, sorted.

    Copies are not read through DuckDB: opening it costs ten times as much as reading these. They are sorted by
    workload and load in row groups that say which they hold: others are not read.
    """
    if (settings := lake_of(where)) is not None:
        from batch_pipeline.warehouse.ducklake import read

        query = f"SELECT {', '.join(columns)} FROM metrics.{table} WHERE workload = ? AND load BETWEEN ? AND ?"
        return read(settings, f"{query} ORDER BY ALL", [workload, first, until or _LAST])
    kept = [("workload", "==", workload), ("load", ">=", first), ("load", "<=", until or _LAST)]
    copy = _copy(state_of(where), table, columns=list(columns), filters=kept)
    if copy is None:
        return []
    found = copy.sort_by([(name, "ascending") for name in columns])
    return list(zip(*(column.to_pylist() for column in found.columns), strict=True))


def _copy(state: Path, table: str, **what: Any) -> Any:
    """What is asked of a table's copy, as Arrow; None where there is none yet.

    It is opened once: another load's grading may replace it meanwhile. Given its name, pyarrow and DuckDB open it
    twice, and read the former's length in the latter.
    """
    try:
        file = (state / "metrics" / f"{table}.parquet").open("rb")
    except FileNotFoundError:
        return None
    with file:
        return pq.read_table(file, **what)
