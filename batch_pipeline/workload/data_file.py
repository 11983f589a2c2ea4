"""Opens a CSV, Parquet or NDJSON file of a user's as a DuckDB view that says what the file says.

Nothing is guessed from a sample: a guess that is wrong changes values, drops a line or takes a broken file
for one with other columns. What DuckDB reports is put into our own words, for its words quote the file.
"""

import codecs
import csv
import io
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import duckdb
import orjson

from batch_pipeline.errors import ConfigurationError

FORMATS = {".csv": "csv", ".parquet": "parquet", ".ndjson": "ndjson", ".jsonl": "ndjson"}

# The longest line or object. DuckDB keeps a few buffers of it for each thread.
_MOST_BYTES = 16 * 1024 * 1024
_DELIMITERS = ",;\t|"
_HEADER_BYTES = 1024 * 1024
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
# DuckDB makes dates, times and UUIDs of text that looks like them; the prompt is to see the text.
_TEXT_LIKE = re.compile(
    r'"(?:[^"]|"")*"|\b(?:JSON|DATE|TIME|UUID|TIMESTAMP(?:_S|_MS|_NS)?)(?: WITH TIME ZONE)?(?!\w)'
)


@dataclass(frozen=True)
class DataFile:
    """An opened file. `columns` are the view's, name to DuckDB type, in the file's order."""

    path: Path
    kind: str
    columns: dict[str, str]

    def problem(self, error: duckdb.Error) -> str:
        """Why a query over the view failed, for a sentence; holds nothing of the file's content."""
        return _problem(self.path, self.kind, error)


def open_data_file(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    path: Path,
    *,
    field: str,
    kind: str | None = None,
    wanted: Collection[str] = (),
) -> DataFile:
    """Makes the temporary view `view` over a file.

    CSV has a header and RFC 4180's quotes, and every column is text, so that ids such as 00123 keep their
    zeros; an empty field is null. It may be separated by comma, semicolon, tab or bar.

    Args:
        connection: where the view is made.
        view: its name.
        path: the file.
        field: what named the file, for the sentences of errors.
        kind: csv, parquet or ndjson; by default the file's ending says.
        wanted: columns that the file should have; they tell the right separator.

    Raises:
        ConfigurationError: no such file, or not one of its kind as far as opening can tell. What is wrong
            further down shows when the view is read, as a duckdb.Error for `DataFile.problem`.
    """
    path = path.resolve()
    kind = _kind(path, kind, field)
    reader = {"csv": _csv, "parquet": _parquet, "ndjson": _ndjson}[kind]
    try:
        source = reader(connection, path, wanted)
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {view} AS SELECT * FROM {source}")
        described = connection.execute(f"DESCRIBE {view}").fetchall()
    except duckdb.Error as error:
        reason = _problem(path, kind, error)
        raise ConfigurationError(f"{field}: {path} is not readable as {kind}: {reason}.") from None
    except _Unreadable as error:
        raise ConfigurationError(f"{field}: {path} {error}.") from None
    except OSError as error:
        raise ConfigurationError(f"{field}: {path} cannot be read: {error.strerror}.") from None
    return DataFile(path, kind, {row[0]: row[1] for row in described})


def listed(names: Iterable[str], most: int = 40) -> str:
    """Column names for a sentence; odd ones are quoted."""
    shown = [name if name.isprintable() and name.strip() == name else repr(name) for name in names]
    more = len(shown) - most
    return ", ".join(shown[:most]) + (f" and {more} more" if more > 0 else "")


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


class _Unreadable(Exception):  # noqa: N818 - never leaves this module
    """Says what is wrong with a file, to follow its name."""


def _kind(path: Path, kind: str | None, field: str) -> str:
    if path.is_dir():
        raise ConfigurationError(f"{field}: {path} is a folder; name the file in it.")
    if not path.exists():
        raise ConfigurationError(
            f"{field}: {path} does not exist; put the file there or mend the path."
        )
    found = kind or FORMATS.get(path.suffix.lower())
    if found is None:
        raise ConfigurationError(
            f"{field}: {path} has the ending {path.suffix!r}, which says nothing of its format; give it one of "
            f"{', '.join(FORMATS)} (a source may say format: instead)."
        )
    if path.stat().st_size == 0:
        raise ConfigurationError(f"{field}: {path} is empty; it must hold at least one row.")
    return found


def _pattern(path: Path) -> str:
    # DuckDB takes a path for a pattern, and would read other files than the one that was named.
    return literal(re.sub(r"([\[*?])", r"[\1]", str(path)))


def _parquet(_connection: duckdb.DuckDBPyConnection, path: Path, _wanted: Collection[str]) -> str:
    return f"read_parquet({_pattern(path)})"


def _csv(_connection: duckdb.DuckDBPyConnection, path: Path, wanted: Collection[str]) -> str:
    delimiter, names = _header(_beginning(path), wanted)
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
    return (
        f"read_csv({_pattern(path)}, auto_detect = false, header = true, strict_mode = true, "
        f"delim = {literal(delimiter)}, quote = '\"', escape = '\"', columns = {{{columns}}}, "
        f"max_line_size = {_MOST_BYTES}, buffer_size = {2 * _MOST_BYTES})"
    )


