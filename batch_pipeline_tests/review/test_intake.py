"""A reviewed file is taken in as a whole or not at all, as often as one likes, and only by the load it is of."""

import re
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger.transactions import now
from batch_pipeline.review.file import load_in
from batch_pipeline.stages.purge import Purge
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline_tests.night import DAY
from batch_pipeline_tests.review.desk import Desk, as_a_spreadsheet_saves

Fixing = Callable[..., dict[str, str]]


def refused(desk: Desk) -> dict[int, str]:
    """The sentences by line; nothing may have changed."""
    before = desk.decided()
    intake = desk.take_in()
    assert intake.rejected
    assert desk.decided() == before
    assert desk.context.ledger.review_imports(desk.context.record()) == []
    return {each.number: each.sentence for each in intake.rejected}


def edit(desk: Desk, change: Callable[[str], str]) -> None:
    desk.path.write_text(change(desk.path.read_text(encoding="utf-8-sig")), encoding="utf-8")


# What is taken in


def test_a_file_without_a_decision_changes_nothing(desk: Desk) -> None:
    desk.export()
    intake = desk.take_in()
    assert (intake.decided, intake.changed, intake.rejected) == (0, 0, [])
    assert not desk.decisions.exists()
    assert desk.context.ledger.review_imports(desk.context.record()) == []


def test_a_fix_is_judged_and_typed_as_an_answer_is(desk: Desk, fixing: Fixing) -> None:
    desk.decide(r00001=fixing(label=" Billing", urgency="3.0", why="null"))
    assert desk.take_in().fixed == 1
    assert desk.decided() == {
        "r00001": ("fix", {"label": "billing", "urgency": 3, "why": None}),
    }


def test_a_blank_cell_keeps_what_the_model_said(desk: Desk, fixing: Fixing) -> None:
    desk.decide(r00004=fixing(label="bug"))
    model = desk.rows()["r00004"]
    desk.take_in()
    _, fields = desk.decided()["r00004"]
    assert fields == {
        "label": "bug",
        "urgency": int(model["model_urgency"]),
        "why": model["model_why"],
    }


def test_an_answer_that_fails_only_the_workloads_own_check_can_be_accepted(desk: Desk) -> None:
    desk.decide(r00005={"decision": "Accept "})
    assert desk.take_in().accepted == 1
    decision, fields = desk.decided()["r00005"]
    assert (decision, fields["label"]) == ("accept", desk.rows()["r00005"]["model_label"])


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_order_separator_and_line_ends_do_not_matter(
    desk: Desk, fixing: Fixing, delimiter: str
) -> None:
    desk.decide(
        r00001=fixing(label="bug", urgency="2", why="two\nlines, and; more"),
        r00002={"decision": "DROP", "note": "no text\nat all"},
    )
    as_a_spreadsheet_saves(desk.path, delimiter)
    assert desk.take_in().rejected == []
    assert desk.decided() == {
        "r00001": ("fix", {"label": "bug", "urgency": 2, "why": "two\nlines, and; more"}),
        "r00002": ("drop", None),
    }


def test_the_source_and_the_answer_are_never_read_back(desk: Desk, fixing: Fixing) -> None:
    desk.decide(r00001=fixing(label="bug", urgency="2", why="x") | {"key": "9", "input_text": "?"})
    assert desk.take_in().rejected == []
    assert list(desk.decided()) == ["r00001"]


# Again, and later


def test_the_same_file_again_changes_nothing(desk: Desk) -> None:
    desk.decide(r00002={"decision": "drop"})
    desk.take_in()
    before = desk.decisions.read_bytes()
    again = desk.take_in()
    assert again.before is not None
    assert (again.dropped, again.changed) == (1, 0)
    assert desk.decisions.read_bytes() == before
    assert len(desk.context.ledger.review_imports(desk.context.record())) == 1


def test_a_later_file_overrides_the_rows_it_decides_and_no_others(
    desk: Desk, fixing: Fixing
) -> None:
    desk.decide(r00001={"decision": "drop"}, r00002={"decision": "drop"})
    desk.take_in()
    desk.decide(r00001=fixing(label="bug", urgency="2", why="null"), r00002={"decision": ""})
    intake = desk.take_in()
    assert (intake.fixed, intake.dropped, intake.changed) == (1, 0, 1)
    assert {key: decision for key, (decision, _) in desk.decided().items()} == {
        "r00001": "fix",
        "r00002": "drop",
    }


def test_a_file_that_was_overridden_does_not_come_back(desk: Desk) -> None:
    desk.decide(r00005={"decision": "accept"})
    older = desk.path.read_bytes()
    desk.take_in()
    desk.decide(r00005={"decision": "drop"})
    desk.take_in()
    desk.path.write_bytes(older)
    assert desk.take_in().before is not None
    assert desk.decided()["r00005"] == ("drop", None)


