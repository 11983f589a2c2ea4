"""source_rows: reads the load's rows once, weaves the golden ones in, and keeps the result for good.

A load that was read stays as it was read: later stages and re-runs see the same rows, whatever has become
of the file. Until something was sent, reading again is harmless and picks up a mended source.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Load
from batch_pipeline.rows import LoadFolder, replacing
from batch_pipeline.rows.query import querying, quoted
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.workload.spec import SourceSpec
from batch_pipeline.workload.workload import Workload

# Columns of source.parquet that are ours; the others are the source's own.
ROW, GOLDEN, KEY = "_row", "_golden", "_key"
OWN_COLUMNS = (ROW, GOLDEN, KEY)
EXPECTED = "expected_"

_FORMATS = {".csv": "csv", ".parquet": "parquet", ".ndjson": "ndjson", ".jsonl": "ndjson"}


@dataclass(frozen=True)
class SourceSummary:
    """What source_rows shows: rows to answer for, golden rows woven in, and whether it was read now."""

    source_rows: int
    golden_rows: int
    generation: int
    read_now: bool
    columns: list[tuple[str, str]]


def read_source(
    context: LoadContext, *, resend: bool = False, requested_by: str | None = None
) -> SourceSummary:
    """Reads the source into source.parquet and records the load.

    Args:
        context: the load.
        resend: start a new generation: the source is read anew and every row is sent again.
        requested_by: the run that asks; the same run asking twice starts one generation only.

    Raises:
        ConfigurationError: the source, its key or the golden file is not as declared.
    """
    ledger = context.ledger
    with ledger.hold(context.workload.name, context.load):
        record = ledger.load(context.workload.name, context.load)
        again = resend and record is not None and record.requested_by != requested_by
        if record is not None and not again and (ledger.chunks(record) or record.promoted_at):
            return _summary(context, record, read_now=False)
        generation = 1 if record is None else record.generation + (1 if again else 0)
        folder = LoadFolder.of(
            context.settings.state, context.workload.name, context.load, generation
        )
        with querying(context.scratch) as connection:
            check_source(context.workload, context.load, connection)
            source_rows, golden_rows = _write(context, connection, folder)
        ledger.record_load(
            context.workload.name,
            context.load,
            generation=generation,
            fingerprint=context.workload.fingerprint(),
            source_rows=source_rows,
            golden_rows=golden_rows,
            requested_by=requested_by if again else None,
        )
        return _summary(context, context.record(), read_now=True)


def check_source(workload: Workload, load: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Opens the source and the golden file as the views `source` and `golden`, and checks them.

    Writes nothing. Raises ConfigurationError.
    """
    spec = workload.spec
    where = _open(connection, "source", spec.source, workload, load)
    columns = _columns(connection, "source")
    _require_columns(workload, where, columns)
    _check_keys(connection, where, spec.source.key)
    checks = workload.user_checks()
    if checks is not None:
        allowed = {field.name for field in workload.contract.fields} | set(columns)
        if unknown := sorted(set(checks.columns()) - allowed):
            raise ConfigurationError(
                f"checks {spec.checks} looks at the column {unknown[0]!r}, which is neither a field of "
                f"output nor a column of the source; it may use {', '.join(sorted(allowed))}."
            )
    if spec.golden is not None:
        _open_golden(connection, workload, columns)


def _open(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    spec: SourceSpec,
    workload: Workload,
    load: str,
) -> str:
    """Makes the view and returns how to call it in a sentence."""
    if spec.sql is not None:
        if spec.database is not None:
            database = workload.folder / workload.at_partition(spec.database, load)
            try:
                connection.execute(
                    f"ATTACH '{str(database).replace(chr(39), chr(39) * 2)}' AS source_database (READ_ONLY)"
                )
                connection.execute("USE source_database")
            except duckdb.Error as error:
                raise ConfigurationError(
                    f"source.database {database} cannot be opened: {_first_line(error)}."
                ) from None
        connection.execute("SET file_search_path = ?", [str(workload.folder)])
        sql = workload.at_partition(spec.sql, load).strip().rstrip(";")
        try:
            connection.execute(f"CREATE TEMP VIEW {view} AS SELECT * FROM ({sql})")
        except duckdb.Error as error:
            raise ConfigurationError(f"source.sql does not run: {_first_line(error)}.") from None
        return "the result of source.sql"
    assert spec.path is not None
    path = workload.folder / workload.at_partition(spec.path, load)
    _open_file(connection, view, path, spec.format, "source.path")
    return f"the source {path.resolve()}"


