"""Rows that people answered can join the golden set, once, in the file's own hand."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.rows.query import querying
from batch_pipeline.stages.source_check import check_source
from batch_pipeline_tests.night import DAY
from batch_pipeline_tests.review.desk import Desk

Fixing = Callable[..., dict[str, str]]


def golden(desk: Desk) -> Path:
    return desk.context.workload.folder / "golden.csv"


def decide(desk: Desk, fixing: Fixing) -> None:
    desk.decide(
        r00001=fixing(label="bug", urgency="2", why="x"),
        r00002={"decision": "drop"},
        r00005={"decision": "accept"},
    )


def test_what_was_accepted_or_fixed_is_appended_and_what_was_dropped_is_not(
    desk: Desk, fixing: Fixing
) -> None:
    before = golden(desk).read_bytes()
    decide(desk, fixing)
    added = desk.take_in(golden=True).golden
    assert added is not None
    assert (added.added, added.known, added.unusable) == (2, 0, 0)
    label = desk.rows()["r00005"]["model_label"]
    assert golden(desk).read_bytes() == before + (
        b"r00001,question number 1 of the night,bug\r\n"
        b"r00005,question number 5 of the night," + label.encode() + b"\r\n"
    )
    with querying(desk.context.scratch) as connection:
        check_source(desk.context.workload, DAY, connection)


def test_rows_that_are_there_already_are_left(desk: Desk, fixing: Fixing) -> None:
    decide(desk, fixing)
    desk.take_in(golden=True)
    before = golden(desk).read_bytes()
    again = desk.take_in(golden=True)
    assert again.before is not None
    assert again.golden is not None
    assert (again.golden.added, again.golden.known) == (0, 2)
    assert golden(desk).read_bytes() == before


def test_a_file_without_keys_knows_rows_by_what_the_prompt_reads(
    desk: Desk, fixing: Fixing
) -> None:
    golden(desk).write_text(
        "expected_why;text;expected_label\nx;question number 1 of the night;bug", encoding="utf-8"
    )
    golden(desk).chmod(0o640)
    decide(desk, fixing)
    added = desk.take_in(golden=True).golden
    assert added is not None
    assert (added.added, added.known) == (1, 1)
    *_, last = golden(desk).read_text().splitlines()
    assert last.split(";")[1] == "question number 5 of the night"
    assert golden(desk).read_text().count("\n") == 3
    assert golden(desk).stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(("why", "added", "unusable"), [('""', 0, 1), ("null", 1, 0)])
def test_an_empty_text_cannot_be_expected_of_a_csv(
    desk: Desk, fixing: Fixing, why: str, added: int, unusable: int
) -> None:
    changed = desk.declared(golden={"path": "golden.csv", "match": ["why"], "baseline": 0.5})
    golden(desk).write_text("id,text,expected_why\nk,t,x\n")
    changed.decide(r00001=fixing(label="bug", urgency="2", why=why))
    done = changed.take_in(golden=True).golden
    assert done is not None
    assert (done.added, done.unusable) == (added, unusable)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (None, "declares no golden set"),
        ({"path": "golden.ndjson", "match": ["label"], "baseline": 0.9}, "is no CSV"),
        ({"path": "none.csv", "match": ["label"], "baseline": 0.9}, "does not exist"),
        (
            {"path": "golden.csv", "match": ["urgency"], "baseline": 0.9},
            "no column expected_urgency",
        ),
    ],
)
def test_a_golden_set_that_cannot_be_added_to_stops_the_import_before_anything(
    desk: Desk, fixing: Fixing, spec: object, said: str
) -> None:
    changed = desk.declared(golden=spec)
    decide(changed, fixing)
    with pytest.raises(ConfigurationError, match=said):
        changed.take_in(golden=True)
    assert changed.decided() == {}