def test_what_was_cut_off_before_the_ledger_heard_of_it_is_completed_by_doing_it_again(
    desk: Desk,
) -> None:
    desk.decide(r00002={"decision": "drop"})
    desk.take_in()
    before = desk.decided()
    with closing(sqlite3.connect(desk.context.settings.state / "ledger.sqlite")) as ledger:
        ledger.execute("DELETE FROM review_imports")
        ledger.commit()
    again = desk.take_in()
    assert (again.before, again.changed) == (None, 0)
    assert desk.decided() == before
    (recorded,) = desk.context.ledger.review_imports(desk.context.record())
    assert (recorded.dropped, recorded.imported_by) == (1, "kim")


def test_what_an_import_that_was_killed_left_is_removed_by_the_next(desk: Desk) -> None:
    left = desk.context.folder(desk.context.record()).review
    left.mkdir()
    (left / "lines.parquet").write_bytes(b"half")
    desk.decide(r00002={"decision": "drop"})
    assert desk.take_in().dropped == 1
    assert not left.exists()


# Lines that cannot stand


@pytest.mark.parametrize(
    ("cells", "said"),
    [
        ({"decision": "yes"}, "decision is none of accept, fix and drop"),
        ({"fixed_label": "bug"}, "fixed_label is filled in, but decision is blank"),
        ({"decision": "accept", "fixed_label": "bug"}, "accept takes the model's answer as it is"),
        ({"decision": "accept"}, "accept is for .* and here the model's answer is not JSON"),
        ({"decision": "fix"}, "fix needs a value in a fixed_ column"),
        (
            {"decision": "fix", "fixed_label": "bug"},
            "fixed_urgency is blank, and the model gave no",
        ),
        (
            {"decision": "fix", "fixed_label": "secret", "fixed_urgency": "1", "fixed_why": "x"},
            r"label is none of the values that output allows \(billing, bug, how_to\)",
        ),
        (
            {"decision": "fix", "fixed_label": "bug", "fixed_urgency": "9", "fixed_why": "x"},
            r"urgency is out of its range \(At least 1 and at most 5\)",
        ),
        (
            {"decision": "fix", "fixed_label": "bug", "fixed_urgency": "1.5", "fixed_why": "x"},
            "urgency is of another type",
        ),
        (
            {"decision": "fix", "fixed_label": "bug", "fixed_urgency": "high", "fixed_why": "x"},
            "fixed_urgency is not a number",
        ),
        (
            {"decision": "fix", "fixed_label": "bug", "fixed_urgency": "null", "fixed_why": "x"},
            "urgency is of another type",
        ),
    ],
)
def test_a_line_that_cannot_stand_says_why_and_stops_the_file(
    desk: Desk, cells: dict[str, str], said: str
) -> None:
    desk.decide(r00001=cells, r00002={"decision": "drop"})
    (sentence,) = refused(desk).values()
    assert re.search(said, sentence), sentence
    assert "secret" not in sentence


def test_a_label_outside_the_contract_cannot_be_accepted(desk: Desk) -> None:
    desk.decide(r00004={"decision": "accept"})
    (sentence,) = refused(desk).values()
    assert "here label is none of the values that output allows" in sentence


def test_a_fix_has_to_pass_the_workloads_own_checks(desk: Desk, fixing: Fixing) -> None:
    desk.decide(r00005=fixing(label="bug"))
    (sentence,) = refused(desk).values()
    assert "fails the workload's own check text:not_the_fifth" in sentence


def test_a_row_may_be_decided_once_in_a_file(desk: Desk) -> None:
    desk.decide(r00002={"decision": "drop"})
    row = desk.rows()["r00002"]
    desk.write([row, {**row, "decision": "accept"}, {**row, "decision": ""}])
    assert refused(desk) == {3: "line 2 decides the same row; keep one of them"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda i: i[:-1] + ("0" if i[-1] != "0" else "1"), "no row of this queue has this"),
        (lambda i: i.replace(".g1.", ".g1.9"), "no row of this queue has this"),
        (lambda i: "=SUM(1)", "review_id is not one that was exported"),
        (lambda i: "", "review_id is not one that was exported"),
    ],
)
def test_an_id_that_was_never_given_is_refused(
    desk: Desk, change: Callable[[str], str], said: str
) -> None:
    desk.decide(r00002={"decision": "drop"})
    row = desk.rows()["r00002"]
    desk.write([{**row, "review_id": change(row["review_id"])}])
    (sentence,) = refused(desk).values()
    assert said in sentence