def _open_file(
    connection: duckdb.DuckDBPyConnection, view: str, path: Path, kind: str | None, field: str
) -> None:
    if not path.is_file():
        raise ConfigurationError(
            f"{field}: {path.resolve()} does not exist; put the file there or mend the path."
        )
    kind = kind or _FORMATS.get(path.suffix.lower())
    if kind is None:
        raise ConfigurationError(
            f"{field}: the ending {path.suffix!r} of {path.name} says nothing of its format; "
            "add format: csv, parquet or ndjson."
        )
    if path.stat().st_size == 0:
        raise ConfigurationError(
            f"{field}: {path.resolve()} is empty; a load needs at least one row."
        )
    literal = "'" + str(path.resolve()).replace("'", "''") + "'"
    # Ids such as 00123 must keep their zeros, so CSV is read as text throughout.
    reader = {
        "csv": f"read_csv({literal}, all_varchar = true, header = true, strict_mode = true, "
        "sample_size = -1, max_line_size = 16777216, buffer_size = 67108864)",
        "parquet": f"read_parquet({literal})",
        "ndjson": f"read_ndjson({literal}, maximum_object_size = 67108864, sample_size = -1)",
    }[kind]
    try:
        connection.execute(f"CREATE TEMP VIEW {view} AS SELECT * FROM {reader}")
        connection.execute(f"SELECT count(*) FROM {view}")
    except duckdb.Error as error:
        raise ConfigurationError(
            f"{field}: {path.resolve()} is not readable as {kind}: {_first_line(error)}."
        ) from None


def _require_columns(workload: Workload, where: str, columns: dict[str, str]) -> None:
    key = workload.spec.source.key
    known = ", ".join(columns)
    if key not in columns:
        raise ConfigurationError(
            f"source.key is {key!r}, but {where} has no such column; it has {known}."
        )
    for column in workload.prompt.columns:
        if column not in columns:
            raise ConfigurationError(
                f"prompt.user names {{{{ {column} }}}}, but {where} has no such column; it has {known}."
            )
    if taken := sorted(set(OWN_COLUMNS) & set(columns)):
        raise ConfigurationError(
            f"{where} has a column {taken[0]!r}, a name that {workload.name}'s tables need; rename it."
        )
    fields = {field.name for field in workload.contract.fields}
    if key in fields:
        raise ConfigurationError(
            f"output has a field {key!r}, which is the source's key too; rename the field."
        )


def _check_keys(connection: duckdb.DuckDBPyConnection, where: str, key: str) -> None:
    column = quoted(key)
    try:
        total, missing = connection.execute(
            f"SELECT count(*), count(*) FILTER ({column} IS NULL) FROM source"
        ).fetchall()[0]
        if total == 0:
            raise ConfigurationError(f"{where} has no rows; a load needs at least one.")
        if missing:
            raise ConfigurationError(
                f"The key column {key!r} is null in {missing:,} of {total:,} rows of {where}; "
                "every row needs a key."
            )
        twice = connection.execute(
            f"SELECT CAST({column} AS VARCHAR), count(*) AS n FROM source GROUP BY ALL HAVING n > 1 "
            "ORDER BY n DESC, 1 LIMIT 5"
        ).fetchall()
    except duckdb.Error as error:
        raise ConfigurationError(f"{where} cannot be read: {_first_line(error)}.") from None
    if twice:
        values = ", ".join(f"{value} ({n} times)" for value, n in twice)
        raise ConfigurationError(
            f"The key column {key!r} is not unique in {where}: {values}; each row needs a key of its own."
        )


def _open_golden(
    connection: duckdb.DuckDBPyConnection, workload: Workload, source: dict[str, str]
) -> None:
    spec = workload.spec
    assert spec.golden is not None
    path = workload.folder / spec.golden.path
    _open_file(connection, "golden", path, None, "golden.path")
    columns = _columns(connection, "golden")
    here = f"the golden file {path.resolve()}"
    for name in spec.golden.match:
        if EXPECTED + name not in columns:
            raise ConfigurationError(
                f"golden.match names {name!r}, but {here} has no column {EXPECTED}{name}; "
                f"it has {', '.join(columns)}."
            )
    for column in workload.prompt.columns:
        if column.startswith(EXPECTED) and column not in source:
            raise ConfigurationError(
                f"prompt.user names {column}, which would send the answer along."
            )
        if column not in columns:
            raise ConfigurationError(
                f"prompt.user names {{{{ {column} }}}}, but {here} has no such column."
            )
    total = connection.execute("SELECT count(*) FROM golden").fetchall()[0][0]
    if total == 0:
        raise ConfigurationError(f"{here} has no rows.")
    for field in workload.contract.fields:
        column = EXPECTED + field.name
        if column not in columns or not field.enum:
            continue
        placeholders = ", ".join("?" for _ in field.enum)
        wrong = connection.execute(
            f"SELECT DISTINCT CAST({quoted(column)} AS VARCHAR) FROM golden WHERE "
            f"coalesce(CAST({quoted(column)} AS VARCHAR), '') NOT IN ({placeholders}) ORDER BY 1 LIMIT 5",
            [str(value) for value in field.enum],
        ).fetchall()
        if wrong:
            raise ConfigurationError(
                f"{column} of {here} holds {', '.join(repr(value) for (value,) in wrong)}, "
                f"which output.{field.name} does not allow."
            )


