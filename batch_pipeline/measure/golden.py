"""The golden score: golden rows whose final answer matches what is known, over all golden rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

import duckdb

from batch_pipeline.measure.paired import (
    Paired,
    Verdict,
    mid_p,
    paired_verdict,
    score_verdict,
    smallest_seen_by_score,
    smallest_visible_drop,
)
from batch_pipeline.rows.query import quoted
from batch_pipeline.workload.contract import Contract


@dataclass(frozen=True)
class RecordedBaseline:
    """What a person accepted, and how far the load may be held against it.

    `apart` says why the two cannot be compared, where they cannot: another golden set, or another prompt,
    contract or tiers.
    """

    baseline_id: str
    correct: int
    n: int
    load: str
    recorded_by: str
    recorded_at: datetime
    apart: str | None = None


@dataclass(frozen=True)
class GoldenScore:
    """Counted in rows, so that no comparison depends on rounding.

    `baseline` is the declared share. Where one is `recorded`, it counts instead, row by row: `paired` is
    what became of each, and None where the golden sets differ. `golden_set` names rows and right answers.
    """

    correct: int
    n: int
    baseline: Decimal
    recorded: RecordedBaseline | None = None
    paired: Paired | None = None
    golden_set: str | None = None

    @property
    def score(self) -> float | None:
        return self.correct / self.n if self.n else None

    @property
    def baseline_score(self) -> float:
        """The share that counts: the recorded one's, or the declared."""
        return float(self._accepted())

    @property
    def drop_points(self) -> float | None:
        """Percentage points below the baseline; negative when above it. None where they cannot be compared."""
        if self.recorded is not None and self.paired is None:
            return None
        return round(float(self._drop() * 100), 6)

    @property
    def p(self) -> float | None:
        """One-sided p of the paired test; None where nothing is paired."""
        return None if self.paired is None else mid_p(self.paired.lost, self.paired.won)

    def dropped_by(self, points: Decimal) -> bool:
        """Whether the drop is `points` or more. Exact: 0.90 − 0.87 is three points, not 2.9999…"""
        return self._drop() * 100 >= Fraction(points)

    def verdict(self, points: Decimal) -> Verdict:
        """What the golden rows say, for a gate that holds at a drop of `points`."""
        if self.n == 0:
            return Verdict.CONFIRMED
        if self.recorded is None:
            return score_verdict(self.correct, self.n, self._accepted(), points)
        if self.recorded.apart is not None or self.paired is None:
            return Verdict.APART
        return paired_verdict(self.paired, points)

    def smallest_visible_drop(self, points: Decimal) -> float | None:
        """The smallest true drop, as a share, that is held at 80% power; None where none is."""
        if self.paired is not None:
            flips = self.paired.won / self.n if self.n else 0.0
            return smallest_visible_drop(self.n, flips, points)
        return smallest_seen_by_score(self.n, self.baseline_score, points)

    def _accepted(self) -> Fraction:
        if self.recorded is not None and self.recorded.n:
            return Fraction(self.recorded.correct, self.recorded.n)
        return Fraction(self.baseline)

    def _drop(self) -> Fraction:
        return self._accepted() - (Fraction(self.correct, self.n) if self.n else 0)


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
    """Counts `golden_outcomes`, against the declared baseline."""
    correct, n = connection.execute(
        "SELECT count(*) FILTER (correct), count(*) FROM golden_outcomes"
    ).fetchall()[0]
    return GoldenScore(correct=correct, n=n, baseline=baseline)


def pair_outcomes(connection: duckdb.DuckDBPyConnection, outcomes: str) -> Paired:
    """`golden_outcomes` beside `outcomes`, a Parquet file of (key, correct) over the same golden rows."""
    n, lost, won = connection.execute(
        "SELECT count(*), count(*) FILTER (b.correct AND NOT g.correct), "
        "count(*) FILTER (g.correct AND NOT b.correct) "
        "FROM golden_outcomes AS g JOIN read_parquet(?) AS b USING (key)",
        [outcomes],
    ).fetchall()[0]
    return Paired(n, lost, won)


def golden_set(
    connection: duckdb.DuckDBPyConnection, inputs: Sequence[str], match: Sequence[str]
) -> str:
    """Names what is graded: every golden row's key, inputs and right answers, in any order where rows have keys.

    Args:
        connection: has the tables `golden` (row and expected_<field>) and `source`, the load's rows.
        inputs: the source's columns that the prompt uses.
        match: the output fields that must be right.
    """
    facts = [
        *(f"CAST(s.{quoted(name)} AS VARCHAR)" for name in inputs),
        *(f"CAST(g.{quoted('expected_' + name)} AS VARCHAR)" for name in match),
    ]
    # Of a list, as JSON: text joined with a separator would not tell where one value ends.
    rows, digest = connection.execute(
        f"SELECT count(*), bit_xor(md5_number(CAST(to_json([s._key, {', '.join(facts)}]) AS VARCHAR))) "
        "FROM golden AS g JOIN source AS s ON s._row = g.row"
    ).fetchall()[0]
    return f"{rows}-{digest or 0:032x}"
