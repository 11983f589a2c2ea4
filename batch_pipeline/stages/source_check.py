"""Opens a load's source and golden file, and says in a sentence what is wrong with them.

Writes nothing. Keys may be quoted, for they are what a person looks for, unless the workload is declared
sensitive; no other value of a row is.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass

import duckdb

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.golden_file import open_golden
from batch_pipeline.stages.source_columns import OWN_COLUMNS
from batch_pipeline.workload.data_file import listed, literal, open_data_file
from batch_pipeline.workload.spec import SourceSpec, in_any_case
from batch_pipeline.workload.workload import Workload

# The temporary view of the source's rows. A user's SQL may well have a table called `source`.
SOURCE = "_source_rows"

_PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_KEYS_SHOWN, _KEY_LENGTH = 5, 80


@dataclass(frozen=True)
class OpenedSource:
    """The view `SOURCE`: how sentences call it, its columns with their types, and its key.

    `problem` says why a query over it failed, without quoting any row; `sensitive`, that keys are not to be
    quoted either.
    """

    where: str
    columns: dict[str, str]
    key: str
    problem: Callable[[duckdb.Error], str]
    sensitive: bool = False


def check_source(workload: Workload, load: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Reads the whole source and golden file and refuses what could not be sent or graded.

    Raises ConfigurationError.
    """
    # A database has its values in order; its rows are read when they are to be sent.
    remote = workload.spec.source.url_env is not None
    source = open_source(workload, load, connection, only_keys=remote)
    read = [source.key] if remote else source.columns
    columns = ", ".join(f"count({quoted(name)})" for name in read)
    try:
        # Counting makes the reader look at every field: an unread one is not checked for its encoding.
        connection.execute(f"SELECT {columns} FROM {SOURCE}").fetchall()
        check_rows(connection, source, SOURCE)
    except duckdb.Error as error:
        raise unreadable(source, error) from None


def open_source(
    workload: Workload,
    load: str,
    connection: duckdb.DuckDBPyConnection,
    *,
    only_keys: bool = False,
) -> OpenedSource:
    """Makes the view or table `SOURCE`, and the table `golden_file.GOLDEN_ROWS` where there is a golden set.

    Checks all but the rows of the source. Of a database it reads no column but the key with `only_keys`.

    Raises:
        ConfigurationError: it is not as declared.
        PipelineError: the database went away in the middle.
    """
    spec = workload.spec.source
    if spec.url_env is not None:
        source = _open_postgres(connection, spec, workload, load, only_keys=only_keys)
    elif spec.sql is None:
        source = _open_path(connection, spec, workload, load)
    else:
        source = _open_sql(connection, spec, workload, load)
    _check_columns(workload, source)
    needed = [*workload.prompt.columns, *_checked_columns(workload, source)]
    if workload.spec.golden is not None:
        open_golden(connection, workload, source.columns, needed)
    return source


def check_rows(connection: duckdb.DuckDBPyConnection, source: OpenedSource, relation: str) -> int:
    """Returns how many rows `relation`, which has the source's key column, holds.

    Raises:
        ConfigurationError: it has none, or a key is null or not unique.
        duckdb.Error: it cannot be read.
    """
    key = quoted(source.key)
    total, missing = connection.execute(
        f"SELECT count(*), count(*) FILTER ({key} IS NULL) FROM {relation}"
    ).fetchall()[0]
    if total == 0:
        raise ConfigurationError(f"{source.where} has no rows; a load needs at least one.")
    if missing:
        raise ConfigurationError(
            f"The key column {source.key!r} is null in {missing:,} of {total:,} rows of {source.where}; "
            "give every row a key, or name another column in source.key."
        )
    repeated = f"SELECT CAST({key} AS VARCHAR) AS k, count(*) AS n FROM {relation} GROUP BY ALL HAVING n > 1"
    twice = connection.execute(f"{repeated} ORDER BY n DESC, k LIMIT {_KEYS_SHOWN}").fetchall()
    if twice:
        values = ", ".join(f"{_shown(value)} ({n:,} times)" for value, n in twice)
        if source.sensitive:
            (many,) = connection.execute(f"SELECT count(*) FROM ({repeated})").fetchall()[0]
            values = f"keys that occur more than once, and are not shown since the data is sensitive: {many:,}"
        raise ConfigurationError(
            f"The key column {source.key!r} is not unique in {source.where}: {values}; "
            "give each row a key of its own, or name another column in source.key."
        )
    return int(total)


def unreadable(source: OpenedSource, error: duckdb.Error) -> ConfigurationError:
    return ConfigurationError(f"{source.where} cannot be read: {source.problem(error)}.")


def _open_path(
    connection: duckdb.DuckDBPyConnection, spec: SourceSpec, workload: Workload, load: str
) -> OpenedSource:
    assert spec.path is not None
    file = open_data_file(
        connection,
        SOURCE,
        workload.folder / _at_partition(workload, "source.path", spec.path, load),
        field="source.path",
        kind=spec.format,
        wanted=[spec.key, *workload.prompt.columns],
    )
    return OpenedSource(
        f"the source {file.path}", file.columns, spec.key, file.problem, workload.spec.sensitive
    )


