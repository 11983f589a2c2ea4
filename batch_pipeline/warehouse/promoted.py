"""The system of record: one table per workload, one row per key, written in one transaction per load.

A load's rows are exactly its validated rows: promoting it again changes nothing, promoting a corrected load
replaces what it had promoted. A key that several loads answer belongs to the newest of them.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from batch_pipeline.errors import PipelineError
from batch_pipeline.rows.query import limit_memory, memory_for, quoted, row_bytes
from batch_pipeline.warehouse.connection import warehouse
from batch_pipeline.workload.data_file import literal


@dataclass(frozen=True)
class Promotion:
    """`rows` of the load; of them inserted or changed now; and older ones of the load removed."""

    table: str
    rows: int
    written: int
    removed: int
    superseded: int


def promote_rows(
    state: Path,
    *,
    workload: str,
    load: str,
    key: str,
    rows: Path,
    fingerprint: str,
    override_reason: str | None,
) -> Promotion:
    """Makes `promoted.<workload>` agree with `rows`, a Parquet file of key, fields and provenance.

    Raises PipelineError where the contract's types no longer fit the table.
    """
    table = f"promoted.{quoted(workload)}"
    with warehouse(state) as connection:
        limit_memory(connection, memory_for(row_bytes(rows), 0))
        connection.execute("BEGIN")
        connection.execute("CREATE SCHEMA IF NOT EXISTS promoted")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS promoted._promotions (workload VARCHAR, load VARCHAR, "
            "fingerprint VARCHAR, rows BIGINT, override_reason VARCHAR, promoted_at TIMESTAMP)"
        )
        # Read as often as it is asked for, and never held: it may be millions of rows.
        connection.execute(
            f"CREATE TEMP VIEW incoming AS SELECT * FROM read_parquet({literal(str(rows))})"
        )
        columns, former = _fit_table(connection, workload, table)
        k = quoted(key)
        removed = _count(
            connection.execute(
                f"DELETE FROM {table} WHERE _load = ? AND {k} NOT IN (SELECT {k} FROM incoming)",
                [load],
            )
        )
        # Only what differs is touched, so that promoting again writes nothing. A field that the contract
        # no longer has becomes null: an older load's value would pass for this load's.
        new = {quoted(c): f"i.{quoted(c)}" for c in columns if c != key}
        new |= {quoted(c): "NULL" for c in former}
        changed = " OR ".join(f"t.{name} IS DISTINCT FROM {value}" for name, value in new.items())
        sets = ", ".join(f"{name} = {value}" for name, value in new.items())
        names = ", ".join(quoted(c) for c in columns)
        values = ", ".join(f"i.{quoted(c)}" for c in columns)
        written = _count(
            connection.execute(
                f"MERGE INTO {table} AS t USING incoming AS i ON t.{k} = i.{k} "
                f"WHEN MATCHED AND t._load <= i._load AND ({changed}) THEN UPDATE SET {sets} "
                f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
            )
        )
        total, superseded = connection.execute(
            f"SELECT (SELECT count(*) FROM incoming), count(*) FROM {table} AS t JOIN incoming AS i "
            f"ON t.{k} = i.{k} WHERE t._load > i._load"
        ).fetchall()[0]
        connection.execute(
            "INSERT INTO promoted._promotions SELECT ?, ?, ?, ?, ?, ? WHERE NOT EXISTS ("
            "FROM promoted._promotions WHERE workload = ? AND load = ? AND fingerprint = ?)",
            [
                workload,
                load,
                fingerprint,
                total,
                override_reason,
                datetime.now(UTC).replace(tzinfo=None),
                workload,
                load,
                fingerprint,
            ],
        )
        connection.execute("COMMIT")
    return Promotion(f"promoted.{workload}", total, written, removed, superseded)


def _fit_table(
    connection: duckdb.DuckDBPyConnection, workload: str, table: str
) -> tuple[list[str], list[str]]:
    """Creates the table, or adds the columns that the contract has gained.

    Returns incoming's columns, and those that only the table has.
    """
    connection.execute(f"CREATE TABLE IF NOT EXISTS {table} AS FROM incoming WHERE false")
    have = {row[0]: row[1] for row in connection.execute(f"DESCRIBE {table}").fetchall()}
    want = {row[0]: row[1] for row in connection.execute("DESCRIBE incoming").fetchall()}
    # SQL names do not tell capitals apart.
    held = {name.casefold(): kind for name, kind in have.items()}
    for name, kind in want.items():
        if name.casefold() not in held:
            connection.execute(f"ALTER TABLE {table} ADD COLUMN {quoted(name)} {kind}")
        elif held[name.casefold()] != kind:
            raise PipelineError(
                f"The table promoted.{workload} holds {name} as {held[name.casefold()]} and the load now "
                f"has {kind}; rename the field, or migrate the table's column first."
            )
    known = {name.casefold() for name in want}
    return list(want), [name for name in have if name.casefold() not in known]


def _count(cursor: duckdb.DuckDBPyConnection) -> int:
    row = cursor.fetchone()
    return int(row[0]) if row else 0
