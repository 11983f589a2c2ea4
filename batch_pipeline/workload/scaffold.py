"""Writes a first workload from a data file: a declaration, a system prompt and, from labelled rows, a golden set."""

import csv
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb
from jinja2 import TemplateError

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.rows.query import querying, quoted
from batch_pipeline.state_folder import as_the_person_has_it
from batch_pipeline.workload.data_file import DataFile, listed, literal, open_data_file
from batch_pipeline.workload.prompt import Prompt
from batch_pipeline.workload.scaffold_text import declaration_text, system_text
from batch_pipeline.workload.spec import NAME, NAME_RULE

# More are no labels; the API's schema also has to be compiled for them.
MOST_LABELS = 500
LONGEST_LABEL = 200
GOLDEN_ROWS = 100

_DATA = "_data"
_GOLDEN_FILE = "golden.csv"
# First lines of a labels file that name the column rather than a label.
_HEADERS = ("label", "labels")


@dataclass(frozen=True)
class Scaffold:
    """What was written: the files' names, the labels (none: free text is asked for), the golden rows."""

    folder: Path
    files: tuple[str, ...]
    labels: tuple[str, ...]
    golden_rows: int


def scaffold(
    workloads: Path, name: str, *, data: Path, key: str, text: str, labels: str | None
) -> Scaffold:
    """Makes the folder of a workload that is meant to be read over and changed.

    Args:
        workloads: where the workload's folder goes.
        name: the workload's.
        data: a CSV, Parquet or NDJSON file. It is named in the declaration, not copied.
        key: the column that identifies a row.
        text: the column that is asked about.
        labels: a column of `data` with each row's right label, or a file with one label a line, or None.

    Raises:
        ConfigurationError: names the option that is wrong; nothing was written then.
    """
    if not NAME.fullmatch(name):
        raise ConfigurationError(f"{name[:80]!r} is not a workload's name: {NAME_RULE}.")
    folder = workloads / name
    if folder.exists():
        raise ConfigurationError(f"{folder} exists already; remove it, or choose another name.")
    with tempfile.TemporaryDirectory() as scratch, querying(Path(scratch)) as connection:
        wanted = [key, text, *([labels] if labels else [])]
        file = open_data_file(connection, _DATA, data, field="--from", wanted=wanted)
        _require(file, "--key", key)
        _require(file, "--text", text)
        try:
            allowed = _labels(connection, file, labels)
            field = _field_name("label" if labels else "summary", key, text)
            answers = labels if labels in file.columns else None
            if answers is not None:
                _choose_golden(connection, key, text, answers, f"expected_{field}")
        except duckdb.Error as error:
            raise ConfigurationError(
                f"--from: {file.path} cannot be read: {file.problem(error)}."
            ) from None
        files = {
            "defs.yaml": declaration_text(
                name=name,
                source=_path_from(folder, file.path),
                key=key,
                slot=slot(text),
                field=field,
                labels=allowed,
                golden=answers is not None,
            ),
            "system.md": system_text(field, allowed),
        }
        golden_rows = 0
        with as_the_person_has_it():
            folder.mkdir(parents=True)
        with removed_on_failure(folder), as_the_person_has_it():
            for each, content in files.items():
                (folder / each).write_text(content, encoding="utf-8")
            if answers is not None:
                golden_rows = _write_golden(connection, folder / _GOLDEN_FILE)
    written = (*files, *([_GOLDEN_FILE] if golden_rows else []))
    return Scaffold(folder, written, tuple(allowed), golden_rows)


@contextmanager
def removed_on_failure(folder: Path) -> Iterator[None]:
    """Takes a new workload's folder away again when what is done to it fails: half of one stops all others."""
    try:
        yield
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def slot(column: str) -> str:
    """The piece of a Jinja template that stands for a column, whatever its name. One line of print."""
    plain = f"{{{{ {column} }}}}"
    try:
        if Prompt(None, plain, "none").columns == (column,):
            return plain
    except (TemplateError, ConfigurationError):
        pass
    return f"{{{{ row['{''.join(map(_escaped, column))}'] }}}}"


def _escaped(character: str) -> str:
    if character in "\\'":
        return "\\" + character
    return character if character.isprintable() else f"\\U{ord(character):08x}"


def _require(file: DataFile, option: str, column: str) -> None:
    if column not in file.columns:
        raise ConfigurationError(
            f"{option}: {file.path} has no column {column!r}; it has {listed(file.columns)}."
        )


