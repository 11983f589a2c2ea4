"""A number that is not a rate, such as a price or a cache's hits: is tonight unlike the nights before?"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

WINDOW = 28
_LEAST_NIGHTS = 5
# Beyond what the median's own spread explains: 1.4826 median absolute deviations are one standard deviation.
_SPREADS = 4.0
_DEVIATION = 1.4826


@dataclass(frozen=True)
class Change:
    """Tonight beside the median of the nights before; `unusual` when it is further off than they ever are."""

    tonight: float
    usual: float
    nights: int
    unusual: bool


def change(values: Sequence[float], least: float) -> Change | None:
    """The last value against those before it, the oldest first; None for fewer than five nights before.

    Args:
        values: one per night.
        least: how far it must be off to matter, in the values' own unit.
    """
    before = values[-1 - WINDOW : -1]
    if len(before) < _LEAST_NIGHTS:
        return None
    usual = median(before)
    spread = _DEVIATION * median(abs(value - usual) for value in before)
    off = abs(values[-1] - usual)
    return Change(values[-1], usual, len(before), off > max(least, _SPREADS * spread))
