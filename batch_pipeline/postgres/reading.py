"""Reads a table or query of a Postgres into a DuckDB table, streamed, from one snapshot."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import duckdb

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.obstacles import is_no_room
from batch_pipeline.postgres.session import ConnectionLostError, PostgresError, Session, session
from batch_pipeline.rows.query import quoted
from batch_pipeline.workload.postgres_names import table_parts
from batch_pipeline.workload.spec import SourceSpec

if TYPE_CHECKING:
    import pyarrow as pa

_PARTITION = re.compile(r"'\{\{\s*partition\s*\}\}'|\{\{\s*partition\s*\}\}")
_PLACEHOLDER = re.compile(r"\{\{\s*(.*?)\s*\}\}")
_NO_TABLE, _NO_SCHEMA, _NO_COLUMN = "42P01", "3F000", "42703"
# What Arrow carries as it is, and what it is called in DuckDB.
_NATIVE = {
    "bool": "BOOLEAN",
    "int2": "SMALLINT",
    "int4": "INTEGER",
    "int8": "BIGINT",
    "float4": "FLOAT",
    "float8": "DOUBLE",
    "text": "VARCHAR",
    "varchar": "VARCHAR",
    "bytea": "BLOB",
}
# Carried as text: Arrow would overflow at `infinity`, which a date may be.
_BY_TEXT = {
    "date": "DATE",
    "time": "TIME",
    "timestamp": "TIMESTAMP",
    "timestamptz": "TIMESTAMP WITH TIME ZONE",
    "uuid": "UUID",
}
# Carried as JSON: the driver would make one list of an array of several dimensions.
_ARRAYS = {
    "_bool": "BOOLEAN[]",
    "_int2": "BIGINT[]",
    "_int4": "BIGINT[]",
    "_int8": "BIGINT[]",
    "_float4": "DOUBLE[]",
    "_float8": "DOUBLE[]",
    "_text": "VARCHAR[]",
    "_varchar": "VARCHAR[]",
    "_bpchar": "VARCHAR[]",
    "_uuid": "VARCHAR[]",
}
_MOST_DIGITS = 38


@dataclass(frozen=True)
class _Column:
    """How a column is asked for, and how it becomes a value of DuckDB's type `kind`; None as it comes."""

    name: str
    asked: str
    kind: str
    converted: str | None


def read_into(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    spec: SourceSpec,
    load: str,
    *,
    only: str | None = None,
) -> dict[str, str]:
    """Makes the temporary table `table` of what the source's `table` or `query` holds.

    A number of up to 38 digits becomes a DECIMAL; a timestamp with time zone stays one; arrays become lists; JSON and
    whatever DuckDB has no type for become text, as Postgres writes it.

    Args:
        connection: where the table is made; it spills to the disk as any.
        table: its name.
        spec: a source with `url_env`.
        load: the load's date, for `{{ partition }}`. It is checked to be one.
        only: the one column to read, for a look at it; where there is no such column, no row is read.

    Returns:
        All columns of the source, name to DuckDB type.

    Raises:
        ConfigurationError: no such table or column, a query that does not run, a value that cannot be taken over, or a
            server that cannot be reached.
        ConnectionLostError: the server went away in the middle.
    """
    assert spec.url_env is not None
    origin = _origin(spec, load)
    field = "source.query" if spec.query is not None else "source.table"
    with session(spec.url_env, field="source.url_env", read_only=True) as server:
        try:
            columns = [_column(found) for found in server.described(f"SELECT * FROM {origin}")]
        except PostgresError as error:
            raise _undescribed(spec, field, server, error) from None
        _refuse_twins(columns, where(spec))
        read = [c for c in columns if c.name == only] if only is not None else columns
        if read:
            _stream(connection, table, server, f"SELECT {_asked(read)} FROM {origin}", read, spec)
        else:
            # Whoever looks for it says that it is not there.
            connection.execute(f"CREATE OR REPLACE TEMP TABLE {table} (nothing INTEGER)")
    return {column.name: column.kind for column in columns}


def where(spec: SourceSpec) -> str:
    """How sentences call the source."""
    what = f"the table {spec.table}" if spec.table is not None else "the result of source.query"
    return f"{what} ({spec.url_env})"


def _origin(spec: SourceSpec, load: str) -> str:
    """What stands after FROM. The date is a checked one, and a constant: a table's partitions are chosen by it."""
    if spec.table is not None:
        return ".".join(quoted(part) for part in table_parts(spec.table))
    assert spec.query is not None
    query = _PARTITION.sub(f"DATE '{load}'", spec.query)
    if unknown := _PLACEHOLDER.search(query):
        raise ConfigurationError(
            f"source.query names {{{{ {unknown[1]} }}}}; only {{{{ partition }}}}, the load's date, is known there."
        )
    # A comment at its end must not take the bracket with it.
    return f"(\n{query.strip().removesuffix(';')}\n) AS _query"


