"""Golden against its baseline: is a drop real, and how small a drop could be seen at all?"""

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Any

# One-sided; the usual level for a decision that a person looks at (simulated: 3 to 5% false holds).
ALPHA = 0.05
POWER = 0.8
# What two runs of the same prompt differ by at least: no model answers twice alike.
LEAST_FLIPS = 0.01


class Verdict(StrEnum):
    """What the golden rows say of a load."""

    PASS = "pass"  # noqa: S105 - no password
    CONFIRMED = "hold: confirmed"
    NOISE = "hold: could be noise"
    APART = "hold: new baseline needed"


@dataclass(frozen=True)
class Paired:
    """Golden rows of a load beside the same rows of the baseline.

    `lost` were right and are wrong now, `won` the other way round.
    """

    n: int
    lost: int
    won: int


def mid_p(lost: int, won: int) -> float:
    """One-sided mid-p value of McNemar's test: that the drop is no more than chance.

    P(more than `lost` of lost + won fair coins) + half P(exactly as many).
    Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91.
    """
    return float(_mid_p(lost, lost + won)) if lost + won else 1.0


def paired_verdict(paired: Paired, points: Decimal) -> Verdict:
    """Hold at a drop of `points` or more, or when the drop is real whatever its size."""
    if mid_p(paired.lost, paired.won) < ALPHA:
        return Verdict.CONFIRMED
    # Integers: 14 → 11 of 100 is three points, whatever floats say.
    if 100 * (paired.lost - paired.won) >= Fraction(points) * paired.n > 0:
        return Verdict.NOISE
    return Verdict.PASS


def score_verdict(correct: int, n: int, baseline: Fraction, points: Decimal) -> Verdict:
    """As `paired_verdict`, where only the baseline's share is known: hold at a drop of `points` or more.

    Whether such a drop could be chance is asked of the binomial distribution, one-sided, mid-p.
    """
    from scipy.special import bdtr

    if (baseline - Fraction(correct, n)) * 100 < Fraction(points):
        return Verdict.PASS
    share = float(baseline)
    at_most, fewer = bdtr(correct, n, share), bdtr(correct - 1, n, share) if correct else 0.0
    return Verdict.CONFIRMED if (at_most + fewer) / 2 < ALPHA else Verdict.NOISE


@lru_cache(maxsize=64)
def smallest_visible_drop(
    n: int, flips: float, points: Decimal, *, alpha: float = ALPHA
) -> float | None:
    """The smallest true drop, as a share, that `paired_verdict` holds at 80% power.

    Args:
        n: golden rows.
        flips: share of rows that flip each way when nothing has changed; 1% where less was seen.
        points: the gate's line; at 100 there is none.
        alpha: the level of the test, one-sided.

    Returns None where not even half of all rows would be noticed.
    """
    share = max(flips, LEAST_FLIPS)
    return _smallest(n, lambda drop: _power(n, share, drop, points, alpha))


@lru_cache(maxsize=64)
def smallest_seen_by_score(n: int, baseline: float, points: Decimal) -> float | None:
    """As `smallest_visible_drop`, for `score_verdict`: nothing is paired, so it sees less."""
    from scipy.special import bdtr

    # The most right answers that are held; a hair more than exact, so that rounding does not lose one.
    most = math.floor((baseline - float(points) / 100) * n + 1e-9)
    if most < 0:
        return None
    return _smallest(n, lambda drop: float(bdtr(most, n, max(baseline - drop, 0.0))))


def _smallest(n: int, power: Callable[[float], float]) -> float | None:
    """To a hundredth of a point."""
    drops = range(1, 5001)
    found = bisect_left(drops, POWER, key=lambda drop: power(drop / 10_000)) if n else len(drops)
    return None if found == len(drops) else drops[found] / 10_000


def _power(n: int, flips: float, drop: float, points: Decimal, alpha: float) -> float:
    """The chance that a true drop is held, over all numbers of rows that flip."""
    import numpy as np
    from scipy.special import bdtr, bdtrc, bdtrik

    some = np.arange(1, n + 1)
    # The fewest lost rows, for each number of flips, that the line or the test holds: both only grow.
    line = np.ceil((float(points) * n / 100 + some) / 2 - 1e-9)
    about = np.maximum(np.ceil(bdtrik(1 - alpha, some, 0.5)) - 1, 0)
    real = about + sum(_mid_p(about + i, some) >= alpha for i in range(3))
    fewest = np.minimum(line, real)
    among = (flips + drop) / (2 * flips + drop)
    held = np.where(fewest > some, 0.0, bdtrc(np.minimum(fewest - 1, some), some, among))
    up_to = bdtr(np.arange(n + 1), n, min(2 * flips + drop, 1.0))
    return float((np.diff(up_to) * held).sum())


def _mid_p(lost: Any, flips: Any) -> Any:
    """Of numbers or arrays: the mean of the tails with and without `lost` itself. Beyond `flips` it is 0."""
    import numpy as np
    from scipy.special import bdtrc

    return (
        bdtrc(np.minimum(lost, flips), flips, 0.5) + bdtrc(np.minimum(lost - 1, flips), flips, 0.5)
    ) / 2
