"""Adds rows that people answered to the workload's golden file."""

import csv
import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Load
from batch_pipeline.rows import replacing
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.decisions import human_answers
from batch_pipeline.stages.source_columns import EXPECTED, OWN_COLUMNS, ROW
from batch_pipeline.workload.data_file import DataFile, listed, literal, open_data_file
from batch_pipeline.workload.workload import Workload

_VIEW = "golden_file"
_DELIMITERS = ",;\t|"


@dataclass(frozen=True)
class GoldenAdded:
    """Rows added to `path`; `known` were there already; `unusable` have an answer that the file cannot hold: an empty
    text, which CSV does not tell from none."""

    path: Path
    added: int
    known: int
    unusable: int


def golden_csv(workload: Workload) -> Path:
    """The golden file. Raises ConfigurationError where there is none that lines can be added to."""
    spec = workload.spec.golden
    if spec is None:
        raise ConfigurationError(
            f"{workload.name} declares no golden set, so nothing can be added to it; declare golden first."
        )
    path = (workload.folder / spec.path).resolve()
    if path.suffix.lower() != ".csv":
        raise ConfigurationError(
            f"The golden file {path} is no CSV, and only to one can rows be added; import without "
            "--add-to-golden."
        )
    return path


def open_golden_csv(connection: duckdb.DuckDBPyConnection, workload: Workload) -> DataFile:
    """Makes the table `golden_lines` of the golden file.

    Raises ConfigurationError where it cannot be read, or lacks a column that a line of it needs.
    """
    path, spec = golden_csv(workload), workload.spec.golden
    assert spec is not None
    wanted = [*workload.prompt.columns, *(EXPECTED + name for name in spec.match)]
    file = open_data_file(connection, _VIEW, path, field="golden.path", wanted=wanted)
    for name in wanted:
        if name not in file.columns:
            raise ConfigurationError(
                f"The golden file {path} has no column {name}; it has {listed(file.columns)}."
            )
    try:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE golden_lines AS FROM {_VIEW}")
    except duckdb.Error as error:
        raise ConfigurationError(
            f"The golden file {path} cannot be read: {file.problem(error)}."
        ) from None
    return file


def add_to_golden(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load
) -> GoldenAdded:
    """Appends the rows of the table `incoming` that people answered, as they are decided now.

    A row is known where the file has its key, or, in a file without keys, the same text in all columns that the
    prompt looks at. The file is replaced as a whole.

    Raises ConfigurationError as `open_golden_csv`.
    """
    workload, folder = context.workload, context.folder(record)
    spec = workload.spec.golden
    assert spec is not None
    file = open_golden_csv(connection, workload)
    path = file.path
    answers = [EXPECTED + name for name in workload.contract.names]
    key = workload.spec.source.key
    described = connection.execute("DESCRIBE FROM read_parquet(?)", [str(folder.source)]).fetchall()
    own = [name for name, *_ in described if name not in OWN_COLUMNS]
    cells = ", ".join(_cell(name, answers, own) + f" AS {quoted(name)}" for name in file.columns)
    same = (
        [key] if key in file.columns else [c for c in workload.prompt.columns if c in file.columns]
    )
    equal = " AND ".join(
        f"nullif(g.{quoted(c)}, '') IS NOT DISTINCT FROM nullif(candidates.{quoted(c)}, '')"
        for c in same
    )
    nullable = {field.name for field in workload.contract.fields if field.nullable}
    # CSV does not tell an empty text from none.
    empty = " OR ".join(
        f"coalesce({column} = '', {name not in nullable})"
        for name in spec.match
        for column in [quoted(EXPECTED + name)]
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE candidates AS
        SELECT {cells} FROM incoming AS i JOIN {human_answers(folder, workload.contract)} AS d ON d.row = i.row
        JOIN read_parquet({literal(str(folder.source))}) AS s ON s.{ROW} = i.row ORDER BY i.row
        """
    )
    found = connection.execute(
        f"SELECT candidates.*, EXISTS (FROM golden_lines AS g WHERE {equal}) AS known, "
        f"({empty}) AS unusable FROM candidates"
    ).fetchall()
    new = [row[:-2] for row in found if not row[-1] and not row[-2]]
    if new:
        _append(path, list(file.columns), new)
    return GoldenAdded(
        path, len(new), sum(row[-2] for row in found), sum(row[-1] and not row[-2] for row in found)
    )


def _cell(name: str, answers: Sequence[str], own: Sequence[str]) -> str:
    """SQL for a column of the golden file, as text."""
    if name in answers:
        return f"CAST(d.fields.{quoted(name.removeprefix(EXPECTED))} AS VARCHAR)"
    return f"CAST(s.{quoted(name)} AS VARCHAR)" if name in own else "CAST(NULL AS VARCHAR)"


def _append(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
    """Adds lines to a CSV file in its own hand: separator and line ends."""
    with path.open("rb") as old:
        start = old.readline()
    ending = "\r\n" if start.endswith(b"\r\n") else "\n"
    delimiter = _delimiter(start.decode("utf-8-sig", "replace"), columns)
    text = io.StringIO()
    for row in rows:
        line = io.StringIO()
        # With this line end the writer puts quotes around either half of it.
        csv.writer(line, delimiter=delimiter, lineterminator="\r\n").writerow(row)
        text.write(line.getvalue().removesuffix("\r\n") + ending)
    with replacing(path) as temporary:
        with path.open("rb") as old, temporary.open("wb") as new:
            shutil.copyfileobj(old, new)
            old.seek(-1, 2)
            if old.read(1) != b"\n":
                new.write(ending.encode())
            new.write(text.getvalue().encode())
        shutil.copymode(path, temporary)


def _delimiter(header: str, columns: Sequence[str]) -> str:
    found = {d: next(csv.reader([header.rstrip("\r\n")], delimiter=d), []) for d in _DELIMITERS}
    return max(found, key=lambda d: len(set(columns) & set(found[d])))
