"""The metrics: every measure of every load in one long table, and a wide view with a line per load.

Times are UTC, without a zone: DuckDB needs an extension to read zoned ones back.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pyarrow as pa

from batch_pipeline.warehouse.connection import warehouse

_TABLES = """
CREATE SCHEMA IF NOT EXISTS metrics;
CREATE TABLE IF NOT EXISTS metrics.measures (
    workload VARCHAR NOT NULL, load VARCHAR NOT NULL, measure VARCHAR NOT NULL,
    numerator DOUBLE, denominator DOUBLE, value DOUBLE,
    fingerprint VARCHAR NOT NULL, measured_at TIMESTAMP NOT NULL);
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
"""

# The columns of the wide view; every other measure is in the long table only.
WIDE = (
    "source_rows",
    "coverage",
    "validity",
    "validity_all_tiers",
    "escalation_rate",
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


def write_metrics(
    state: Path,
    *,
    workload: str,
    load: str,
    fingerprint: str,
    measures: Sequence[Measure],
    golden_outcomes: pa.Table | None,
    gate: GateRecord,
) -> None:
    """Replaces what is stored of this load, in one transaction.

    Args:
        state: the state folder.
        workload: its name.
        load: the partition.
        fingerprint: names the rows that were measured.
        measures: one per name.
        golden_outcomes: columns key, tier, disposition, correct; None without a golden set.
        gate: kept once per fingerprint and outcome, so that the history of decisions stays.
    """
    with warehouse(state) as connection:
        connection.execute("BEGIN")
        _create(connection)
        here = [workload, load]
        moment = datetime.now(UTC).replace(tzinfo=None)
        connection.execute("DELETE FROM metrics.measures WHERE workload = ? AND load = ?", here)
        connection.executemany(
            "INSERT INTO metrics.measures VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            [
                [*here, m.name, m.numerator, m.denominator, m.value, fingerprint, moment]
                for m in measures
            ],
        )
        connection.execute(
            "DELETE FROM metrics.golden_outcomes WHERE workload = ? AND load = ?", here
        )
        if golden_outcomes is not None:
            connection.register("graded", golden_outcomes)
            connection.execute(
                "INSERT INTO metrics.golden_outcomes "
                "SELECT ?, ?, key, tier, disposition, correct FROM graded",
                here,
            )
            connection.unregister("graded")
        decision = [*here, fingerprint, gate.promote, gate.reasons, gate.override_reason]
        connection.execute(
            "INSERT INTO metrics.gates SELECT ?, ?, ?, ?, ?, ?, ? WHERE NOT EXISTS ("
            "FROM metrics.gates WHERE workload = ? AND load = ? AND fingerprint = ? AND promote = ? "
            "AND reasons = ? AND override_reason IS NOT DISTINCT FROM ?)",
            [*decision, moment, *decision],
        )
        connection.execute("COMMIT")


def _create(connection: duckdb.DuckDBPyConnection) -> None:
    columns = ",\n           ".join(
        f"max(value) FILTER (measure = {json.dumps(name).replace(chr(34), chr(39))}) AS {name}"
        for name in WIDE
    )
    connection.execute(_TABLES.format(columns=columns))
