"""The metrics: every measure of every load in one long table, and a wide view with a line per load.

Times are UTC, without a zone: DuckDB needs an extension to read zoned ones back.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from batch_pipeline.measure.savings import PARTS
from batch_pipeline.rows import replacing
from batch_pipeline.warehouse.connection import in_transaction
from batch_pipeline.warehouse.place import Where, lake_of, state_of
from batch_pipeline.workload.data_file import literal

_TABLES = """
CREATE SCHEMA IF NOT EXISTS metrics;
CREATE TABLE IF NOT EXISTS metrics.loads (
    workload VARCHAR NOT NULL, load VARCHAR NOT NULL, generation INTEGER NOT NULL,
    declaration VARCHAR NOT NULL, cancelled BOOLEAN NOT NULL, golden_set VARCHAR, verdict VARCHAR,
    lost INTEGER, won INTEGER, p DOUBLE, smallest_drop DOUBLE,
    baseline_id VARCHAR, baseline_score DOUBLE, measured_at TIMESTAMP NOT NULL);
CREATE TABLE IF NOT EXISTS metrics.measures (
    workload VARCHAR NOT NULL, load VARCHAR NOT NULL, measure VARCHAR NOT NULL,
    numerator DOUBLE, denominator DOUBLE, value DOUBLE,
    fingerprint VARCHAR NOT NULL, measured_at TIMESTAMP NOT NULL);
CREATE TABLE IF NOT EXISTS metrics.slices (
    workload VARCHAR NOT NULL, load VARCHAR NOT NULL, slice_column VARCHAR NOT NULL,
    slice VARCHAR NOT NULL, measure VARCHAR NOT NULL, good BIGINT NOT NULL, n BIGINT NOT NULL,
    broken BOOLEAN NOT NULL);
CREATE TABLE IF NOT EXISTS metrics.labels (
    workload VARCHAR NOT NULL, load VARCHAR NOT NULL, field VARCHAR NOT NULL,
    label VARCHAR NOT NULL, rows BIGINT NOT NULL);
CREATE TABLE IF NOT EXISTS metrics.golden_outcomes (
    workload VARCHAR NOT NULL, load VARCHAR NOT NULL, key VARCHAR NOT NULL,
    tier INTEGER, disposition VARCHAR, correct BOOLEAN NOT NULL);
CREATE TABLE IF NOT EXISTS metrics.costs (
    workload VARCHAR NOT NULL, load VARCHAR NOT NULL, generation INTEGER NOT NULL,
    part VARCHAR NOT NULL, tier INTEGER NOT NULL, lane VARCHAR NOT NULL, model VARCHAR NOT NULL,
    disposition VARCHAR, requests BIGINT NOT NULL, read_requests BIGINT NOT NULL,
    cached_requests BIGINT NOT NULL, tokens_input BIGINT NOT NULL, tokens_cache_write_5m BIGINT NOT NULL,
    tokens_cache_write_1h BIGINT NOT NULL, tokens_cache_read BIGINT NOT NULL, tokens_output BIGINT NOT NULL,
    usd_input {usd}, usd_cache_write_5m {usd}, usd_cache_write_1h {usd}, usd_cache_read {usd},
    usd_output {usd}, usd {usd}, synchronous_usd {usd}, saved_batch_usd {usd}, saved_cache_usd {usd},
    plain_input_usd {usd}, write_premium_usd {usd}, shared_rows BIGINT NOT NULL, asked_once_usd {usd});
CREATE TABLE IF NOT EXISTS metrics.gates (
    workload VARCHAR NOT NULL, load VARCHAR NOT NULL, fingerprint VARCHAR NOT NULL,
    promote BOOLEAN NOT NULL, reasons VARCHAR[] NOT NULL, override_reason VARCHAR,
    decided_at TIMESTAMP NOT NULL);
CREATE OR REPLACE VIEW metrics.scorecards AS
    SELECT workload, load,
           {columns},
           max(measured_at) AS measured_at
    FROM metrics.measures GROUP BY workload, load;
CREATE OR REPLACE VIEW metrics.latest_gates AS
    SELECT DISTINCT ON (workload, load) * FROM metrics.gates ORDER BY workload, load, decided_at DESC;
CREATE OR REPLACE VIEW metrics.nights AS
    SELECT s.*, l.declaration, l.verdict, l.lost, l.won, l.p, l.smallest_drop, l.baseline_score,
           g.promote, g.override_reason
    FROM metrics.scorecards AS s
    LEFT JOIN metrics.loads AS l USING (workload, load)
    LEFT JOIN metrics.latest_gates AS g USING (workload, load);
