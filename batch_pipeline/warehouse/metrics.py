"""The metrics: every measure of every load in one long table, and a wide view with a line per load.

Times are UTC, without a zone: DuckDB needs an extension to read zoned ones back.
"""

import json
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from batch_pipeline.rows import replacing
from batch_pipeline.warehouse.connection import warehouse
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
"""

# Copied to <state>/metrics/<name>.parquet, where anybody may read while the warehouse is locked. Not so the
# golden outcomes: keys stay in the warehouse and with the rows.
COPIED = ("loads", "measures", "slices", "labels", "gates", "nights")

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
    state: Path,
    record: LoadRecord,
    *,
    fingerprint: str,
    measures: Sequence[Measure],
    gate: GateRecord,
    golden_outcomes: pa.Table | None = None,
    slices: pa.Table | None = None,
    labels: pa.Table | None = None,
) -> None:
    """Replaces what is stored of this load, in one transaction; then copies the tables to Parquet.

    Whoever is killed in between is called again, since the ledger does not have the load as graded yet.

    Args:
        state: the state folder.
        record: the load.
        fingerprint: names the rows that were measured.
        measures: one per name.
        gate: kept once per fingerprint and outcome, so that the history of decisions stays.
        golden_outcomes: columns key, tier, disposition, correct; None without a golden set.
        slices: columns slice_column, slice, measure, good, n, broken; None without slices.
        labels: columns field, label, rows; None without a field of labels.
    """
    with warehouse(state) as connection:
        connection.execute("BEGIN")
        _create(connection)
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
        ):
            connection.execute(f"DELETE FROM metrics.{name} WHERE workload = ? AND load = ?", here)
            if table is not None:
                connection.register("incoming", table)
                connection.execute(
                    f"INSERT INTO metrics.{name} BY NAME SELECT ? AS workload, ? AS load, * FROM incoming",
                    here,
                )
                connection.unregister("incoming")
        decision = [*here, fingerprint, gate.promote, gate.reasons, gate.override_reason]
        connection.execute(
            "INSERT INTO metrics.gates SELECT ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS ("
            "FROM metrics.gates WHERE workload = ? AND load = ? AND fingerprint = ? AND promote = ? "
            "AND reasons = ? AND override_reason IS NOT DISTINCT FROM ?)",
            [*decision, moment, *decision],
        )
        connection.execute("COMMIT")
        copy_metrics(connection, state)


def copy_metrics(connection: duckdb.DuckDBPyConnection, state: Path) -> None:
    """Copies the metrics to Parquet files: another process can read those at any moment.

    The copies of DuckDB's own file that a reader could make would hold nothing of what is still in its log.
    """
    for name in COPIED:
        with replacing(state / "metrics" / f"{name}.parquet") as path:
            connection.execute(
                f"COPY (FROM metrics.{name} ORDER BY ALL) TO {literal(str(path))} "
                "(FORMAT parquet, COMPRESSION zstd)"
            )


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    columns = ",\n           ".join(
        f"max(value) FILTER (measure = {json.dumps(name).replace(chr(34), chr(39))}) AS {name}"
        for name in WIDE
    )
    connection.execute(_TABLES.format(columns=columns))
