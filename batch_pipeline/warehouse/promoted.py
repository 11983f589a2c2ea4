"""The system of record: one table per workload, one row per key, written in one transaction per load.

The table follows from the loads that are promoted now: a key belongs to the newest of them that has it. So promoting
a load again changes nothing, promoting a corrected load replaces what it had promoted, and in whatever order loads
are promoted or rolled back, the table is the same.

What a newer load covers is kept in a table beside it (`covered_rows`), written in the same transaction.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from batch_pipeline.errors import PipelineError
from batch_pipeline.rows.place import Place
from batch_pipeline.rows.query import limit_memory, memory_for, quoted, row_bytes
from batch_pipeline.warehouse import covered_rows
from batch_pipeline.warehouse.connection import in_transaction
from batch_pipeline.warehouse.place import Where, lake_of
from batch_pipeline.workload.data_file import literal


@dataclass(frozen=True)
class Promotion:
    """`rows` of the load; of them inserted or changed now; older ones of the load removed; and of `rows` those
    that newer loads cover."""

    table: str
    rows: int
    written: int
    removed: int
    superseded: int


def promote_rows(
    where: Where,
    *,
    workload: str,
    load: str,
    key: str,
    rows: Place,
    fingerprint: str,
    override_reason: str | None,
) -> Promotion:
    """Makes `promoted.<workload>` agree with `rows`, a Parquet file of key, fields and provenance.

    Raises PipelineError where the contract's types no longer fit the table.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> Promotion:
        limit_memory(connection, memory_for(row_bytes(rows), 0))
        before = _snapshot(where, connection)
        # Read as often as it is asked for, and never held: it may be millions of rows.
        connection.execute(
            f"CREATE TEMP VIEW incoming AS SELECT * FROM read_parquet({literal(str(rows))})"
        )
        done = _write(connection, workload, load, key)
        _enter(connection, workload, load, fingerprint, done.rows, override_reason, before)
        if lake_of(where) is not None:
            take_turn(connection, workload, f"{load} promoted")
        return done

    return in_transaction(where, work)


def take_turn(connection: duckdb.DuckDBPyConnection, workload: str, what: str) -> None:
    """Lets one transaction at a time change a workload's table in a DuckLake.

    Two that insert the same key would both be let through there: it has no unique keys, and inserts never meet. Two
    that change the table's comment do, and the second to commit begins again.
    """
    moment = datetime.now(UTC).isoformat(timespec="seconds")
    connection.execute(
        f"COMMENT ON TABLE promoted.{quoted(workload)} IS {literal(f'{what} at {moment}')}"
    )


def create_history(connection: duckdb.DuckDBPyConnection) -> None:
    """Creates `promoted._promotions`, a line per promotion, where there is none. What is new comes last.

    complete: whether the rows that it covered were kept. snapshot: of a DuckLake, before the promotion.
    A load is promoted now where it has a line that was not rolled back.
    """
    connection.execute("CREATE SCHEMA IF NOT EXISTS promoted")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS promoted._promotions (workload VARCHAR, load VARCHAR, "
        "fingerprint VARCHAR, rows BIGINT, override_reason VARCHAR, promoted_at TIMESTAMP, "
        "complete BOOLEAN, snapshot BIGINT, rolled_back_at TIMESTAMP, rolled_back_by VARCHAR, "
        "rollback_reason VARCHAR)"
    )


def _snapshot(where: Where, connection: duckdb.DuckDBPyConnection) -> int | None:
    if lake_of(where) is None:
        return None
    from batch_pipeline.warehouse.ducklake import snapshot

    return snapshot(connection)


def _write(connection: duckdb.DuckDBPyConnection, workload: str, load: str, key: str) -> Promotion:
    create_history(connection)
    table, k = f"promoted.{quoted(workload)}", quoted(key)
    columns, former = _fit_table(connection, workload, table)
    covered = covered_rows.exist(connection, workload)
    if covered:
        _fit_table(connection, covered_rows.name(workload), covered_rows.table(workload))
        connection.execute(
            f"CREATE TEMP TABLE gone AS SELECT {k} FROM {table} "
            f"WHERE _load = $load AND {k} NOT IN (SELECT {k} FROM incoming)",
            {"load": load},
        )
    removed = _count(
        connection.execute(
            f"DELETE FROM {table} WHERE _load = ? AND {k} NOT IN (SELECT {k} FROM incoming)", [load]
        )
    )
    # Whose rows are met: in most nights nobody's.
    connection.execute(
        f"CREATE TEMP TABLE met AS SELECT t.{k}, t._load FROM {table} AS t "
        f"JOIN incoming AS i ON t.{k} = i.{k} WHERE t._load <> ?",
        [load],
    )
    older, newer = connection.execute(
        "SELECT count(*) FILTER (_load < $load), count(*) FILTER (_load > $load) FROM met",
        {"load": load},
    ).fetchall()[0]
    # Only what differs is touched, so that promoting again writes nothing. A field that the contract
    # no longer has becomes null: an older load's value would pass for this load's.
    new = {quoted(c): f"i.{quoted(c)}" for c in columns if c != key}
    new |= {quoted(c): "NULL" for c in former}
    changed = " OR ".join(f"t.{name} IS DISTINCT FROM {value}" for name, value in new.items())
    sets = ", ".join(f"{name} = {value}" for name, value in new.items())
    names = ", ".join(quoted(c) for c in columns)
    values = ", ".join(f"i.{quoted(c)}" for c in columns)
    insert = f"WHEN NOT MATCHED THEN INSERT ({names}) VALUES ({values})"
    if covered or older or newer:
        covered_rows.create(connection, workload)
        covered_rows.keep_met(connection, workload, load, key)
        connection.execute(
            f"MERGE INTO {covered_rows.table(workload)} AS t USING (FROM incoming AS i WHERE EXISTS ("
            f"FROM met WHERE met.{k} = i.{k} AND met._load > ?)) AS i "
            f"ON t.{k} = i.{k} AND t._load = i._load "
            f"WHEN MATCHED AND ({changed}) THEN UPDATE SET {sets} {insert}",
            [load],
        )
    written = _count(
        connection.execute(
            f"MERGE INTO {table} AS t USING incoming AS i ON t.{k} = i.{k} "
            f"WHEN MATCHED AND t._load <= i._load AND ({changed}) THEN UPDATE SET {sets} {insert}"
        )
    )
    if covered:
        covered_rows.bring_back(connection, workload, key)
    rows = _count(connection.execute("SELECT count(*) FROM incoming"))
    return Promotion(f"promoted.{workload}", rows, written, removed, newer)


def _enter(
    connection: duckdb.DuckDBPyConnection,
    workload: str,
    load: str,
    fingerprint: str,
    rows: int,
    override_reason: str | None,
    snapshot: int | None,
) -> None:
    """Enters each set of rows once in the history, and once more after it was rolled back."""
    here = [workload, load, fingerprint]
    moment = datetime.now(UTC).replace(tzinfo=None)
    connection.execute(
        "INSERT INTO promoted._promotions (workload, load, fingerprint, rows, override_reason, promoted_at, "
        "complete, snapshot) SELECT ?, ?, ?, ?, ?, ?, true, ? WHERE NOT EXISTS ("
        "FROM promoted._promotions WHERE workload = ? AND load = ? AND fingerprint = ? AND complete "
        "AND rolled_back_at IS NULL)",
        [*here, rows, override_reason, moment, snapshot, *here],
    )


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