CREATE OR REPLACE VIEW metrics.savings AS
    SELECT c.workload, c.load, max(c.generation) AS generation,
           sum(synchronous_usd) AS synchronous_usd, sum(saved_batch_usd) AS saved_batch_usd,
           sum(saved_cache_usd) AS saved_cache_usd, sum(usd) AS spent_usd,
           sum(asked_once_usd) AS asked_once_usd, sum(shared_rows) AS asked_once_rows,
           {parts},
           {endings},
           any_value(s.cost_per_good_row_usd) AS cost_per_good_row_usd,
           any_value(s.good_rows) AS good_rows
    FROM metrics.costs AS c
    LEFT JOIN (
        SELECT workload, load, any_value(value) AS cost_per_good_row_usd,
               CAST(any_value(denominator) AS BIGINT) AS good_rows
        FROM metrics.measures WHERE measure = 'cost_per_good_row_usd' GROUP BY ALL) AS s
    USING (workload, load) GROUP BY ALL;
CREATE OR REPLACE VIEW metrics.savings_by_month AS
    SELECT workload, substr(load, 1, 7) AS month, count(*) AS loads, {sums},
           CAST(CAST(sum(spent_usd) AS DOUBLE) / nullif(sum(good_rows), 0) AS DOUBLE)
               AS cost_per_good_row_usd,
           CAST(sum(good_rows) AS BIGINT) AS good_rows
    FROM metrics.savings GROUP BY ALL;
"""

# USD, exact: what a token costs has at most 14 decimals.
_USD = "DECIMAL(38, 14)"
# The columns of the savings, by load and by month: what a part of a load's lines was spent on.
PART_COLUMNS = {f"{part}_usd": part for part in PARTS}
_ENDINGS = ("quarantined", "human_review")

# Copied to <state>/metrics/<name>.parquet, where anybody may read while the warehouse is locked. Not so the
# golden outcomes: keys stay in the warehouse and with the rows.
COPIED = (
    *("loads", "measures", "slices", "labels", "costs", "gates"),
    *("nights", "savings", "savings_by_month"),
)

# Rows by which the copies are cut: whoever reads a few nights of a long history reads a few of these.
_ROW_GROUP = 8192

# The columns of the wide view; every other measure is in the long table only.
WIDE = (
    "source_rows",
    "coverage",
    "validity",
    "validity_all_tiers",
    "escalation_rate",
    "truncation_rate",
    "refusal_rate",
    "expired_rate",
    "golden_score",
    "cost_usd",
    "cost_per_good_row_usd",
    "cache_hit_rate",
)


@dataclass(frozen=True)
class Measure:
    """One measured number. `denominator` is None for a plain amount."""

    name: str
    numerator: float | None
    denominator: float | None
    value: float | None


@dataclass(frozen=True)
class GateRecord:
    """The gate's decision as the warehouse keeps it."""

    promote: bool
    reasons: list[str]
    override_reason: str | None


@dataclass(frozen=True)
class LoadRecord:
    """What was measured, under which declaration, and how its golden rows compare with the baseline."""

    workload: str
    load: str
    generation: int
    declaration: str
    cancelled: bool = False
    golden_set: str | None = None
    verdict: str | None = None
    lost: int | None = None
    won: int | None = None
    p: float | None = None
    smallest_drop: float | None = None
    baseline_id: str | None = None
    baseline_score: float | None = None