def test_an_id_is_good_for_its_own_row_only(desk: Desk) -> None:
    desk.decide(r00001={"decision": "drop"})
    one, other = (desk.rows()[key] for key in ("r00001", "r00002"))
    checksum = other["review_id"].rpartition(".")[2]
    desk.write([{**one, "review_id": f"{one['review_id'].rpartition('.')[0]}.{checksum}"}])
    assert "no row of this queue has this review_id" in refused(desk)[2]


def test_an_id_is_good_for_its_own_sending_only(desk: Desk) -> None:
    desk.decide(r00001={"decision": "drop"})
    path = desk.context.folder(desk.context.record()).dispositions
    duckdb.execute(
        f"COPY (SELECT * REPLACE (reverse(chunk_id) AS chunk_id) FROM read_parquet('{path}')) "
        f"TO '{path}x' (FORMAT parquet)"
    )
    Path(f"{path}x").replace(str(path))
    assert "is the file from another state folder" in refused(desk)[2]


def test_lines_are_counted_as_an_editor_counts_them(desk: Desk, fixing: Fixing) -> None:
    desk.decide(
        r00001=fixing(label="bug", urgency="2", why="x") | {"note": "three\nlines\nlong"},
        r00002={"decision": "maybe"},
    )
    assert list(refused(desk)) == [5]


# Files that are refused


def test_a_file_of_another_load_is_refused(desk: Desk) -> None:
    desk.decide(r00002={"decision": "drop"})
    edit(desk, lambda text: text.replace(DAY, "2026-11-19"))
    assert load_in(desk.path) == "2026-11-19"
    with pytest.raises(
        ConfigurationError,
        match=rf"line 2: this is of questions 2026-11-19 \(generation 1\) and not of questions {DAY}",
    ):
        desk.take_in()
    assert desk.decided() == {}


@pytest.mark.parametrize(("before", "after"), [("questions.", "tickets."), (".g1.", ".g2.")])
def test_a_file_of_another_workload_or_sending_is_refused(
    desk: Desk, before: str, after: str
) -> None:
    desk.export()
    edit(desk, lambda text: text.replace(before, after))
    with pytest.raises(ConfigurationError, match="and not of questions"):
        desk.take_in()


@pytest.mark.parametrize("column", ["review_id", "decision", "fixed_urgency"])
def test_a_missing_column_is_named(desk: Desk, column: str) -> None:
    desk.decide(r00002={"decision": "drop"})
    desk.write([{k: v for k, v in row.items() if k != column} for row in desk.rows().values()])
    with pytest.raises(ConfigurationError, match=f"has no column {column}; it has "):
        desk.take_in()


def test_a_column_of_another_contract_is_refused(desk: Desk) -> None:
    desk.export()
    edit(desk, lambda text: text.replace("fixed_why,", "fixed_why,fixed_mood,"))
    with pytest.raises(ConfigurationError, match="fixed_mood, which the output contract has not"):
        desk.take_in()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "has no column review_id; it has none"),
        ("review_id,decision".encode("utf-16"), "is UTF-16 text"),
        (b"review_id,decision,fixed_label,fixed_urgency,fixed_why\n\xff,\n", "is not UTF-8 text"),
        (b'review_id,decision,fixed_label,fixed_urgency,fixed_why\na,b\n"c"d,', "from line 3 on"),
        (b"review_id,decision,fixed_label,fixed_urgency,fixed_why,note,note\n", "note twice"),
    ],
)
def test_what_is_no_review_file_is_refused(desk: Desk, content: bytes, said: str) -> None:
    desk.path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=said):
        desk.take_in()


def test_a_file_that_is_not_there_is_said(desk: Desk) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        desk.take_in()


def test_decisions_wait_until_the_declaration_is_the_loads_again(desk: Desk) -> None:
    desk.decide(r00002={"decision": "drop"})
    changed = desk.declared(output={"label": {"type": "string"}})
    for act in (changed.take_in, changed.export):
        with pytest.raises(ConfigurationError, match="the output contract or the tiers changed"):
            act()


def test_a_load_that_was_purged_has_no_review(desk: Desk) -> None:
    desk.decide(r00002={"decision": "drop"})
    desk.take_in()
    decisions = desk.decisions
    state, ledger = desk.context.settings.state, desk.context.ledger
    purge = Purge(state, ledger, now(), lambda _: measure_load(desk.context))
    assert [done.left_alone for done in purge.run()] == [None]
    assert not decisions.exists()
    for act in (desk.take_in, desk.export):
        with pytest.raises(PipelineError, match="were purged at"):
            act()
