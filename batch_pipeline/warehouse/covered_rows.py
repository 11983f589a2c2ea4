"""Rows of promoted loads that a newer promoted load covers: `promoted."_covered_<workload>"`.

Together with the workload's table it holds every row of every load that is promoted now, so that any of them can be
taken back, in any order. It is made when the first row is covered: where nights never share a key there is none.
"""

import duckdb

from batch_pipeline.rows.query import quoted


def name(workload: str) -> str:
    return f"_covered_{workload}"


def table(workload: str) -> str:
    return f"promoted.{quoted(name(workload))}"


def exist(connection: duckdb.DuckDBPyConnection, workload: str) -> bool:
    """Whether the table is there. One that is empty counts: it has had rows."""
    found = connection.execute(
        "SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() "
        "AND schema_name = 'promoted' AND table_name = ?",
        [name(workload)],
    ).fetchone()
    return bool(found and found[0])


def create(connection: duckdb.DuckDBPyConnection, workload: str) -> None:
    """With the columns of the workload's table, where there is none."""
    connection.execute(
        f"CREATE TABLE IF NOT EXISTS {table(workload)} AS "
        f"FROM promoted.{quoted(workload)} WHERE false"
    )


def keep_met(connection: duckdb.DuckDBPyConnection, workload: str, load: str, key: str) -> None:
    """Before `load` is written: keeps what it will cover, and drops of its own what is covered no more.

    Reads the temporary table `met`: the keys that the load shares with rows of others in the table, and whose.
    """
    k, covered = quoted(key), table(workload)
    connection.execute(
        f"DELETE FROM {covered} WHERE _load = $load AND {k} NOT IN "
        f"(SELECT {k} FROM met WHERE _load > $load)",
        {"load": load},
    )
    connection.execute(
        f"INSERT INTO {covered} BY NAME SELECT t.* FROM promoted.{quoted(workload)} AS t "
        f"JOIN met ON met.{k} = t.{k} WHERE met._load < ?",
        [load],
    )


def bring_back(connection: duckdb.DuckDBPyConnection, workload: str, key: str) -> int:
    """Gives each key of the temporary table `gone` the newest row that is covered; how many had one."""
    k, covered = quoted(key), table(workload)
    connection.execute(
        f"CREATE TEMP TABLE back AS SELECT {k}, max(_load) AS _load FROM {covered} "
        f"WHERE {k} IN (SELECT {k} FROM gone) GROUP BY {k}"
    )
    rows = f"FROM {covered} AS c JOIN back ON back.{k} = c.{k} AND back._load = c._load"
    connection.execute(f"INSERT INTO promoted.{quoted(workload)} BY NAME SELECT c.* {rows}")
    connection.execute(
        f"DELETE FROM {covered} WHERE ({k}, _load) IN (SELECT ({k}, _load) FROM back)"
    )
    found = connection.execute("SELECT count(*) FROM back").fetchone()
    return int(found[0]) if found else 0
