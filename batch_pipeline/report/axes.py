"""Scales and ticks of the charts: values upwards, real dates to the right."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

_STEPS = (1, 2, 2.5, 5, 10)
_DAY_STEPS = (1, 2, 3, 7, 14, 28, 56, 91, 182, 364)
_MOST_DATES = 5


@dataclass(frozen=True)
class Scale:
    """Maps `low`…`high` to `start`…`end`, straight; an empty span goes to the middle."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        if self.high <= self.low:
            return (self.start + self.end) / 2
        share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def span(
    values: Sequence[float], *, least: float, bounds: tuple[float, float] = (-math.inf, math.inf)
) -> tuple[float, float]:
    """What an axis covers: all `values` with some air, at least `least`, and nothing beyond `bounds`."""
    low, high = min(values), max(values)
    air = max((high - low) * 0.08, (least - (high - low)) / 2)
    low, high = low - air, high + air
    # Air that a bound takes away is given on the other side: equal values still have a span.
    if low < bounds[0]:
        low, high = bounds[0], max(high, min(bounds[0] + least, bounds[1]))
    if high > bounds[1]:
        low, high = max(min(low, bounds[1] - least), bounds[0]), bounds[1]
    return low, high


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round values between `low` and `high`, about `wanted` of them; never fewer than two for a real span."""
    if high <= low:
        return [low]
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    for step in (f * power for f in reversed(_STEPS)):
        if step <= rough * 1.3:
            first = math.ceil(low / step - 1e-9)
            last = math.floor(high / step + 1e-9)
            if last > first:
                return [n * step for n in range(first, last + 1)]
    return [low, high]


def decimals(values: Sequence[float]) -> int:
    """How many decimals tell neighbouring ticks apart."""
    if len(values) < 2:
        return 1
    step = abs(values[1] - values[0])
    places = max(0, -math.floor(math.log10(step) + 1e-9)) if step else 1
    scaled = step * 10.0**places
    # A step of 2.5 needs one more than a step of 2.
    return places + int(abs(scaled - round(scaled)) > 1e-6)


def date_ticks(first: date, last: date) -> list[date]:
    """Days to label, counted back from the last one, which is always among them."""
    days = (last - first).days
    step = next((s for s in _DAY_STEPS if days / s <= _MOST_DATES - 1), 364 * (1 + days // 1456))
    return [last - timedelta(days=n) for n in range(0, days + 1, step)][::-1]