def _field_name(wanted: str, key: str, text: str) -> str:
    """The answer's field: neither it nor the column of its right answers may be a column already."""
    taken = {key.casefold(), text.casefold()}
    names = (wanted, f"{wanted}_text", f"{wanted}_given")
    return next(n for n in names if not taken & {n, f"expected_{n}"})


def _labels(connection: duckdb.DuckDBPyConnection, file: DataFile, labels: str | None) -> list[str]:
    if labels is None:
        return []
    if labels in file.columns:
        where, found = f"the column {labels!r} of {file.path}", _column_labels(connection, labels)
    elif Path(labels).is_file():
        where, found = str(Path(labels).resolve()), _file_labels(Path(labels))
    else:
        raise ConfigurationError(
            f"--labels: {labels!r} is neither a column of {file.path} nor a file; the columns are "
            f"{listed(file.columns)}."
        )
    if not found:
        raise ConfigurationError(f"--labels: {where} holds no label.")
    if len(found) == 1:
        raise ConfigurationError(f"--labels: {where} holds one label only, which leaves no choice.")
    if len(found) > MOST_LABELS:
        raise ConfigurationError(
            f"--labels: {where} holds more than {MOST_LABELS} different labels; leave --labels out to ask "
            "for free text, or name another column."
        )
    for label in found:
        if not label.strip():
            raise ConfigurationError(
                f"--labels: {where} is empty in some rows; give each row its label, or give a file with "
                "one label a line instead."
            )
        if len(label) > LONGEST_LABEL or len(label.splitlines()) > 1:
            raise ConfigurationError(
                f"--labels: {where} holds text rather than labels; a label is one line of at most "
                f"{LONGEST_LABEL} characters."
            )
    return found


def _column_labels(connection: duckdb.DuckDBPyConnection, column: str) -> list[str]:
    found = connection.execute(
        f"SELECT DISTINCT coalesce(CAST({quoted(column)} AS VARCHAR), '') FROM {_DATA} "
        f"LIMIT {MOST_LABELS + 1}"
    ).fetchall()
    return sorted(label for (label,) in found)


def _file_labels(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file) if any(cell.strip() for cell in line)]
    except (UnicodeDecodeError, csv.Error):
        raise ConfigurationError(
            f"--labels: {path} is not UTF-8 text with one label a line."
        ) from None
    if wide := next((line for line in lines if len(line) > 1), None):
        raise ConfigurationError(
            f"--labels: {path} has {len(wide)} fields in a line; write one label a line, in quotes where "
            "it holds a comma."
        )
    found = list(dict.fromkeys(line[0].strip() for line in lines))
    return found[1:] if found and found[0].casefold() in _HEADERS else found


def _choose_golden(
    connection: duckdb.DuckDBPyConnection, key: str, text: str, labels: str, expected: str
) -> None:
    """As many rows of each label as of the others, while they last; which ones, only their keys decide."""
    label, draw = f"CAST({quoted(labels)} AS VARCHAR)", f"md5(CAST({quoted(key)} AS VARCHAR))"
    connection.execute(
        f"""
        CREATE TEMP TABLE _chosen AS
        SELECT key, label, draw FROM (
            SELECT {quoted(key)} AS key, {label} AS label, {draw} AS draw,
                   row_number() OVER (PARTITION BY {label} ORDER BY {draw}) AS turn
            FROM {_DATA} WHERE {quoted(key)} IS NOT NULL)
        ORDER BY turn, label LIMIT {GOLDEN_ROWS}
        """
    )
    columns = ", ".join(f"d.{quoted(name)}" for name in dict.fromkeys((key, text)))
    connection.execute(
        f"CREATE TEMP TABLE _golden AS SELECT {columns}, c.label AS {quoted(expected)} "
        f"FROM {_DATA} AS d JOIN _chosen AS c ON d.{quoted(key)} = c.key ORDER BY c.draw"
    )


def _write_golden(connection: duckdb.DuckDBPyConnection, path: Path) -> int:
    written = connection.execute(f"COPY _golden TO {literal(str(path))} (FORMAT csv, HEADER)")
    return int(written.fetchall()[0][0])


def _path_from(folder: Path, file: Path) -> str:
    """Relative where the two lie in one project; absolute where they share nothing but the root."""
    common = Path(os.path.commonpath([folder.resolve(), file]))
    return str(file) if common == Path(common.anchor) else os.path.relpath(file, folder.resolve())
