"""What the nights say together, in sentences that a person who is paged can act on."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_pipeline.stages.broken_slices import broken
from batch_pipeline.stages.noticed import noticed
from batch_pipeline.stages.trends import Level, TrendFinding, trends_of
from batch_pipeline.warehouse import GateRecord, LoadRecord, Measure, write_metrics
from batch_pipeline.warehouse.history import NightMeasures, nights
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline_tests.night import declaration

START = date(2026, 10, 1)


def spec(**changes: Any) -> WorkloadSpec:
    return WorkloadSpec.model_validate(declaration(gates={"min_validity": 0.95}, **changes))


def day(number: int) -> str:
    return (START + timedelta(days=number)).isoformat()


def series(
    rates: Sequence[float],
    *,
    n: int = 1_000,
    measure: str = "validity",
    days: Sequence[int] | None = None,
    declared: Sequence[str] | None = None,
) -> list[NightMeasures]:
    declared = declared or ["one"] * len(rates)
    return [
        NightMeasures(
            day(days[i] if days else i),
            declared[i],
            baseline_score=0.94,
            measures={measure: Measure(measure, round(rate * n), n, rate)},
        )
        for i, rate in enumerate(rates)
    ]


def one(history: Sequence[NightMeasures], measure: str = "validity") -> TrendFinding:
    (found,) = [f for f in trends_of(history, spec()) if f.watched.measure == measure]
    return found


def test_the_page_gives_the_nights_the_slope_and_the_night_on_which_the_floor_is_reached() -> None:
    found = one(series([0.994, 0.989, 0.981]))
    assert found.level is Level.PAGE
    assert found.sentence == (
        "Output validity falls: 99.4%, 98.9%, 98.1% over the last 3 nights, -0.65 points a night over the last three and 1.3 "
        "points over 3 nights (p = 0.0075); at this pace it reaches the gate's 95.0% on 2026-10-08. Look at the "
        "reasons on output_contract, and at what changed in the source."
    )
    assert found.reached_on == date(2026, 10, 8)


def test_a_fall_that_is_over_is_shown_and_pages_nobody() -> None:
    rates = [0.99] * 12 + [0.982, 0.974, 0.974, 0.98]
    assert one(series(rates, n=2_000)).level is Level.PAGE
    found = one(series([*rates, 0.992], n=2_000))
    assert found.level is Level.WATCH
    assert found.sentence.endswith("The last night is back where it began.")


def test_a_rising_rate_is_told_as_rising() -> None:
    found = one(series([0.02, 0.04, 0.07], measure="escalation_rate"), "escalation_rate")
    assert found.level is Level.PAGE
    assert found.sentence.startswith(
        "The escalation rate rises: 2.0%, 4.0%, 7.0% over the last 3 nights, +2.50 points a night"
    )
    assert found.slope is not None
    assert found.slope > 0


def test_an_escalation_rate_that_sinks_is_good_news() -> None:
    assert one(series([0.07, 0.04, 0.02], measure="escalation_rate"), "escalation_rate").level is (
        Level.OK
    )


def test_the_window_begins_anew_where_the_declaration_changed() -> None:
    declared = ["one"] * 4 + ["two"] * 3
    found = one(series([0.994] * 4 + [0.97] * 3, n=10_000, declared=declared))
    assert found.level is Level.OK
    assert found.nights == 3
    assert one(series([0.994] * 4 + [0.97] * 3, n=10_000)).level is Level.PAGE


def test_a_cancelled_night_is_left_out() -> None:
    history = series([0.994, 0.989, 0.981])
    history[1:1] = [
        NightMeasures(
            day(0), "one", cancelled=True, measures={"validity": Measure("validity", 1, 9, 1 / 9)}
        )
    ]
    assert one(history).nights == 3


def test_a_cancelled_night_of_another_declaration_ends_nothing() -> None:
    history = series([0.994, 0.989, 0.981])
    history[2:2] = [NightMeasures(day(1), "two", cancelled=True)]
    assert one(history).nights == 3


def test_a_golden_set_that_changed_begins_a_trend_of_its_own() -> None:
    scores = series([0.95] * 6 + [0.8], measure="golden_score", n=150)
    assert one(scores, "golden_score").level is Level.PAGE
    changed = [replace(n, golden_set="a" if i < 6 else "b") for i, n in enumerate(scores)]
    assert one(changed, "golden_score").level is Level.UNKNOWN


def test_a_load_without_answers_is_not_told_as_the_night_before() -> None:
    history = [*series([0.994, 0.989, 0.981]), NightMeasures(day(3), "one")]
    assert (
        one(history).sentence == "Output validity cannot be told: this load has nothing to count."
    )


def test_one_bad_row_of_a_small_load_is_no_trend() -> None:
    history = series([1.0] * 7)
    small = replace(
        history[-1], load=day(7), measures={"validity": Measure("validity", 11, 12, 11 / 12)}
    )
    assert one([*history, small]).level is Level.OK


def test_a_small_load_that_is_perfect_does_not_end_a_fall() -> None:
    history = series([0.994, 0.99, 0.985, 0.98, 0.974, 0.968, 0.96, 0.952], n=10_000)
    tiny = replace(
        history[-1], load=day(8), measures={"validity": Measure("validity", 40, 40, 1.0)}
    )
    assert one([*history, tiny]).level is not Level.WATCH


def test_missing_nights_are_counted_and_said() -> None:
    found = one(series([0.994, 0.989, 0.981], days=[0, 3, 4], n=10_000))
    assert found.level is Level.PAGE
    assert "2 nights without a load among them" in found.sentence


def test_two_nights_say_that_a_trend_needs_three() -> None:
    found = one(series([0.99, 0.5]))
    assert found.level is Level.UNKNOWN
    assert "2 nights under this declaration; a trend needs three" in found.sentence


def test_the_golden_scores_floor_is_its_baseline_less_the_gates_points() -> None:
    found = one(series([0.99, 0.96, 0.93], measure="golden_score", n=200), "golden_score")
    assert found.floor == pytest.approx(0.91)


def test_a_wider_wobble_and_a_larger_fall_can_be_asked_for() -> None:
    history = series([0.994, 0.989, 0.981])
    lax = spec(trends={"min_fall_points": 2})
    assert {f.level for f in trends_of(history, lax) if f.watched.measure == "validity"} == {
        Level.WATCH
    }


def write(state: Path, load: str, *, declared: str = "one", **tables: Any) -> None:
    measures = tables.pop("measures", [Measure("validity", 990, 1_000, 0.99)])
    write_metrics(
        state,
        LoadRecord("questions", load, 1, declared),
        fingerprint="f",
        measures=measures,
        gate=GateRecord(True, ["all is well"], None),
        **tables,
    )


def slices(good: dict[str, int], broken: Sequence[str] = ()) -> pa.Table:
    return pa.table(
        {
            "slice_column": ["channel"] * len(good),
            "slice": list(good),
            "measure": ["validity"] * len(good),
            "good": list(good.values()),
            "n": [250] * len(good),
            "broken": [name in broken for name in good],
        }
    )


def test_a_slice_that_fell_against_its_own_nights_is_named_with_what_is_usual(
    tmp_path: Path,
) -> None:
    for night in range(5):
        write(tmp_path, day(night), slices=slices({"mail": 248, "phone": 248, "chat": 247}))
    write(tmp_path, day(5), slices=slices({"mail": 248, "phone": 200, "chat": 248}))
    (found,) = broken(tmp_path, "questions", day(5))
    assert (found.column, found.slice, found.tonight) == ("channel", "phone", 0.8)
    assert found.usual == pytest.approx(0.992)
    assert broken(tmp_path, "questions", day(4)) == []


def test_a_slice_that_stays_broken_is_found_every_night(tmp_path: Path) -> None:
    for night in range(5):
        write(tmp_path, day(night), slices=slices({"mail": 248, "phone": 248}))
    for night in range(5, 20):
        write(tmp_path, day(night), slices=slices({"mail": 248, "phone": 200}, broken=["phone"]))
        (found,) = broken(tmp_path, "questions", day(night))
        assert found.usual == pytest.approx(0.992)


def test_cost_and_cache_are_noticed_when_they_jump(tmp_path: Path) -> None:
    for night in range(6):
        jump = night == 5
        write(
            tmp_path,
            day(night),
            measures=[
                Measure("cost_per_good_row_usd", None, None, 0.0003 if jump else 0.0002),
                Measure("cache_hit_rate", None, None, 0.0 if jump else 0.9),
            ],
        )
    found = {n.name: n for n in noticed(tmp_path, spec(), day(5))}
    assert found["cost_per_good_row"].sentence == (
        "A good row cost $0.000300, usually $0.000200 (+50%); look at the spend by kind: prices, longer answers, "
        "escalations or a cache that stopped hitting."
    )
    assert found["cache_hits"].unusual
    assert "usually 90.0%" in found["cache_hits"].sentence
    assert not any(n.unusual for n in noticed(tmp_path, spec(), day(4)))


def test_no_copy_of_the_metrics_reads_as_no_history(tmp_path: Path) -> None:
    assert nights(tmp_path, "questions") == []
    assert broken(tmp_path, "questions", day(0)) == []


def test_the_history_ends_at_the_night_asked_for_and_knows_one_workload(tmp_path: Path) -> None:
    for night in range(3):
        write(tmp_path, day(night))
    assert [night.load for night in nights(tmp_path, "questions", day(1))] == [day(0), day(1)]
    assert nights(tmp_path, "other") == []
