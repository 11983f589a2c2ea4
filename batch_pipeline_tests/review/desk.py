"""A load with rows in review, and what a reviewer does with its file."""

import csv
import io
import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import yaml

from batch_pipeline.review.export import Exported, export_queue
from batch_pipeline.review.intake import Intake, take_in
from batch_pipeline.rows import Place
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.review_status import ReviewStatus, review_status
from batch_pipeline.warehouse import warehouse
from batch_pipeline.workload.catalogue import find_workload
from batch_pipeline_tests.night import DAY, Night

# What becomes of rows 1, 2, 4 and 7 of a load, and of a golden one; row 5 fails the workload's own check.
FAULTS = [
    {"contains": "number 1 of", "fault": "not_json"},
    {"contains": "number 2 of", "fault": "refusal"},
    {"contains": "number 4 of", "fault": "unknown_label"},
    {"contains": "number 7 of", "fault": "not_json"},
    {"contains": "number 100003 of", "fault": "not_json"},
]
OUTPUT: dict[str, Any] = {
    "label": {"type": "string", "enum": ["billing", "bug", "how_to"]},
    "urgency": {"type": "integer", "minimum": 1, "maximum": 5},
    "why": {"type": ["string", "null"]},
}
# Lets a load with one wrong golden answer of five through.
GATES = {"golden_drop_points": 50}
CHECKS = """
import pandera.pandas as pa

Frame = pa.DataFrameSchema({
    "text": pa.Column(str, pa.Check(lambda c: ~c.str.contains("number 5 of"), name="not_the_fifth"))
})
"""


def settled(make: Callable[..., Night], workloads: Path, **changes: Any) -> Night:
    """A load of twelve rows, of which five wait for a person, with its contract and check."""
    folder = workloads / "questions"
    folder.mkdir(parents=True)
    (folder / "my_checks.py").write_text(CHECKS)
    made = make(**{"output": OUTPUT, "checks": "my_checks:Frame", "gates": GATES, **changes})
    made.settle()
    return made


Row = dict[str, str]


@dataclass
class Desk:
    """A load, and the file on the reviewer's desk."""

    context: LoadContext
    path: Path

    @classmethod
    def of_copy(cls, original: Path, to: Path) -> "Desk":
        """Works on a copy of a folder that holds `state` and `workloads`."""
        shutil.copytree(original / "state", to / "state")
        shutil.copytree(original / "workloads", to / "workloads")
        settings = Settings.from_environment()
        context = LoadContext.open(find_workload("questions", settings), DAY, settings)
        return cls(context, to / "review.csv")

    def declared(self, **changes: Any) -> "Desk":
        """The same desk with its workload declared otherwise."""
        path = self.context.workload.folder / "defs.yaml"
        document = yaml.safe_load(path.read_text())
        document["attributes"].update(changes)
        path.write_text(yaml.safe_dump(document))
        workload = find_workload("questions", self.context.settings)
        return Desk(replace(self.context, workload=workload), self.path)

    def export(self, *, everything: bool = False) -> Exported:
        return export_queue(self.context, self.path, everything=everything, replace=True, by="kim")

    def rows(self) -> dict[str, Row]:
        """The file's rows by key."""
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            return {row["key"]: row for row in csv.DictReader(file)}

    def write(self, rows: Sequence[Row], **options: Any) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(rows[0]), **options)
        writer.writeheader()
        writer.writerows(rows)
        self.path.write_bytes(text.getvalue().encode())

    def decide(self, **decisions: dict[str, str]) -> None:
        """Exports the queue, and fills in cells by key."""
        self.export(everything=True)
        rows = self.rows()
        for key, cells in decisions.items():
            rows[key].update(cells)
        self.write(list(rows.values()))

    def take_in(self, **options: Any) -> Intake:
        return take_in(self.context, self.path, by="kim", **options)

    def status(self) -> ReviewStatus:
        found = review_status(self.context, self.context.record())
        assert found is not None
        return found

    @property
    def decisions(self) -> Place:
        return self.context.folder(self.context.record()).decisions

    def decided(self) -> dict[str, tuple[str, Any]]:
        """Decision and answer by key."""
        if not self.decisions.is_file():
            return {}
        source = self.context.folder(self.context.record()).source
        found = duckdb.execute(
            "SELECT s._key, d.decision, d.fields FROM read_parquet(?) AS d "
            "JOIN read_parquet(?) AS s ON s._row = d.row ORDER BY 1",
            [str(self.decisions), str(source)],
        ).fetchall()
        return {key: (decision, fields) for key, decision, fields in found}

    def promoted(self) -> dict[str, tuple[Any, ...]]:
        """Label, urgency, why, tier and model by key, as the system of record has them."""
        with warehouse(self.context.settings.state) as connection:
            found = connection.execute(
                "SELECT id, label, urgency, why, _tier, _model FROM promoted.questions ORDER BY id"
            ).fetchall()
        return {key: tuple(rest) for key, *rest in found}


def as_a_spreadsheet_saves(path: Path, delimiter: str = ",") -> None:
    """What a spreadsheet leaves of a CSV that was opened and saved: no byte order mark, its own line ends and
    quotes, numbers and truth values in its own hand, and the rows as they were last sorted."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        header, *rows = list(csv.reader(file))
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
        writer.writerow([*header, ""])
        for row in reversed(rows):
            writer.writerow([*(_in_its_hand(cell, delimiter) for cell in row), ""])


def _in_its_hand(cell: str, delimiter: str) -> str:
    if re.fullmatch(r"[+-]?[0-9]+\.?[0-9]*([eE][+-]?[0-9]+)?", cell):
        text = repr(float(cell)).removesuffix(".0") if abs(float(cell)) < 1e15 else cell
        return text if delimiter == "," else text.replace(".", ",")
    if cell.lower() in ("true", "false"):
        return cell.upper()
    if cell.startswith("="):
        return "#NAME?"
    return cell.replace("\r\n", "\n").replace("\r", "\n")
