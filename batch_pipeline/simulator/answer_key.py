"""The answer key: the right answer, and any scripted fault, of the rows that a scenario knows."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from .draws import digest
from .errors import ScenarioError
from .scenario import ROW_FAULTS, Answers, RowFault

_CONTROL = ("fault", "fault_model", "difficulty")


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One row of the answer key. `cells` are as in the file, in the order of `AnswerKey.columns`."""

    cells: tuple[str, ...]
    fault: RowFault | None
    fault_model: str
    difficulty: float


def normalised(text: str) -> str:
    return " ".join(text.split())


class AnswerKey:
    """Finds the row of the key that a user message is about. Holds digests, not the texts."""

    def __init__(self, answers: Answers) -> None:
        """Read the whole key.

        Raises:
            ScenarioError: the file is missing, is no CSV, lacks the column, or contradicts itself.
        """
        self._pattern = re.compile(answers.lookup.pattern) if answers.lookup.pattern else None
        self.columns: tuple[str, ...] = ()
        self._rows: dict[bytes, KeyRow] = {}
        self._read(answers.file, answers.lookup.column)

    def find(self, message: str) -> KeyRow | None:
        """The row whose text the message holds, white space apart."""
        if self._pattern is not None:
            match = self._pattern.search(message)
            if match is None:
                return None
            message = match.group(1) or ""
        return self._rows.get(digest(normalised(message)))

    def answer(self, row: KeyRow) -> dict[str, str]:
        return dict(zip(self.columns, row.cells, strict=True))

    def _read(self, path: Path, column: str) -> None:
        try:
            with path.open(encoding="utf-8-sig", newline="") as file:
                csv.field_size_limit(100_000_000)
                reader = csv.reader(file, strict=True)
                header = next(reader, [])
                if column not in header:
                    raise ScenarioError(
                        f"{path}: the answer key has no column {column}, which answers.lookup.column "
                        f"names; it has {', '.join(header) or 'none'}."
                    )
                at = header.index(column)
                kept = [i for i, name in enumerate(header) if i != at and name not in _CONTROL]
                control = {name: header.index(name) for name in _CONTROL if name in header}
                self.columns = tuple(header[i] for i in kept)
                for row in reader:
                    where = f"{path}: line {reader.line_num}"
                    if len(row) != len(header):
                        raise ScenarioError(
                            f"{where}: {len(row)} cells under a header of {len(header)}."
                        )
                    parsed = _parse(where, row, kept, control)
                    known = self._rows.setdefault(digest(normalised(row[at])), parsed)
                    if known != parsed:
                        raise ScenarioError(
                            f"{where}: an earlier row has the same {column} and another answer; "
                            "keep one of them."
                        )
        except OSError as error:
            raise ScenarioError(f"{path}: cannot read the answer key: {error.strerror}.") from None
        except UnicodeDecodeError:
            raise ScenarioError(f"{path}: the answer key is not UTF-8 text.") from None
        except csv.Error as error:
            raise ScenarioError(f"{path}: the answer key is not CSV: {error}.") from None


def _parse(where: str, row: list[str], kept: list[int], control: dict[str, int]) -> KeyRow:
    def cell(name: str) -> str:
        return row[control[name]].strip() if name in control else ""

    fault = next((f for f in ROW_FAULTS if f == cell("fault")), None)
    if fault is None and cell("fault"):
        raise ScenarioError(
            f"{where}: column fault: no such row fault; there are {', '.join(ROW_FAULTS)}."
        )
    try:
        difficulty = float(cell("difficulty") or 0.5)
    except ValueError:
        difficulty = -1.0
    if not 0 <= difficulty <= 1:
        raise ScenarioError(f"{where}: column difficulty: give a number from 0 to 1.")
    return KeyRow(tuple(row[i] for i in kept), fault, cell("fault_model"), difficulty)