def _column(found: pa.Field) -> _Column:
    metadata = {key.decode(): value.decode() for key, value in (found.metadata or {}).items()}
    kind = metadata.get("POSTGRESQL:type", "")
    name = quoted(found.name)
    if kind in _NATIVE:
        return _Column(found.name, name, _NATIVE[kind], None)
    if kind in _BY_TEXT:
        return _Column(
            found.name, f"{name}::text", _BY_TEXT[kind], f"CAST({name} AS {_BY_TEXT[kind]})"
        )
    if kind in _ARRAYS:
        converted = f"CAST(CAST({name} AS JSON) AS {_ARRAYS[kind]})"
        return _Column(found.name, f"array_to_json({name})::text", _ARRAYS[kind], converted)
    if kind == "numeric" and (decimal := _decimal(metadata.get("POSTGRESQL:typmod", "-1"))):
        return _Column(found.name, f"{name}::text", decimal, f"CAST({name} AS {decimal})")
    return _Column(found.name, f"{name}::text", "VARCHAR", None)


def _decimal(typmod: str) -> str | None:
    """DuckDB's type of `numeric(precision, scale)`; None where it has none that holds all of it."""
    number = int(typmod) - 4
    precision, scale = number >> 16 & 0xFFFF, number & 0x7FF
    if number < 0 or precision > _MOST_DIGITS or scale > precision:
        return None
    return f"DECIMAL({precision},{scale})"


def _asked(columns: Sequence[_Column]) -> str:
    return ", ".join(f"{column.asked} AS {quoted(column.name)}" for column in columns)


def _stream(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    server: Session,
    query: str,
    columns: Sequence[_Column],
    spec: SourceSpec,
) -> None:
    values = ", ".join(
        f"{c.converted} AS {quoted(c.name)}" if c.converted else quoted(c.name) for c in columns
    )
    try:
        with server.streamed(query) as batches:
            heard = _Heard(batches)
            connection.register("_arriving", heard.reader())
            try:
                connection.execute(
                    f"CREATE OR REPLACE TEMP TABLE {table} AS SELECT {values} FROM _arriving"
                )
            except duckdb.Error as error:
                if heard.error is not None:
                    raise server.problem_of(heard.error) from None
                if is_no_room(error):
                    raise
                raise _unconverted(error, columns, spec) from None
            finally:
                connection.unregister("_arriving")
    except ConnectionLostError:
        raise PipelineError(
            f"The connection to {server.where} broke while {where(spec)} was read, and nothing of it was kept; look at "
            "the server, then call again."
        ) from None
    except PostgresError as error:
        raise ConfigurationError(f"{where(spec)} cannot be read: {error}") from None


class _Heard:
    """A stream that remembers why it broke: DuckDB reports what a reader raises as an error of its own."""

    def __init__(self, batches: pa.RecordBatchReader) -> None:
        self._batches = batches
        self.error: BaseException | None = None

    def reader(self) -> pa.RecordBatchReader:
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self._batches.schema, self._each())

    def _each(self) -> Any:
        try:
            yield from self._batches
        except Exception as error:
            self.error = error
            raise


def _undescribed(
    spec: SourceSpec, field: str, server: Session, error: PostgresError
) -> ConfigurationError:
    if spec.table is not None and error.sqlstate in (_NO_TABLE, _NO_SCHEMA):
        schema, name = table_parts(spec.table)
        return ConfigurationError(
            f"source.table: {server.where} has no table or view {name!r} in the schema {schema!r} that this account "
            "may see; capitals count, and a name without a schema is one of `public`."
        )
    return ConfigurationError(f"{field} does not run: {error}")


def _refuse_twins(columns: Sequence[_Column], place: str) -> None:
    seen: dict[str, str] = {}
    for column in columns:
        twin = seen.get(column.name.casefold())
        if twin is not None:
            same = (
                "twice" if twin == column.name else f"and {twin!r}, which SQL does not tell apart"
            )
            raise ConfigurationError(
                f"{place} has a column {column.name!r} {same}; rename one of them in a query."
            )
        seen[column.name.casefold()] = column.name


def _unconverted(
    error: duckdb.Error, columns: Sequence[_Column], spec: SourceSpec
) -> ConfigurationError:
    """Says no value; which column it is, DuckDB does not say either."""
    if isinstance(error, duckdb.ConversionException):
        asked = [f"{c.name} ({c.kind})" for c in columns if c.converted]
        return ConfigurationError(
            f"A value of {where(spec)} fits none of our types: one of {', '.join(asked)} holds, for example, NaN or a "
            "date before Christ; cast that column to text in a query."
        )
    if "invalid unicode" in str(error).lower() or "utf" in str(error).lower():
        return ConfigurationError(
            f"A text of {where(spec)} is not UTF-8, as in a database of the encoding SQL_ASCII; convert it in a query."
        )
    return ConfigurationError(
        f"{where(spec)} cannot be taken over: DuckDB raised {type(error).__name__}."
    )
