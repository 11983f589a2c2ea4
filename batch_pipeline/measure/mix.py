"""The mix of labels among the answers: has it moved more than it ever does?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

import duckdb

from batch_pipeline.rows.query import quoted

# How far back the usual mix, and the usual distance from it, is taken. Fixed cut-offs depend on the number of labels
# and rows: with 77 labels and 1,000 rows a distance of 0.1 is crossed on 99% of unchanged nights (simulated).
WINDOW = 28
_LEAST_DISTANCES = 10
_SPREADS = 4.0
_ABOVE_MOST = 1.15

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Mix:
    """How far tonight's mix is from the usual one, Jensen-Shannon, from 0 to 1; and what moved most.

    `moved` holds (label, usual share, tonight's share). `usual` is the most that is expected, or None where
    there are too few nights to say.
    """

    distance: float
    usual: float | None
    moved: list[tuple[str, float, float]]

    @property
    def unusual(self) -> bool:
        return self.usual is not None and self.distance > self.usual


def mix_of(nights: Sequence[Counts]) -> Mix | None:
    """The last night's mix against the nights before it, the oldest first; None where there is none before."""
    counted = [night for night in nights if sum(night.values())]
    if len(counted) < 2:
        return None
    tonight, reference = counted[-1], counted[-1 - WINDOW : -1]
    former = [
        _distance(counted[i], _pooled(counted[max(0, i - WINDOW) : i]))
        for i in range(max(1, len(counted) - 1 - WINDOW), len(counted) - 1)
    ]
    usual = None
    if len(former) >= _LEAST_DISTANCES:
        usual = max(fmean(former) + _SPREADS * stdev(former), _ABOVE_MOST * max(former))
    pooled = _pooled(reference)
    before, now = sum(pooled.values()), sum(tonight.values())
    shares = [
        (label, pooled.get(label, 0) / before, tonight.get(label, 0) / now)
        for label in {*pooled, *tonight}
    ]
    shares.sort(key=lambda share: (-abs(share[2] - share[1]), share[0]))
    return Mix(_distance(tonight, pooled), usual, shares[:3])


def _pooled(nights: Sequence[Counts]) -> dict[str, int]:
    total: dict[str, int] = {}
    for night in nights:
        for label, n in night.items():
            total[label] = total.get(label, 0) + n
    return total


def _distance(a: Counts, b: Counts) -> float:
    from scipy.spatial.distance import jensenshannon

    labels = sorted({*a, *b})
    return float(jensenshannon([a.get(x, 0) for x in labels], [b.get(x, 0) for x in labels]))


def count_labels(connection: duckdb.DuckDBPyConnection, fields: Sequence[str]) -> None:
    """Makes the temporary table `labels`: field, label, rows, of validated source rows.

    Args:
        connection: has `rows` and `answers`.
        fields: those of the contract that have a fixed list of values.
    """
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE labels (field VARCHAR, label VARCHAR, rows BIGINT)"
    )
    for name in fields:
        connection.execute(
            f"INSERT INTO labels SELECT ?, coalesce(CAST(fields.{quoted(name)} AS VARCHAR), '(none)') AS label, "
            "count(*) FROM answers JOIN rows USING (row) WHERE NOT rows.golden GROUP BY label",
            [name],
        )
