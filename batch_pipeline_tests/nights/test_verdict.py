"""A night is judged by what was planted: caught or missed, looked back on, or said for nothing."""

from pathlib import Path

import pytest

from batch_pipeline_tests.nights.drive_night import Fired, NightRun
from batch_pipeline_tests.nights.plan import Plan, broken_slice, eventful, lost_cache, stable
from batch_pipeline_tests.nights.verdict import as_json, judge, summary, table

PLAN = Plan(40, (broken_slice(10, 12), lost_cache(20, 22)), missing=frozenset({5}))
SLICES = Fired("slices", True, "1 slice broke.")
CACHE = Fired("cache_hits", False, "The cache hits less.")
TREND = Fired("trend_validity", True, "Output validity falls.")


def run(night: int, *fired: Fired) -> NightRun:
    return NightRun(night, f"night {night}", fired, True, 0.99, 0.95, 0.4, Path("page.html"))


def test_the_first_failure_of_its_check_catches_what_was_planted() -> None:
    found = judge(PLAN, [run(10), run(11, SLICES), run(12, SLICES), run(20, CACHE)])
    assert [(one.night, one.nights_late) for one in found.caught] == [(11, 1), (20, 0)]
    assert found.good


@pytest.mark.parametrize("night", [9, 13])
def test_a_failure_before_it_begins_or_after_it_ends_does_not_catch_it(night: int) -> None:
    assert judge(PLAN, [run(night, SLICES)]).caught[0].night is None


def test_another_check_that_it_explains_does_not_catch_it_and_is_not_false() -> None:
    found = judge(PLAN, [run(10, TREND), run(20, CACHE)])
    assert found.caught[0].night is None
    assert not found.false
    assert not found.good


def test_what_fails_before_or_long_after_is_false() -> None:
    found = judge(PLAN, [run(9, SLICES), run(10, SLICES), run(20, CACHE), run(4, CACHE)])
    assert found.false_pages == [(9, SLICES)]
    assert found.false_logs == [(4, CACHE)]
    assert judge(PLAN, [run(41, SLICES)]).false_pages == [(41, SLICES)]


def test_a_failure_that_looks_back_on_it_is_counted_apart() -> None:
    found = judge(PLAN, [run(10, SLICES), run(13, TREND), run(20, CACHE)])
    assert found.echoes == ((13, TREND),)
    assert not found.false


def test_two_false_pages_are_one_too_many() -> None:
    caught = [run(10, SLICES), run(20, CACHE)]
    assert judge(PLAN, [run(3, TREND), *caught]).good
    assert not judge(PLAN, [run(3, TREND), run(4, TREND), *caught]).good


def test_the_table_has_a_line_for_every_night_and_shouts_pages() -> None:
    lines = list(
        table(PLAN, [run(night) for night in PLAN.loads() if night != 11] + [run(11, SLICES)])
    )
    assert len(lines) == 1 + PLAN.nights
    assert "no load" in lines[5]
    assert "slice; SLICES" in lines[11]


def test_the_summary_and_the_json_say_what_was_missed() -> None:
    runs = [run(10, SLICES)]
    found = judge(PLAN, runs)
    said = "\n".join(summary(PLAN, found))
    assert "caught on night 10" in said
    assert "MISSED: none of cache_hits" in said
    planted = {each["name"]: each for each in as_json(PLAN, runs, found)["planted"]}
    assert planted["slice"]["by"] == "slices"
    assert planted["cache"]["caught"] is None


def test_nothing_is_planted_that_the_nights_end_before() -> None:
    assert [planted.name for planted in eventful(60).planted] == ["drift", "prompt", "slice"]
    assert len(eventful(90).planted) == 5
    assert not stable(90).planted
    assert len(stable(90).loads()) == 88
