"""Whether a nightly rate is falling: caught by its slope, though no single night crosses a line."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise


@dataclass(frozen=True)
class Night:
    """One load's rate: `good` of `n`."""

    day: date
    good: int
    n: int

    @property
    def rate(self) -> float:
        return self.good / self.n


@dataclass(frozen=True)
class Window:
    """How far back is looked, and how sure one must be."""

    nights: int
    alpha: float


# Sudden and slow: simulated together at 0.2 to 0.3 false pages per 90 nights of 1,000 rows, none at 10,000.
WINDOWS = (Window(7, 0.01), Window(28, 0.005))
# Below it a fall is watched, not paged: real nights differ by more than their sample says.
MIN_FALL = 0.008
WOBBLE = 0.0015
_WATCH_ALPHA, _WATCH_FALL = 0.05, 0.005
_LEAST_NIGHTS = 3
_HISTORY = 60
_PRIOR_NIGHTS = 10


@dataclass(frozen=True)
class Trend:
    """A fitted line. `slope` is per night and `fall` over the window, both as shares; falling is bad.

    `at_start` is the line's height at the window's first night.
    """

    nights: int
    slope: float
    at_start: float
    fall: float
    p: float
    wobble: float
    alarm: bool
    watch: bool


def trend(
    nights: Sequence[Night],
    window: Window,
    *,
    min_fall: float = MIN_FALL,
    wobble: float = WOBBLE,
) -> Trend | None:
    """Weighted least squares of the rate over the last nights, with known variances.

    A night's variance is binomial plus the wobble from night to night, which is learned from the nights
    before the window and never taken for less than `wobble`. Falling is what alarms: pass n − good for a
    rate that must not rise. None for fewer than three nights.
    """
    import numpy as np
    from scipy.special import ndtr

    counted = [night for night in nights if night.n]
    start = max(0, len(counted) - window.nights)
    seen, before = counted[start:], counted[max(0, start - _HISTORY) : start]
    if len(seen) < _LEAST_NIGHTS:
        return None
    tau2 = _wobble2(before, wobble)
    pooled = _pooled(seen)
    x = np.array([(night.day - seen[0].day).days for night in seen], float)
    y = np.array([night.rate for night in seen])
    variance = np.array([pooled * (1 - pooled) / night.n for night in seen]) + tau2
    (slope, start_rate), covariance = np.polyfit(x, y, 1, w=variance**-0.5, cov="unscaled")
    p = float(ndtr(slope / covariance[0, 0] ** 0.5))
    fall = float(-slope * (x[-1] - x[0]))
    return Trend(
        nights=len(seen),
        slope=float(slope),
        at_start=float(start_rate),
        fall=fall,
        p=p,
        wobble=tau2**0.5,
        alarm=p < window.alpha and fall >= min_fall,
        watch=p < _WATCH_ALPHA and fall >= _WATCH_FALL,
    )


def _pooled(nights: Sequence[Night]) -> float:
    # Half a row each way: a perfect run of nights would have no variance at all.
    return (sum(night.good for night in nights) + 0.5) / (sum(night.n for night in nights) + 1)


def _wobble2(nights: Sequence[Night], floor: float) -> float:
    """Variance between nights beyond the binomial, from successive differences, shrunk to the floor."""
    if len(nights) < _LEAST_NIGHTS:
        return floor**2
    p = _pooled(nights)
    pairs = list(pairwise(nights))
    excess = [(b.rate - a.rate) ** 2 - p * (1 - p) * (1 / a.n + 1 / b.n) for a, b in pairs]
    estimate = max(sum(excess) / len(excess) / 2, 0.0)
    shrunk = (_PRIOR_NIGHTS * floor**2 + len(pairs) * estimate) / (_PRIOR_NIGHTS + len(pairs))
    return max(shrunk, floor**2)
