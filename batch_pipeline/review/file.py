"""Reads a review file as people and spreadsheets leave it: any order, any of three separators, broken lines in cells."""

import codecs
import csv
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.review.cells import unguarded
from batch_pipeline.review.columns import DECISION, FIXED, NOTE, REVIEW_ID, REVIEWER, fixed_columns
from batch_pipeline.review.queue import LoadName, load_of
from batch_pipeline.workload.contract import Contract
from batch_pipeline.workload.data_file import listed

_DELIMITERS = ",;\t"
# No cell that people read comes near it; the source's may.
_MOST_CHARACTERS = 1 << 26
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True)
class Line:
    """A decision: the line of the file that it begins on, counted from 1, and its cells."""

    number: int
    review_id: str
    decision: str
    fixed: tuple[str, ...]
    note: str
    reviewer: str


@dataclass(frozen=True)
class Rejected:
    """A line that cannot be taken in. `review_id` is empty where there is none; the sentence holds no row text."""

    number: int
    review_id: str
    sentence: str


def load_in(path: Path) -> str | None:
    """The date of the load that the first review id in the file names."""
    for _, cells in _records(path, [REVIEW_ID, DECISION])[1]:
        for cell in cells:
            if (name := load_of(cell.strip())) is not None:
                return name.load
    return None


def sha256_of(path: Path) -> str:
    _require_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class ReviewFile:
    """A review file, opened for one load."""

    def __init__(self, path: Path, of: LoadName, contract: Contract) -> None:
        """Raises ConfigurationError where it is no such file, or a column is missing."""
        self._path, self._of = path, of
        needed = [REVIEW_ID, DECISION, *fixed_columns(contract)]
        delimiter, self._lines = _records(path, needed)
        # A comma that separates cells is none of a number's.
        self.decimal_comma = delimiter != ","
        _, names = next(self._lines, (1, []))
        self._columns = _columns(path, [name.strip() for name in names], needed)
        self._width = len(names)
        self._fixed = fixed_columns(contract)

    def lines(self) -> Iterator[Line | Rejected]:
        """Every line with a decision, and every one of which it cannot be told; once.

        Raises ConfigurationError where a line is of another load, or the file cannot be read to its end.
        """
        for number, cells in self._lines:
            found = self._line(number, cells)
            if found is not None:
                yield found

    def _line(self, number: int, cells: list[str]) -> Line | Rejected | None:
        if not any(cell.strip() for cell in cells):
            return None
        # Spreadsheets add empty cells at the end, and leave some out.
        if any(cell.strip() for cell in cells[self._width :]):
            return Rejected(
                number,
                "",
                f"it has {len(cells)} cells and the header {self._width}; mend its quotes",
            )
        row = dict(
            zip(
                self._columns, (self._cell(cells, at) for at in self._columns.values()), strict=True
            )
        )
        review_id = row[REVIEW_ID].strip()
        named = load_of(review_id)
        if named is not None and named != self._of:
            raise ConfigurationError(
                f"{self._path}, line {number}: this is of {named} and not of {self._of}; nothing of the file "
                "was taken in. Import each load's file by itself."
            )
        word = row[DECISION].strip().casefold()
        fixed = tuple(row[name] for name in self._fixed)
        filled = [name for name, cell in zip(self._fixed, fixed, strict=True) if cell.strip()]
        if not word and not filled:
            return None
        if named is None:
            unknown = f"{REVIEW_ID} is not one that was exported; copy it from the exported file"
            return Rejected(number, "", unknown)
        if problem := _problem(word, filled):
            return Rejected(number, review_id, problem)
        return Line(
            number,
            review_id,
            word,
            fixed,
            unguarded(row.get(NOTE, "")),
            unguarded(row.get(REVIEWER, "")).strip(),
        )

    @staticmethod
    def _cell(cells: list[str], position: int) -> str:
        return cells[position] if position < len(cells) else ""


def _problem(word: str, filled: list[str]) -> str | None:
    if not word:
        return f"{filled[0]} is filled in, but {DECISION} is blank; write fix, or empty the cell"
    if word not in ("accept", "fix", "drop"):
        return f"{DECISION} is none of accept, fix and drop"
    if word == "accept" and filled:
        return f"accept takes the model's answer as it is, but {filled[0]} is filled in; write fix"
    if word == "fix" and not filled:
        return f"fix needs a value in a {FIXED} column"
    return None


def _columns(path: Path, names: Sequence[str], needed: Sequence[str]) -> dict[str, int]:
    """The position of each column that an import reads."""
    for name in needed:
        if name not in names:
            raise ConfigurationError(
                f"{path} has no column {name}; it has {listed(n for n in names if n) or 'none'}. Export the "
                "queue again, and keep the header as it is."
            )
    wanted = [*needed, NOTE, REVIEWER]
    for name in names:
        if name and names.count(name) > 1 and name in wanted:
            raise ConfigurationError(f"{path} has the column {name} twice; remove one of them.")
        if name.startswith(FIXED) and name not in wanted:
            raise ConfigurationError(
                f"{path} has a column {name}, which the output contract has not; is it another workload's?"
            )
    return {name: names.index(name) for name in wanted if name in names}


def _require_file(path: Path) -> None:
    if path.is_dir():
        raise ConfigurationError(f"{path} is a folder; name the file in it.")
    if not path.is_file():
        raise ConfigurationError(f"{path} does not exist; put the file there or mend the path.")


def _records(path: Path, wanted: Sequence[str]) -> tuple[str, Iterator[tuple[int, list[str]]]]:
    """The separator, and each record with the line it begins on."""
    _require_file(path)
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(_UTF_16) or b"\0" in start:
        raise ConfigurationError(
            f"{path} is UTF-16 text or no CSV at all; save it as CSV in UTF-8."
        )
    # The limit is the process's; the default is shorter than a long source text.
    csv.field_size_limit(_MOST_CHARACTERS)
    headers = {delimiter: _first(path, delimiter) for delimiter in _DELIMITERS}
    # max keeps the first of equals, which is the comma.
    delimiter = max(headers, key=lambda d: len(set(wanted) & {name.strip() for name in headers[d]}))
    return delimiter, _cut(path, delimiter)


def _first(path: Path, delimiter: str) -> list[str]:
    try:
        return next(_cut(path, delimiter), (1, []))[1]
    except ConfigurationError:
        # Quotes that do not fit this separator may fit another.
        return []


def _cut(path: Path, delimiter: str) -> Iterator[tuple[int, list[str]]]:
    begins = 1
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter, strict=True)
        try:
            for record in reader:
                yield begins, record
                begins = reader.line_num + 1
        except UnicodeDecodeError:
            problem = "it is not UTF-8 text; save it as CSV in UTF-8"
        except csv.Error:
            problem = "its quotes or its characters are not those of CSV; save it from the spreadsheet again"
        else:
            return
    raise ConfigurationError(f"{path} cannot be read from line {begins} on: {problem}.")
