"""The price of a load, line by line and part by part: the lines add up to the total, and so do the parts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from batch_pipeline.claude.prices import Rates
from batch_pipeline.measure.caching import HIGH_HITS, LOW_HITS
from batch_pipeline.measure.estimate import Parts, RequestSize, cost_of

LOW, TYPICAL, HIGH = "low", "typical", "high"
Scenario = Mapping[str, Decimal]


@dataclass(frozen=True)
class Volume:
    """What is asked: source rows, those among them that ask what another one asks, and golden rows.

    paid_again: billed requests beyond the first of their row and tier, as a share; what the API fails is free.
    """

    source_rows: int
    duplicates: Decimal = Decimal(0)
    golden_rows: int = 0
    paid_again: Decimal = Decimal(0)

    @property
    def requests(self) -> Decimal:
        """Of tier 0, without what is paid again."""
        return self.source_rows - self.duplicates + self.golden_rows


@dataclass(frozen=True)
class PricedTier:
    """One tier's requests. `cache` is none, 5m or 1h; `rates` are the lane's, one of the two others.

    share: of the requests of tier 0, those that reach it.
    """

    model: str
    size: RequestSize
    cache: str
    share: Decimal
    rates: Rates
    sync_rates: Rates
    batch_rates: Rates


@dataclass(frozen=True)
class Line:
    """One line of the sum in US dollars, at a low, typical and high hit share; `note` says what it is made of."""

    what: str
    usd: Scenario
    note: str = ""


@dataclass(frozen=True)
class LoadSum:
    """`lines` add up to `total`, and the `parts` of each scenario do."""

    lines: Sequence[Line]
    parts: Mapping[str, Parts]
    hits: Scenario

    @property
    def total(self) -> Scenario:
        return {name: parts.total for name, parts in self.parts.items()}


def scenarios(typical_hits: Decimal) -> Scenario:
    """The hit shares of the three columns; a measured one beyond the usual range moves its end."""
    return {
        LOW: min(LOW_HITS, typical_hits),
        TYPICAL: typical_hits,
        HIGH: max(HIGH_HITS, typical_hits),
    }


def sum_up(
    volume: Volume,
    tiers: Sequence[PricedTier],
    typical_hits: Decimal,
    *,
    lane: str,
    notes: Mapping[str, str],
) -> LoadSum:
    """The lines and the parts of a load's price.

    Args:
        volume: how much is asked.
        tiers: the cheapest first.
        typical_hits: the share of requests that is expected to find the prefix in the cache.
        lane: batch or sync.
        notes: by line, what to say beside it.
    """
    first = tiers[0]
    hits = scenarios(typical_hits)
    again = volume.requests * volume.paid_again

    def flat(usd: Decimal) -> Scenario:
        return dict.fromkeys(hits, usd)

    def uncached(tier: PricedTier, requests: Decimal) -> Decimal:
        return cost_of(tier.rates, tier.size, requests).total

    requests = [volume.requests * tier.share for tier in tiers]
    requests[0] += again
    parts = {
        name: sum(
            (
                cost_of(tier.rates, tier.size, n, tier.cache, share)
                for tier, n in zip(tiers, requests, strict=True)
            ),
            Parts(),
        )
        for name, share in hits.items()
    }
    without = sum((uncached(tier, n) for tier, n in zip(tiers, requests, strict=True)), Decimal(0))
    rows = Decimal(volume.source_rows)
    synchronous = cost_of(first.sync_rates, first.size, rows).total
    escalated = sum(
        (uncached(tier, n) for tier, n in zip(tiers[1:], requests[1:], strict=True)), Decimal(0)
    )
    named = [
        ("synchronous price", flat(synchronous)),
        ("batch discount", flat(uncached(first, rows) - synchronous)),
        ("duplicates asked once", flat(-uncached(first, volume.duplicates))),
        ("cache effect", {name: each.total - without for name, each in parts.items()}),
        ("golden rows", flat(uncached(first, Decimal(volume.golden_rows)))),
        ("expected escalations", flat(escalated)),
        ("retries", flat(uncached(first, again))),
    ]
    if lane == "sync":
        named = [each for each in named if each[0] != "batch discount"]
    return LoadSum([Line(what, usd, notes.get(what, "")) for what, usd in named], parts, hits)
