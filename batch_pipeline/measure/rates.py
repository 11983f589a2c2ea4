"""Coverage, validity, escalation and the smaller rates, each as a numerator and a denominator."""

from dataclasses import dataclass

import duckdb


@dataclass(frozen=True)
class Rate:
    """A share of counted things. `value` is None where there was nothing to count."""

    numerator: int
    denominator: int

    @property
    def value(self) -> float | None:
        return self.numerator / self.denominator if self.denominator else None


def dispositions(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Source rows by disposition; those without one are left out."""
    counts = dict(
        connection.execute(
            "SELECT disposition, count(*) FROM rows WHERE NOT golden AND disposition IS NOT NULL "
            "GROUP BY ALL"
        ).fetchall()
    )
    return {name: counts.get(name, 0) for name in ("validated", "quarantined", "human_review")}


def disposition_reasons(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str, int]]:
    """(disposition, reason, source rows) for all that is not simply valid, most frequent first."""
    return connection.execute(
        "SELECT disposition, reason, count(*) AS n FROM rows "
        "WHERE NOT golden AND disposition IS NOT NULL AND disposition <> 'validated' "
        "GROUP BY ALL ORDER BY n DESC, 1, 2"
    ).fetchall()


def unasked(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Source rows that share the answer to another row's request, and those that keep an earlier load's."""
    shared, reused = connection.execute(
        "SELECT (SELECT count(DISTINCT s.row) FROM sendings AS s JOIN rows USING (row) "
        "WHERE s.shared AND NOT s.golden AND s.result <> 'reused' AND s.chunk_id = rows.chunk_id), "
        "(SELECT count(*) FROM rows WHERE reused)"
    ).fetchall()[0]
    return int(shared), int(reused)


def rates(connection: duckdb.DuckDBPyConnection, source_rows: int) -> dict[str, Rate]:
    """Every rate over production rows, by its name in the metrics table.

    Rows that share an answer count each, as if each had been asked, so that a gate means the same whether
    duplicates are asked once or not; what the API failed is counted by request. Rows that keep an earlier
    load's answer were asked nothing: of them only coverage and escalation know.

    Args:
        connection: has the tables `rows` and `sendings`.
        source_rows: the ledger's count of source rows, taken when the source was read. Counting the
            same table twice could not show a leak.
    """
    first = "tier = 0 AND attempt = 1"
    succeeded = "result = 'succeeded'"
    row = connection.execute(
        f"""
        SELECT count(*) FILTER ({first} AND {succeeded} AND outcome = 'valid'),
               count(*) FILTER ({first} AND {succeeded}),
               count(*) FILTER ({succeeded} AND outcome = 'valid'),
               count(*) FILTER ({succeeded}),
               count(*) FILTER ({first} AND outcome = 'truncated'),
               count(*) FILTER ({first} AND outcome = 'refusal'),
               count(*) FILTER ({first}),
               count(*) FILTER (NOT shared AND result = 'errored'),
               count(*) FILTER (NOT shared AND result = 'expired'),
               count(*) FILTER (NOT shared)
        FROM sendings WHERE NOT golden
        """
    ).fetchall()[0]
    escalated, closed, distinct = connection.execute(
        "SELECT count(*) FILTER (NOT reused AND (top_tier >= 1 OR disposition = 'human_review')), "
        "count(*) FILTER (disposition IS NOT NULL), count(DISTINCT key) "
        "FROM rows WHERE NOT golden"
    ).fetchall()[0]
    return {
        "coverage": Rate(min(closed, distinct), source_rows),
        "validity": Rate(row[0], row[1]),
        "validity_all_tiers": Rate(row[2], row[3]),
        "escalation_rate": Rate(escalated, source_rows),
        "truncation_rate": Rate(row[4], row[1]),
        "refusal_rate": Rate(row[5], row[1]),
        "errored_rate": Rate(row[7], row[9]),
        "expired_rate": Rate(row[8], row[9]),
    }
