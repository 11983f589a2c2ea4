"""A recorded baseline is compared row by row, and never with something else."""

import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.measure.paired import Verdict
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.baseline import outcomes, record_baseline
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.scorecard import Scorecard, measure_load
from batch_pipeline_tests.night import Night

NEXT = "2026-11-21"


@pytest.fixture
def settled(simulate: Callable[..., Simulator], night: Callable[..., Night]) -> Night:
    """A load of 40 golden rows, all of them right."""
    simulate()
    made = night(golden=40)
    made.settle()
    return made


def golden_reason(card: Scorecard) -> str:
    assert card.gate is not None
    (reason,) = [r for r in card.gate.reasons if r.startswith("golden score")]
    return reason


def verdict(card: Scorecard, made: Night) -> Verdict:
    assert card.golden is not None
    return card.golden.verdict(made.context.workload.spec.gates.golden_drop_points)


def again(night: Callable[..., Night], day: str = NEXT, **changes: Any) -> Night:
    made = night(golden=40, day=day, **changes)
    made.settle()
    return made


def expect_otherwise(made: Night, wrong: int) -> None:
    """Changes the right answers of some golden rows, so that the same answers count as wrong."""
    path = made.context.folder(made.context.record()).golden
    duckdb.execute(
        f"COPY (SELECT * REPLACE (CASE WHEN row_number() OVER (ORDER BY _row) <= {wrong} THEN 'none of these' "
        f"ELSE expected_label END AS expected_label) FROM read_parquet('{path}')) TO '{path}' (FORMAT parquet)"
    )


def test_until_one_is_recorded_the_declared_share_counts_and_the_verdict_says_so(
    settled: Night,
) -> None:
    reason = golden_reason(measure_load(settled.context))
    assert reason == (
        "golden score 40 of 40 (100.0%), 10.0 points above the declared baseline of 90.0% (none is recorded): "
        "pass; 40 golden rows reliably show a drop of 9.0 points or more"
    )


def test_the_next_load_is_compared_row_by_row_with_who_recorded_it(
    settled: Night, night: Callable[..., Night]
) -> None:
    record_baseline(settled.context, reason="looked at all 40", by="ana")
    made = again(night)
    card = measure_load(made.context)
    assert verdict(card, made) is Verdict.PASS
    assert "equal to the baseline of 100.0% that ana recorded on " in golden_reason(card)
    assert "(of the same rows 0 lost, 0 won, p = 1.000): pass" in golden_reason(card)
    assert card.to_json()["baseline"]["lost"] == 0


def test_rows_that_were_right_and_are_wrong_now_are_lost(
    settled: Night, night: Callable[..., Night], simulate: Callable[..., Simulator]
) -> None:
    record_baseline(settled.context, reason="fine", by="ana")
    simulate(models={"*": {"wrong": 0.4}})
    made = again(night)
    card = measure_load(made.context)
    assert card.golden is not None
    assert card.golden.paired is not None
    assert card.golden.paired.lost == 40 - card.golden.correct > 5
    assert verdict(card, made) is Verdict.CONFIRMED
    assert card.gate is not None
    assert not card.gate.promote


def test_a_changed_prompt_asks_for_a_new_baseline_and_recording_one_lets_the_load_through(
    settled: Night, night: Callable[..., Night]
) -> None:
    record_baseline(settled.context, reason="fine", by="ana")
    made = again(night, prompt={"system": "Say it otherwise.", "user": "{{ text }}"})
    card = measure_load(made.context)
    assert verdict(card, made) is Verdict.APART
    assert card.gate is not None
    assert not card.gate.promote
    assert "because the prompt, the contract or the tiers have changed since" in golden_reason(card)
    assert "of the same rows 0 lost" in golden_reason(card)
    grade(made.context)

    record_baseline(made.context, reason="the new wording", by="ben")
    assert made.publish().promotion.rows == 12


def test_a_changed_golden_set_is_not_compared(settled: Night, night: Callable[..., Night]) -> None:
    record_baseline(settled.context, reason="fine", by="ana")
    made = night(golden=41, day=NEXT)
    made.settle()
    card = measure_load(made.context)
    assert verdict(card, made) is Verdict.APART
    assert "because the golden set has changed since" in golden_reason(card)
    assert "not compared with the baseline of 100.0%" in golden_reason(card)
    assert card.to_json()["golden"]["drop_points"] is None


def test_another_right_answer_for_the_same_row_is_another_golden_set(settled: Night) -> None:
    record_baseline(settled.context, reason="fine", by="ana")
    expect_otherwise(settled, 1)
    assert verdict(measure_load(settled.context), settled) is Verdict.APART


def test_a_promoted_load_stays_compared_with_what_counted_then(settled: Night) -> None:
    settled.publish()
    record_baseline(settled.context, reason="fine", by="ana")
    card = measure_load(settled.context)
    assert card.golden is not None
    assert card.golden.recorded is None


def test_a_few_golden_rows_work_and_say_how_little_they_prove(
    simulate: Callable[..., Simulator], night: Callable[..., Night]
) -> None:
    simulate()
    made = night(golden=20)
    made.settle()
    record_baseline(made.context, reason="all there are", by="ana")
    reason = golden_reason(measure_load(made.context))
    assert reason.endswith(
        "only 20 golden rows reliably show a drop of 8.4 points or more, so a pass proves little"
    )


def test_lost_rows_of_a_baseline_are_said_and_another_can_be_recorded(settled: Night) -> None:
    made = record_baseline(settled.context, reason="fine", by="ana")
    path = outcomes(settled.context.settings.state, made)
    Path(str(path)).write_bytes(b"half")
    card = measure_load(settled.context)
    assert verdict(card, settled) is Verdict.APART
    assert f"because its rows, {path}, are lost" in golden_reason(card)
    record_baseline(settled.context, reason="once more", by="ben")
    assert verdict(measure_load(settled.context), settled) is Verdict.PASS


def test_a_baseline_needs_a_reason(settled: Night) -> None:
    with pytest.raises(ConfigurationError, match="needs a reason"):
        record_baseline(settled.context, reason="  ", by="ana")


def test_a_load_with_open_rows_is_no_baseline(
    simulate: Callable[..., Simulator], night: Callable[..., Night]
) -> None:
    simulate()
    made = night()
    made.submit()
    with pytest.raises(PipelineError, match="rows without a disposition"):
        record_baseline(made.context, reason="fine", by="ana")


def test_a_workload_without_a_golden_set_has_no_baseline(
    simulate: Callable[..., Simulator], night: Callable[..., Night]
) -> None:
    simulate()
    made = night(golden=0)
    made.settle()
    with pytest.raises(ConfigurationError, match="declares no golden set"):
        record_baseline(made.context, reason="fine", by="ana")


def test_a_load_whose_declaration_has_changed_since_is_no_baseline(settled: Night) -> None:
    workload = replace(
        settled.context.workload,
        spec=settled.context.workload.spec.model_copy(
            update={"tiers": settled.context.workload.spec.tiers[:1]}
        ),
    )
    with pytest.raises(PipelineError, match="declared otherwise"):
        record_baseline(replace(settled.context, workload=workload), reason="fine", by="ana")


def test_a_golden_set_with_a_key_twice_is_refused(
    simulate: Callable[..., Simulator], night: Callable[..., Night]
) -> None:
    simulate()
    made = night(golden=5)
    path: Path = made.folder / "golden.csv"
    lines = list(csv.reader(path.open()))
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([*lines, lines[-1]])
    with pytest.raises(ConfigurationError, match="is not unique in 1 of 6 rows"):
        made.submit()
