"""The golden score: golden rows whose final answer matches what is known, over all golden rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction

import duckdb

from batch_pipeline.rows.query import quoted
from batch_pipeline.workload.contract import Contract


@dataclass(frozen=True)
class GoldenScore:
    """Counted in rows, so that no comparison depends on rounding. `baseline` is a share."""

    correct: int
    n: int
    baseline: Decimal

    @property
    def score(self) -> float | None:
        return self.correct / self.n if self.n else None

    @property
    def drop_points(self) -> float:
        """Percentage points below the baseline; negative when above it."""
        return round(float(self._drop() * 100), 6)

    def dropped_by(self, points: Decimal) -> bool:
        """Whether the drop is `points` or more. Exact: 0.90 − 0.87 is three points, not 2.9999…"""
        return self._drop() * 100 >= Fraction(points)

    def _drop(self) -> Fraction:
        return Fraction(self.baseline) - (Fraction(self.correct, self.n) if self.n else 0)


def grade_rows(
    connection: duckdb.DuckDBPyConnection, contract: Contract, match: Sequence[str]
) -> None:
    """Makes the temporary table `golden_outcomes`: row, key, tier, disposition, correct.

    Reads the tables `rows`, `golden` (row and expected_<field>) and `answers` (row and the struct
    `fields`, for rows whose last answer is valid). A golden row without a valid answer is wrong.
    """
    types = {field.name: contract.duckdb_type(field) for field in contract.fields}
    same = " AND ".join(
        f"fields.{quoted(name)} IS NOT DISTINCT FROM "
        f"TRY_CAST(golden.{quoted('expected_' + name)} AS {types[name]})"
        for name in match
    )
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE golden_outcomes AS
        SELECT rows.row, rows.key, rows.tier, rows.disposition,
               coalesce(rows.disposition = 'validated' AND answers.row IS NOT NULL AND {same}, false)
                   AS correct
        FROM rows JOIN golden USING (row) LEFT JOIN answers USING (row)
        WHERE rows.golden ORDER BY rows.row
        """
    )


def golden_score(connection: duckdb.DuckDBPyConnection, baseline: Decimal) -> GoldenScore:
    """Counts `golden_outcomes`."""
    correct, n = connection.execute(
        "SELECT count(*) FILTER (correct), count(*) FROM golden_outcomes"
    ).fetchall()[0]
    return GoldenScore(correct=correct, n=n, baseline=baseline)
