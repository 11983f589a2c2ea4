"""A line over nights, as geometry."""

import re
from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_pipeline.report.chart import Drawing, Level, Point, draw, sparkline

FIRST = date(2026, 11, 1)


def points(values: list[float | None], days: list[int] | None = None) -> list[Point]:
    return [
        Point(FIRST + timedelta(days=day), value, note=f"night {day}")
        for day, value in zip(days or range(len(values)), values, strict=True)
    ]


def drawn(shown: list[Point], **options: object) -> Drawing:
    drawing = draw(
        shown,
        write=lambda value, places: f"{value:.{places}f}%",
        unit=100.0,
        least=0.01,
        bounds=(0.0, 1.0),
        **options,  # type: ignore[arg-type]
    )
    assert drawing is not None
    return drawing


def numbers(path: str) -> list[float]:
    return [float(text) for text in re.findall(r"-?\d+\.?\d*", path)]


def test_the_line_breaks_where_a_night_is_missing() -> None:
    whole = drawn(points([0.9] * 6))
    broken = drawn(points([0.9] * 5, days=[0, 1, 2, 4, 5]))

    assert len(whole.lines) == 1
    assert len(broken.lines) == 2


def test_nights_are_placed_by_their_dates() -> None:
    dots = drawn(points([0.9, 0.9, 0.9], days=[0, 1, 9])).dots

    assert dots[2].x - dots[1].x == pytest.approx(8 * (dots[1].x - dots[0].x))


def test_a_weekly_load_is_no_line_of_gaps() -> None:
    assert len(drawn(points([0.9] * 5, days=[0, 7, 14, 21, 28])).lines) == 1


def test_a_night_without_a_value_breaks_the_line_and_is_no_zero() -> None:
    drawing = drawn(points([0.9, 0.91, None, 0.9, 0.91]))

    assert len(drawing.lines) == 2
    assert all(y < 184 for path in drawing.lines for y in numbers(path)[1::2])


def test_a_single_night_stands_in_the_middle_with_its_interval() -> None:
    one = [Point(FIRST, 0.9, 0.85, 0.94, "night")]
    drawing = drawn(one)

    assert [(dot.kind, dot.x) for dot in drawing.dots] == [("last", 210.0)]
    assert drawing.dots[0].low is not None
    assert [text.text for text in drawing.dates] == ["1 Nov"]


def test_no_value_at_all_is_no_chart() -> None:
    nothing = draw(points([None, None]), write=lambda v, p: "", least=0.01, bounds=(0.0, 1.0))
    assert nothing is None


def test_equal_nights_are_a_level_line_within_the_picture() -> None:
    for value in (0.0, 0.5, 1.0):
        drawing = drawn(points([value] * 4))
        heights = set(numbers(drawing.lines[0])[1::2])
        assert len(heights) == 1
        assert drawing.top <= heights.pop() <= drawing.bottom
        assert len(drawing.grid) >= 2


def test_a_floor_far_below_is_named_and_does_not_flatten_the_nights() -> None:
    values: list[float | None] = [0.994, 0.995, 0.994]
    far = drawn(points(values), levels=[Level("floor 50.0%", "floor", [0.5] * 3)])
    near = drawn(points(values), levels=[Level("floor 99.0%", "floor", [0.99] * 3)])

    assert far.beyond == ["↓ floor 50.0% is below this view"]
    assert far.levels == []
    assert near.beyond == []
    assert [kind for kind, *_ in near.levels] == ["floor"]


def test_a_baseline_that_changed_is_drawn_in_steps() -> None:
    level = Level("baseline", "baseline", [0.9, 0.9, 0.92, 0.92])
    path = drawn(points([0.91] * 4), levels=[level]).levels[0][1]

    assert path.count("V") == 1


def test_a_held_night_has_a_shape_of_its_own() -> None:
    shown = points([0.9] * 3)
    held = [shown[0], Point(shown[1].day, 0.9, held=True), shown[2]]

    assert [dot.kind for dot in drawn(held).dots] == ["night", "held", "last"]


def test_many_nights_have_no_dot_each_but_can_each_be_pointed_at() -> None:
    drawing = drawn(points([0.9] * 120))

    assert len(drawing.dots) == 1
    assert [note for _, _, note in drawing.targets] == [f"night {n}" for n in range(120)]


def test_marks_that_are_close_share_their_words() -> None:
    days = [FIRST + timedelta(days=n) for n in (40, 41, 110)]
    marks = drawn(points([0.9] * 120), changes=days).marks

    assert [word for _, word in marks] == ["changed", "", "changed"]


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 1)), min_size=1, max_size=40),
    st.data(),
)
def test_everything_stays_within_the_picture(
    values: list[float | None], data: st.DataObject
) -> None:
    gaps = data.draw(st.lists(st.integers(1, 9), min_size=len(values), max_size=len(values)))
    days = [sum(gaps[: n + 1]) for n in range(len(values))]
    shown = [
        Point(FIRST + timedelta(days=day), v, None if v is None else v * 0.9, v, "")
        for day, v in zip(days, values, strict=True)
    ]
    drawing = draw(shown, write=lambda v, p: "", least=0.01, bounds=(0.0, 1.0))
    if drawing is None:
        assert all(value is None for value in values)
        return
    for path in [*drawing.lines, *(band for band in drawing.bands if band)]:
        places = numbers(path.split("h")[0])
        assert all(drawing.left <= x <= drawing.right for x in places[0::2])
        assert all(drawing.top - 0.1 <= y <= drawing.bottom + 0.1 for y in places[1::2])
    assert all(width > 0 for _, width, _ in drawing.targets)


def test_a_small_line_leaves_out_what_is_not_known() -> None:
    assert sparkline([None, None]) == []
    assert len(sparkline([0.1, None, 0.2, 0.3])) == 2
    assert "nan" not in "".join(sparkline([0.0, 0.0]))