def _open_sql(
    connection: duckdb.DuckDBPyConnection, spec: SourceSpec, workload: Workload, load: str
) -> OpenedSource:
    assert spec.sql is not None
    if spec.database is not None:
        _attach(connection, spec.database, workload, load)
    sql = _at_partition(workload, "source.sql", spec.sql, load)
    try:
        statements = connection.extract_statements(sql)
        if [statement.type for statement in statements] != [duckdb.StatementType.SELECT]:
            raise ConfigurationError("source.sql must be one SELECT statement.")
        connection.execute("SET file_search_path = ?", [str(workload.folder.resolve())])
        connection.execute(f"CREATE OR REPLACE TEMP VIEW {SOURCE} AS {sql}")
        described = connection.execute(f"DESCRIBE {SOURCE}").fetchall()
    except duckdb.Error as error:
        raise ConfigurationError(f"source.sql does not run: {_sql_problem(error)}.") from None
    columns = {row[0]: row[1] for row in described}
    return OpenedSource(
        "the result of source.sql", columns, spec.key, _sql_problem, workload.spec.sensitive
    )


def _open_postgres(
    connection: duckdb.DuckDBPyConnection,
    spec: SourceSpec,
    workload: Workload,
    load: str,
    *,
    only_keys: bool,
) -> OpenedSource:
    from batch_pipeline.postgres.reading import read_into, where

    columns = read_into(connection, SOURCE, spec, load, only=spec.key if only_keys else None)
    return OpenedSource(
        where(spec),
        columns,
        spec.key,
        lambda error: f"DuckDB raised {type(error).__name__}",
        workload.spec.sensitive,
    )


def _attach(
    connection: duckdb.DuckDBPyConnection, database: str, workload: Workload, load: str
) -> None:
    path = (workload.folder / _at_partition(workload, "source.database", database, load)).resolve()
    if not path.is_file():
        raise ConfigurationError(
            f"source.database: {path} does not exist; put the DuckDB file there or mend the path."
        )
    try:
        connection.execute(f"ATTACH {literal(str(path))} AS source (TYPE duckdb, READ_ONLY)")
        connection.execute("USE source")
    except duckdb.Error as error:
        raise ConfigurationError(
            f"source.database: {path} cannot be opened: {_first_line(error)}."
        ) from None


def _at_partition(workload: Workload, field: str, text: str, load: str) -> str:
    filled = workload.at_partition(text, load)
    if unknown := _PLACEHOLDER.search(filled):
        raise ConfigurationError(
            f"{field} names {{{{ {unknown[1]} }}}}; only {{{{ partition }}}}, the load's date, is known there."
        )
    return filled


def _sql_problem(error: duckdb.Error) -> str:
    # What the parser and the binder say is about the query; what comes later may quote rows.
    about_the_query = (
        duckdb.ParserException,
        duckdb.SyntaxException,
        duckdb.BinderException,
        duckdb.CatalogException,
        duckdb.IOException,
        duckdb.NotImplementedException,
        duckdb.PermissionException,
    )
    if isinstance(error, about_the_query):
        return _first_line(error)
    if isinstance(error, duckdb.ConversionException):
        return "a value cannot be converted to the type that the query asks for (use TRY_CAST)"
    return f"DuckDB raised {type(error).__name__}"


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].strip().rstrip(".")


def _check_columns(workload: Workload, source: OpenedSource) -> None:
    columns, key, where = source.columns, source.key, source.where
    if key not in columns:
        raise ConfigurationError(
            f"source.key is {key!r}, but {where} has no such column; it has {listed(columns)}."
        )
    if columns[key].endswith("]") or columns[key].startswith(("STRUCT", "MAP", "UNION", "BLOB")):
        raise ConfigurationError(
            f"The key column {key!r} of {where} is of type {columns[key].partition('(')[0]}; "
            "a key must be text, a number or a date."
        )
    for column in workload.prompt.columns:
        if column not in columns:
            raise ConfigurationError(
                f"{workload.prompt.names(column)} the column {column!r}, which {where} does not have; "
                f"it has {listed(columns)}{workload.prompt.hint(column)}."
            )
    for column in workload.spec.slices:
        if column not in columns:
            raise ConfigurationError(
                f"slices names the column {column!r}, which {where} does not have; it has {listed(columns)}."
            )
    # Parquet has no such integers, and DuckDB would write rounded ones without a word.
    if wide := [name for name, kind in columns.items() if kind in {"HUGEINT", "UHUGEINT"}]:
        raise ConfigurationError(
            f"The column {wide[0]!r} of {where} is of type {columns[wide[0]]}, as sum() of integers makes it; "
            "cast it to BIGINT, DECIMAL or VARCHAR in source.sql."
        )
    if taken := in_any_case(OWN_COLUMNS, columns):
        raise ConfigurationError(
            f"{where} has a column {taken!r}, a name that {workload.name}'s tables need; rename it."
        )


def _checked_columns(workload: Workload, source: OpenedSource) -> list[str]:
    """The columns of the source that the user's own checks look at."""
    checks = workload.user_checks()
    if checks is None:
        return []
    fields = set(workload.contract.names)
    checks.require_columns(fields | set(source.columns))
    return [name for name in checks.columns() if name not in fields]


def _shown(value: str) -> str:
    short = value if len(value) <= _KEY_LENGTH else value[: _KEY_LENGTH - 1] + "…"
    return short if short.isprintable() and short.strip() == short != "" else repr(short)