def write_metrics(
    where: Where,
    record: LoadRecord,
    *,
    fingerprint: str,
    measures: Sequence[Measure],
    gate: GateRecord,
    golden_outcomes: pa.Table | None = None,
    slices: pa.Table | None = None,
    labels: pa.Table | None = None,
    costs: pa.Table | None = None,
) -> None:
    """Replaces what is stored of this load, in one transaction; then copies the tables of a file to Parquet.

    Whoever is killed in between is called again, since the ledger does not have the load as graded yet.

    Args:
        where: the settings, or a state folder for the DuckDB file in it.
        record: the load.
        fingerprint: names the rows that were measured.
        measures: one per name.
        gate: kept once per fingerprint and outcome, so that the history of decisions stays.
        golden_outcomes: columns key, tier, disposition, correct; None without a golden set.
        slices: columns slice_column, slice, measure, good, n, broken; None without slices.
        labels: columns field, label, rows; None without a field of labels.
        costs: the columns of metrics.costs after `load`; None where nothing was measured.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        _create(connection, lake=lake_of(where) is not None)
        here = [record.workload, record.load]
        moment = datetime.now(UTC).replace(tzinfo=None)
        connection.execute("DELETE FROM metrics.measures WHERE workload = ? AND load = ?", here)
        connection.executemany(
            "INSERT INTO metrics.measures VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                [*here, m.name, m.numerator, m.denominator, m.value, fingerprint, moment]
                for m in measures
            ],
        )
        connection.execute("DELETE FROM metrics.loads WHERE workload = ? AND load = ?", here)
        row = [*astuple(record), moment]
        connection.execute(f"INSERT INTO metrics.loads VALUES ({', '.join('?' * len(row))})", row)
        for name, table in (
            ("golden_outcomes", golden_outcomes),
            ("slices", slices),
            ("labels", labels),
            ("costs", costs),
        ):
            connection.execute(f"DELETE FROM metrics.{name} WHERE workload = ? AND load = ?", here)
            if table is not None:
                connection.register("incoming", table)
                connection.execute(
                    f"INSERT INTO metrics.{name} BY NAME SELECT ? AS workload, ? AS load, * FROM incoming",
                    here,
                )
                connection.unregister("incoming")
        _enter_gate(connection, here, fingerprint, gate)

    _commit(where, work)


def write_gate(
    where: Where, workload: str, load: str, *, fingerprint: str, gate: GateRecord
) -> None:
    """Adds a decision that was taken after the load was measured; then copies as `write_metrics` does."""

    def work(connection: duckdb.DuckDBPyConnection) -> None:
        _create(connection, lake=lake_of(where) is not None)
        _enter_gate(connection, [workload, load], fingerprint, gate)

    _commit(where, work)


def _enter_gate(
    connection: duckdb.DuckDBPyConnection, here: list[str], fingerprint: str, gate: GateRecord
) -> None:
    moment = datetime.now(UTC).replace(tzinfo=None)
    decision = [*here, fingerprint, gate.promote, gate.reasons, gate.override_reason]
    connection.execute(
        "INSERT INTO metrics.gates SELECT ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS ("
        "FROM metrics.gates WHERE workload = ? AND load = ? AND fingerprint = ? AND promote = ? "
        "AND reasons = ? AND override_reason IS NOT DISTINCT FROM ?)",
        [*decision, moment, *decision],
    )


def _commit(where: Where, work: Callable[[duckdb.DuckDBPyConnection], None]) -> None:
    def copy(connection: duckdb.DuckDBPyConnection) -> None:
        if lake_of(where) is None:
            copy_metrics(connection, state_of(where))

    in_transaction(where, work, copy)


def copy_metrics(connection: duckdb.DuckDBPyConnection, state: Path) -> None:
    """Copies the metrics to Parquet files: another process can read those at any moment.

    The copies of DuckDB's own file that a reader could make would hold nothing of what is still in its log.
    """
    for name in COPIED:
        with replacing(state / "metrics" / f"{name}.parquet") as path:
            connection.execute(
                f"COPY (FROM metrics.{name} ORDER BY ALL) TO {literal(str(path))} "
                f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"
            )


def _create(connection: duckdb.DuckDBPyConnection, *, lake: bool = False) -> None:
    """Creates tables and views as this release has them.

    In a `lake` only once: two transactions that replace the same view meet.
    """
    columns = ",\n           ".join(
        f"max(value) FILTER (measure = {json.dumps(name).replace(chr(34), chr(39))}) AS {name}"
        for name in WIDE
    )
    parts = ",\n           ".join(
        f"coalesce(sum(usd) FILTER (part = '{part}'), 0) AS {name}"
        for name, part in PART_COLUMNS.items()
    )
    endings = ",\n           ".join(
        f"coalesce(sum(usd) FILTER (disposition = '{end}' AND part NOT IN ('golden', 'resent')), 0) "
        f"AS {end}_usd"
        for end in _ENDINGS
    )
    summed = [
        *("synchronous_usd", "saved_batch_usd", "saved_cache_usd", "spent_usd", "asked_once_usd"),
        *("asked_once_rows", *PART_COLUMNS, *(f"{end}_usd" for end in _ENDINGS)),
    ]
    sums = ", ".join(f"sum({name}) AS {name}" for name in summed)
    statements = _TABLES.format(
        columns=columns, usd=f"{_USD} NOT NULL", parts=parts, endings=endings, sums=sums
    )
    if not lake:
        connection.execute(statements)
        return
    digest = hashlib.sha256(statements.encode()).hexdigest()
    connection.execute("CREATE TABLE IF NOT EXISTS metrics.made (digest VARCHAR NOT NULL)")
    if connection.execute("FROM metrics.made").fetchall() != [(digest,)]:
        connection.execute(statements)
        connection.execute("DELETE FROM metrics.made")
        connection.execute("INSERT INTO metrics.made VALUES (?)", [digest])
