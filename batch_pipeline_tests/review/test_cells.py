"""A cell goes through a spreadsheet and comes back as what it was."""

import csv
import io
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batch_pipeline.review.cells import BLANK, CellError, guarded, read, shown, unguarded, written
from batch_pipeline.workload.field import Field, Kind

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
odd_texts = st.one_of(
    texts,
    st.text("'=+-@\t\r\n\"01.e ", max_size=6),
    st.sampled_from(["null", "007", "1e5", "true", "2026-11-20", "Jan 5", '"x"', "'=1+1"]),
)


def field(kind: Kind, *, nullable: bool = False) -> Field:
    return Field(
        "field",
        kind,
        nullable=nullable,
        items=Field("items", "string") if kind == "array" else None,
    )


@given(odd_texts)
@example("''=1")
@example("'-1")
def test_the_guard_is_taken_away_exactly(text: str) -> None:
    assert unguarded(guarded(text)) == text
    assert unguarded(text) in (text, text[1:])


@given(odd_texts)
def test_no_cell_that_was_written_begins_as_a_formula(text: str) -> None:
    for cell in (guarded(text), written(text), shown(text)):
        if cell[:1] in tuple("=+-@\t\r"):
            float(cell)


@given(odd_texts, st.booleans())
def test_a_text_comes_back_as_it_was(text: str, nullable: bool) -> None:
    value = read(written(text), field("string", nullable=nullable), decimal_comma=False)
    assert value == text


@given(odd_texts)
@example("a\r\nb")
@example("\x00")
@example("\ufffe")
def test_a_text_comes_back_from_a_csv_whose_line_ends_were_changed(text: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([written(text), "x"])
    ((cell, _),) = csv.reader(io.StringIO(file.getvalue().replace("\r\n", "\n"), newline=""))
    assert read(cell, field("string"), decimal_comma=False) == text


@given(
    st.one_of(
        st.tuples(st.just("integer"), st.integers(-(2**63), 2**63 - 1)),
        st.tuples(st.just("number"), st.floats(allow_nan=False, allow_infinity=False)),
        st.tuples(st.just("boolean"), st.booleans()),
        st.tuples(st.just("array"), st.lists(odd_texts, max_size=3)),
    )
)
def test_every_other_value_comes_back_too(kind_and_value: tuple[Kind, Any]) -> None:
    kind, value = kind_and_value
    assert read(written(value), field(kind), decimal_comma=False) == value


def test_null_is_said_by_its_name_and_a_blank_cell_says_nothing() -> None:
    assert read(written(None), field("string", nullable=True), decimal_comma=False) is None
    assert read("null", field("string"), decimal_comma=False) == "null"
    assert read("  ", field("string"), decimal_comma=False) is BLANK
    assert read('""', field("string"), decimal_comma=False) == ""


@pytest.mark.parametrize(
    "text", ["007", "1e5", "3.10", "true", "2026-11-20", "Jan 5", "12:30", "50%", "(1)", "€ 5", ""]
)
def test_text_that_a_spreadsheet_would_change_goes_out_in_quotes(text: str) -> None:
    assert written(text) == f'"{text}"'


@pytest.mark.parametrize(
    "text", ["billing", "how_to", "tier_1", "Jane", "it's", "naïve – yes", "a\nb"]
)
def test_ordinary_text_goes_out_as_it_is(text: str) -> None:
    assert written(text) == text


@pytest.mark.parametrize(
    ("kind", "cell", "value"),
    [
        ("integer", " +5 ", 5),
        ("integer", "5.0", 5.0),
        ("number", "1,5", 1.5),
        ("number", ".5", 0.5),
        ("boolean", "TRUE", True),
        ("array", '["a", null]', ["a", None]),
        ("string", '"a" and "b"', '"a" and "b"'),
        ("string", "a\r\nb\rc", "a\nb\nc"),
        ("string", "'=1+1", "=1+1"),
        ("string", "=1+1", "=1+1"),
    ],
)
def test_what_people_and_spreadsheets_write_is_understood(
    kind: Kind, cell: str, value: object
) -> None:
    assert read(cell, field(kind), decimal_comma=True) == value


@pytest.mark.parametrize(
    ("kind", "cell", "said"),
    [
        ("integer", "five", "is not a number"),
        ("number", "1,5", "is not a number"),
        ("number", "1e999", "is too large a number"),
        ("number", "NaN", "is not a number"),
        ("boolean", "yes", "is neither true nor false"),
        ("array", "a, b", "is not a JSON array"),
        ("array", "{}", "is not a JSON array"),
        ("string", r'"\ud800"', "half a character"),
    ],
)
def test_what_is_no_value_is_refused_without_being_quoted(kind: Kind, cell: str, said: str) -> None:
    with pytest.raises(CellError, match=said) as refused:
        read(cell, field(kind), decimal_comma=False)
    assert cell not in str(refused.value)