def _beginning(path: Path) -> str:
    with path.open("rb") as file:
        start = file.read(_HEADER_BYTES)
    if start.startswith(_UTF_16) or b"\0" in start[:4]:
        raise _Unreadable("is UTF-16 text; save it as UTF-8")
    try:
        # A character may be cut in two at the end of what was read.
        return codecs.getincrementaldecoder("utf-8-sig")().decode(start)
    except UnicodeDecodeError as error:
        line = start[: error.start].count(b"\n") + 1
        raise _Unreadable(f"is not UTF-8 text (line {line}); save it as UTF-8") from None


def _header(text: str, wanted: Collection[str]) -> tuple[str, list[str]]:
    """The separator and the column names: the separator that finds most of `wanted`, then most names."""
    headers = {delimiter: _first_record(text, delimiter) for delimiter in _DELIMITERS}
    # max keeps the first of equals, which is the comma.
    delimiter = max(
        headers, key=lambda each: (len(set(wanted) & set(headers[each])), len(headers[each]))
    )
    header = headers[delimiter]
    if not any(name.strip() for name in header):
        raise _Unreadable("does not begin with a header; its first line must name the columns")
    if broken := next((name for name in header if "\r" in name or "\n" in name), None):
        # DuckDB finds no row at all below a header whose line breaks are not those of the file.
        raise _Unreadable(f"has a column {broken!r}, whose name is two lines; rename it")
    names = [name or f"column{position}" for position, name in enumerate(header)]
    seen: dict[str, str] = {}
    for name in names:
        twin = seen.setdefault(name.casefold(), name)
        if twin is not name:
            same = "twice" if twin == name else f"and {twin!r}, which SQL does not tell apart"
            raise _Unreadable(f"has a column {name!r} {same}; rename one of them")
    return delimiter, names


def _first_record(text: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter), [])
    except csv.Error:
        return []


def _ndjson(connection: duckdb.DuckDBPyConnection, path: Path, _wanted: Collection[str]) -> str:
    if b"\0" in (start := _first_bytes(path)) or start.startswith(_UTF_16):
        raise _Unreadable("is UTF-16 text; save it as UTF-8")
    file = f"{_pattern(path)}, maximum_object_size = {_MOST_BYTES}"
    # A type that fits a sample may not fit the next line, so all of it is looked at, once.
    described = connection.execute(
        f"DESCRIBE SELECT * FROM read_ndjson({file}, sample_size = -1)"
    ).fetchall()
    types = {row[0]: _TEXT_LIKE.sub(_text_type, row[1]) for row in described}
    _refuse_renamed(connection, file, list(types))
    columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
    return f"read_ndjson({file}, columns = {{{columns}}})"


def _first_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _text_type(match: re.Match[str]) -> str:
    return match[0] if match[0].startswith('"') else "VARCHAR"


def _refuse_renamed(
    connection: duckdb.DuckDBPyConnection, file: str, names: Collection[str]
) -> None:
    """DuckDB calls a second key that differs only in case by another name, under which nothing is found."""
    folded = {name.casefold() for name in names}
    for name in names:
        base, _, number = name.rpartition("_")
        if not (number.isdecimal() and base.casefold() in folded):
            continue
        exists = connection.execute(
            f"SELECT 1 FROM read_ndjson_objects({file}) WHERE list_contains(json_keys(json), ?) LIMIT 1",
            [name],
        ).fetchone()
        if exists is None:
            raise _Unreadable(
                f"has two keys {base!r} that differ only in case, which SQL does not tell apart; "
                "rename one of them"
            )


def _problem(path: Path, kind: str, error: duckdb.Error) -> str:
    if kind == "csv":
        return _csv_problem(str(error))
    if kind == "ndjson":
        return _ndjson_problem(path, str(error))
    return f"it is damaged, or not {kind} at all ({type(error).__name__})"


def _csv_problem(text: str) -> str:
    found = re.match(r".*?CSV Error on Line: (\d+)", text)
    line = f"line {found[1]}" if found else "a line"
    if counts := re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", text):
        many = f"{counts[2]} field{'' if counts[2] == '1' else 's'}"
        return f"{line} has {many} and the header {counts[1]}"
    if "Invalid unicode" in text:
        return f"{line} is not UTF-8 text; save the file as UTF-8"
    if "Maximum line size" in text:
        return f"{line} is longer than {_MOST_BYTES:,} bytes"
    if found and "unterminated quote" in text:
        return f"{line} has a quote that does not end where its field ends"
    return (
        "it is not CSV as RFC 4180 has it: a quote that never ends, or line ends of several kinds"
    )


def _ndjson_problem(path: Path, text: str) -> str:
    if "maximum_object_size" in text:
        return f"an object is longer than {_MOST_BYTES:,} bytes"
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                if line.strip():
                    orjson.loads(line)
            except orjson.JSONDecodeError:
                return f"line {number} is not JSON in UTF-8; each line must be one object"
    found = re.search(r"in line (\d+)", text)
    twice = " (an object has a key twice)" if "duplicate key" in text else ""
    return f"{f'line {found[1]}' if found else 'a line'} does not fit the others{twice}"
