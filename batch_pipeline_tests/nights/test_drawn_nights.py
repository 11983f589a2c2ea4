"""Ninety nights of 10,000 rows: stable ones page on none, a slow fall pages soon.

The numbers are drawn and written as the metrics' Parquet copies, which is all that trends and slices read.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_pipeline.stages.broken_slices import broken
from batch_pipeline.stages.trends import Level, trends_of
from batch_pipeline.warehouse import Measure
from batch_pipeline.warehouse.history import NightMeasures, nights
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline_tests.night import declaration
from batch_pipeline_tests.nights.plan import DRIFT_PER_NIGHT, FIRST_DAY, MISSING, day_of
from batch_pipeline_tests.nights.tickets import CHANNELS, REGIONS

NAME = "questions"
ROWS, GOLDEN, NIGHTS = 10_000, 200, 90
# Real nights differ by more than their sample says.
WOBBLE = 0.001
USUAL = {
    "validity": 0.991,
    "escalation_rate": 0.010,
    "truncation_rate": 0.002,
    "refusal_rate": 0.001,
    "expired_rate": 0.001,
}


def write_nights(state: Path) -> None:
    """Draws every night's measures and slices."""
    draw = np.random.default_rng(4)
    tables: dict[str, list[dict[str, object]]] = {
        name: [] for name in ("loads", "nights", "measures", "slices")
    }
    for night in range(1, NIGHTS + 1):
        if night in MISSING:
            continue
        here: dict[str, object] = {"workload": NAME, "load": day_of(night)}
        tables["loads"].append(
            here
            | {
                "declaration": "one",
                "cancelled": False,
                "verdict": "pass",
                "baseline_score": 0.95,
                "golden_set": "g",
            }
        )
        tables["nights"].append(here | {"promote": True})
        shift = float(draw.normal(0, WOBBLE))
        counts = {
            name: (int(draw.binomial(ROWS, usual + (shift if name == "validity" else 0.0))), ROWS)
            for name, usual in USUAL.items()
        }
        counts["golden_score"] = (int(0.95 * GOLDEN) + int(draw.integers(-1, 2)), GOLDEN)
        tables["measures"] += [
            here | {"measure": name, "numerator": hits, "denominator": n, "value": hits / n}
            for name, (hits, n) in counts.items()
        ]
        tables["slices"] += [here | each for each in drawn_slices(draw, USUAL["validity"] + shift)]
    (state / "metrics").mkdir()
    for name, lines in tables.items():
        pq.write_table(pa.Table.from_pylist(lines), state / "metrics" / f"{name}.parquet")


def drawn_slices(draw: np.random.Generator, rate: float) -> Iterator[dict[str, object]]:
    for column, shares in (("channel", CHANNELS), ("region", REGIONS)):
        for name, share in shares.items():
            n = round(ROWS * share)
            good = int(draw.binomial(n, rate))
            yield {
                "slice_column": column,
                "slice": name,
                "measure": "validity",
                "good": good,
                "n": n,
                "broken": False,
            }


def trend_pages(history: Sequence[NightMeasures]) -> list[tuple[str, str]]:
    """(load, measure) of every trend that pages, each as it was known on its night."""
    spec = WorkloadSpec.model_validate(declaration(gates={"min_validity": 0.95}))
    return [
        (load.load, finding.watched.measure)
        for i, load in enumerate(history)
        for finding in trends_of(history[: i + 1], spec)
        if finding.level is Level.PAGE
    ]


def sinking(history: Sequence[NightMeasures], first: int) -> Iterator[NightMeasures]:
    """The same nights, with validity lower by `DRIFT_PER_NIGHT` each night from the night `first` on."""
    for night in history:
        days = (date.fromisoformat(night.load) - FIRST_DAY).days + 2 - first
        known = night.measures["validity"]
        assert known.numerator is not None
        lost = round(ROWS * DRIFT_PER_NIGHT * max(0, days))
        lower = Measure("validity", known.numerator - lost, ROWS, (known.numerator - lost) / ROWS)
        yield replace(night, measures={**night.measures, "validity": lower})


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stable")
    write_nights(folder)
    return folder


def test_ninety_stable_nights_two_of_them_missing_page_on_none(state: Path) -> None:
    history = nights(state, NAME)
    assert len(history) == NIGHTS - len(MISSING)
    assert not trend_pages(history)
    assert not [found for night in history for found in broken(state, NAME, night.load)]


def test_a_fall_of_a_tenth_of_a_point_a_night_pages_within_twelve_nights_and_not_before(
    state: Path,
) -> None:
    known = [night for night in nights(state, NAME) if night.load <= day_of(42)]
    found = trend_pages(list(sinking(known, first=31)))
    assert found
    assert {measure for _, measure in found} == {"validity"}
    assert min(load for load, _ in found) > day_of(30)
