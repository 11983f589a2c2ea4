"""What is planted into the nights, and when. Nights are counted from 1, the first being `FIRST_DAY`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

FIRST_DAY = date(2026, 8, 3)
# Long enough for a slow drift, short enough to be mended before the gate's floor.
DRIFT_PER_NIGHT = 0.001
BROKEN_SHARE = 0.2
CACHE_HITS = 0.98
CACHE_HITS_LOST = 0.3
OUTPUT_PRICE_FACTOR = 3
MISSING = frozenset({20, 21})


@dataclass(frozen=True)
class Planted:
    """Something that goes wrong from `first` to `last`, both included.

    `caught_by` are the checks of which one must fail while it lasts; `also` are others that it explains.
    `echo`: for so many nights after, those checks still look back on it.
    """

    name: str
    what: str
    first: int
    last: int
    caught_by: frozenset[str]
    also: frozenset[str] = frozenset()
    echo: int = 0

    def on(self, night: int) -> bool:
        return self.first <= night <= self.last

    def explains(self, check: str, night: int) -> bool:
        return self.on(night) and check in self.caught_by | self.also

    def echoes(self, check: str, night: int) -> bool:
        """Whether the check fails after the end of it for what it saw while it lasted."""
        return self.last < night <= self.last + self.echo and check in self.caught_by | self.also


_RATES = frozenset({"trend_validity", "trend_escalation_rate"})


def drift(first: int, last: int) -> Planted:
    return Planted(
        "drift",
        f"validity sinks by {DRIFT_PER_NIGHT * 100:.1f} points a night",
        first,
        last,
        frozenset({"trend_validity"}),
        # A drift is over when the declaration changes, and the window begins anew with it.
        also=_RATES | {"slices"},
    )


def new_prompt(night: int) -> Planted:
    return Planted(
        "prompt",
        "the prompt is mended: held until somebody records a new baseline",
        night,
        night,
        frozenset({"golden_gate"}),
    )


def broken_slice(first: int, last: int) -> Planted:
    return Planted(
        "slice",
        f"{BROKEN_SHARE:.0%} of the answers to one channel (8% of the rows) break the contract",
        first,
        last,
        frozenset({"slices"}),
        also=_RATES | {"cost_per_good_row"},
        echo=7,
    )


def lost_cache(first: int, last: int) -> Planted:
    return Planted(
        "cache",
        f"the system prompt is found in the cache {CACHE_HITS_LOST:.0%} of the time instead of {CACHE_HITS:.0%}",
        first,
        last,
        frozenset({"cache_hits"}),
        also=frozenset({"cost_per_good_row", "cache_pays"}),
    )


def dearer_output(first: int, last: int) -> Planted:
    return Planted(
        "price",
        f"output tokens of the first tier cost {OUTPUT_PRICE_FACTOR} times as much",
        first,
        last,
        frozenset({"cost_per_good_row"}),
    )


@dataclass(frozen=True)
class Plan:
    """How many nights, which of them have no load, and what is planted."""

    nights: int
    planted: Sequence[Planted] = field(default_factory=tuple)
    missing: frozenset[int] = frozenset()

    def loads(self) -> list[int]:
        """The nights that have a load."""
        return [night for night in range(1, self.nights + 1) if night not in self.missing]

    def active(self, name: str, night: int) -> Planted | None:
        return next((p for p in self.planted if p.name == name and p.on(night)), None)

    def since(self, name: str, night: int) -> bool:
        """Whether it has been planted by then, ended or not."""
        return any(p.name == name and p.first <= night for p in self.planted)


def day_of(night: int) -> str:
    return (FIRST_DAY + timedelta(days=night - 1)).isoformat()


def eventful(nights: int = 90) -> Plan:
    """The plan of `make nights`. Of fewer nights, those things are planted that end within them."""
    everything = (
        drift(31, 45),
        new_prompt(46),
        broken_slice(56, 59),
        lost_cache(66, 71),
        dearer_output(76, max(76, nights)),
    )
    planted = tuple(each for each in everything if each.last <= nights)
    return Plan(nights, planted, missing=_missing(nights))


def stable(nights: int = 90) -> Plan:
    """As many nights in which nothing happens, but that two have no load."""
    return Plan(nights, missing=_missing(nights))


def _missing(nights: int) -> frozenset[int]:
    return frozenset(night for night in MISSING if night <= nights)
