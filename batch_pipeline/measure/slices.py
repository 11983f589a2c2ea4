"""Parts of a load, by the value of a column: their validity, their golden score, and which of them broke."""

from collections.abc import Sequence
from dataclasses import dataclass

import duckdb

from batch_pipeline.rows.query import quoted

ALPHA = 0.01
# Without it large slices alarm on nothing: 34 to 60% of quarters at 100,000 rows (simulated).
MIN_GAP = 0.03
# A golden slice of 10 rows shows 6% of the collapses that one of 20 shows 85% of (simulated).
LEAST_GOLDEN_ROWS = 20
# A column of more values is no slice; the rest is counted together.
MOST_SLICES = 50
REST = "(other values)"
NONE = "(none)"
_LONGEST_NAME = 80


@dataclass(frozen=True)
class SliceCount:
    """A slice tonight, and over its reference nights."""

    good: int
    n: int
    reference_good: int
    reference_n: int

    @property
    def gap(self) -> float:
        """How far tonight lies below the reference, as a share."""
        if not (self.n and self.reference_n):
            return 0.0
        return self.reference_good / self.reference_n - self.good / self.n


def broken_slices(counts: Sequence[SliceCount]) -> list[int]:
    """Which of them fell against their own nights: one-sided Fisher, Benjamini-Hochberg at 1%, 3 points.

    All are tested together: each further one is another chance to be wrong.
    """
    from scipy.stats import false_discovery_control, fisher_exact

    if not counts:
        return []
    p = [
        fisher_exact(
            [[c.n - c.good, c.good], [c.reference_n - c.reference_good, c.reference_good]],
            alternative="greater",
        ).pvalue
        if c.n
        else 1.0
        for c in counts
    ]
    adjusted = false_discovery_control(p, method="bh")
    return [
        i
        for i, (count, q) in enumerate(zip(counts, adjusted, strict=True))
        if q <= ALPHA and count.gap >= MIN_GAP
    ]


def count_slices(
    connection: duckdb.DuckDBPyConnection, columns: Sequence[str], *, golden: bool, sensitive: bool
) -> None:
    """Makes the temporary table `slices`: slice_column, slice, measure, good, n.

    Args:
        connection: has `source`, `sendings` and, where `golden`, `golden_outcomes`.
        columns: of the source; the most frequent values of each are told apart.
        golden: whether golden rows are counted too, in slices that have enough of them.
        sensitive: whether a digest stands for each value.
    """
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE slices "
        "(slice_column VARCHAR, slice VARCHAR, measure VARCHAR, good BIGINT, n BIGINT)"
    )
    for column in columns:
        value = f"coalesce(left(CAST({quoted(column)} AS VARCHAR), {_LONGEST_NAME}), '{NONE}')"
        if sensitive:
            value = f"'#' || left(md5({value}), 8)"
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE slice_of AS WITH v AS (SELECT _row AS row, _golden, {value} AS v "
            f"FROM source), often AS (SELECT v FROM v WHERE NOT _golden GROUP BY v "
            f"ORDER BY count(*) DESC, v LIMIT {MOST_SLICES}) "
            f"SELECT row, CASE WHEN v IN (FROM often) THEN v ELSE '{REST}' END AS slice FROM v"
        )
        connection.execute(
            "INSERT INTO slices SELECT ?, slice, 'validity', count(*) FILTER (outcome = 'valid'), count(*) "
            "FROM sendings JOIN slice_of USING (row) "
            # As the load's validity: a hundred rows that share one bad answer are one thing seen, not a hundred.
            "WHERE NOT golden AND tier = 0 AND attempt = 1 AND result = 'succeeded' "
            "GROUP BY slice",
            [column],
        )
        if golden:
            connection.execute(
                "INSERT INTO slices SELECT ?, slice, 'golden_score', count(*) FILTER (correct), count(*) "
                f"FROM golden_outcomes JOIN slice_of USING (row) GROUP BY slice HAVING count(*) >= {LEAST_GOLDEN_ROWS}",
                [column],
            )