def _write(
    context: LoadContext, connection: duckdb.DuckDBPyConnection, folder: LoadFolder
) -> tuple[int, int]:
    """Writes golden.parquet and source.parquet; the second makes the pair complete."""
    spec = context.workload.spec
    key = quoted(spec.source.key)
    columns = _columns(connection, "source")
    rows = connection.execute("SELECT count(*) FROM source").fetchall()[0][0]
    golden_rows = 0
    source = f"""
        SELECT CAST(row_number() OVER () - 1 AS DOUBLE) AS place, false AS {GOLDEN},
               CAST({key} AS VARCHAR) AS {KEY}, * FROM source
    """
    if spec.golden is not None:
        golden = _columns(connection, "golden")
        golden_rows = connection.execute("SELECT count(*) FROM golden").fetchall()[0][0]
        own = ", ".join(
            f"CAST({quoted(name)} AS {kind}) AS {quoted(name)}"
            if name in golden
            else f"CAST(NULL AS {kind}) AS {quoted(name)}"
            for name, kind in columns.items()
        )
        golden_key = f"CAST({key} AS VARCHAR)" if spec.source.key in golden else "'golden-' || i"
        # One in each equal stretch of the source, at a place that only the date decides: every batch
        # carries its share, and no pattern gives them away.
        connection.execute(
            f"""
            CREATE TEMP TABLE golden_rows AS
            SELECT i + (hash(? || i) % 1000000) / 1000000.0 AS offset_in, true AS {GOLDEN},
                   {golden_key} AS {KEY}, * EXCLUDE (i) FROM (
                SELECT row_number() OVER () - 1 AS i, * FROM golden)
            """,
            [context.load],
        )
        expected = [name for name in golden if name.startswith(EXPECTED)]
        connection.execute(
            f"""
            CREATE TEMP TABLE woven AS
            SELECT row_number() OVER (ORDER BY place) - 1 AS {ROW}, * EXCLUDE (place) FROM (
                {source} UNION ALL BY NAME
                SELECT offset_in * {rows} / {golden_rows} - 0.5 AS place, {GOLDEN}, {KEY}, {own}
                FROM golden_rows)
            """
        )
        named = ", ".join(quoted(name) for name in expected)
        with replacing(folder.golden) as path:
            connection.execute(
                f"COPY (SELECT w.{ROW}, {named} FROM (SELECT {ROW}, row_number() OVER (ORDER BY {ROW}) AS n "
                f"FROM woven WHERE {GOLDEN}) w JOIN (SELECT {named}, row_number() OVER (ORDER BY offset_in)"
                f" AS n FROM golden_rows) g USING (n) ORDER BY 1) TO '{_literal(path)}' (FORMAT parquet)"
            )
        select = f"SELECT * FROM woven ORDER BY {ROW}"
    else:
        select = f"SELECT CAST(place AS BIGINT) AS {ROW}, * EXCLUDE (place) FROM ({source})"
    with replacing(folder.source) as path:
        connection.execute(
            f"COPY ({select}) TO '{_literal(path)}' (FORMAT parquet, COMPRESSION zstd, "
            "ROW_GROUP_SIZE 50000)"
        )
    return rows, golden_rows


def _summary(context: LoadContext, record: Load, *, read_now: bool) -> SourceSummary:
    with querying(context.scratch) as connection:
        described = connection.execute(
            "DESCRIBE SELECT * FROM read_parquet(?)", [str(context.folder(record).source)]
        ).fetchall()
    return SourceSummary(
        source_rows=record.source_rows,
        golden_rows=record.golden_rows,
        generation=record.generation,
        read_now=read_now,
        columns=[(row[0], row[1]) for row in described],
    )


def _columns(connection: duckdb.DuckDBPyConnection, view: str) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(f"DESCRIBE {view}").fetchall()}


def _literal(path: Path) -> str:
    return str(path).replace("'", "''")


def _first_line(error: Exception) -> str:
    # Only the first line: the rest may quote the file's content.
    return str(error).splitlines()[0].rstrip(".")
