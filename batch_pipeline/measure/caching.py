"""Whether prompt caching pays: the break-even hit share from a model's own rates, and the decision."""

from dataclasses import dataclass
from decimal import Decimal

from batch_pipeline.claude.prices import Rates

# Anthropic's documentation on batches: hit rates "typically 30% to 98%", best effort.
LOW_HITS, HIGH_HITS = Decimal("0.30"), Decimal("0.98")
ASSUMED_HITS = (LOW_HITS + HIGH_HITS) / 2
# A write and one read cost more than two uncached requests at every model's rates.
LEAST_REQUESTS = 3
# Where nobody publishes a model's minimum: the one of its predecessors. Below the real one nothing is charged.
USUAL_MINIMUM = 512


@dataclass(frozen=True)
class Hits:
    """The share of a load's requests that find the prefix in the cache; `measured` on earlier loads, or assumed."""

    share: Decimal
    measured: bool

    @property
    def said(self) -> str:
        return f"{self.share:.0%} {'measured' if self.measured else 'assumed'}"


ASSUMED = Hits(ASSUMED_HITS, measured=False)


@dataclass(frozen=True)
class CacheChoice:
    """`cache` is none, 5m or 1h; `works` whether the API would cache at all; `why` is a sentence."""

    cache: str
    works: bool
    why: str


def write_rate(rates: Rates, cache: str) -> Decimal:
    """What writing a prefix costs, in USD per million tokens. `cache` is 5m or 1h."""
    return rates.cache_write_1h if cache == "1h" else rates.cache_write_5m


def break_even(rates: Rates, cache: str) -> Decimal:
    """The hit share h above which caching is cheaper than none.

    A request costs h·read + (1 - h)·write per prefix token instead of input; equal at
    h = (write - input) / (write - read). Discounts that apply to all rates cancel out.
    """
    write = write_rate(rates, cache)
    return (write - rates.input) / (write - rates.cache_read)


def choose_cache(
    declared: str,
    *,
    model: str,
    prefix_tokens: int,
    minimum: int | None,
    requests: int,
    rates: Rates,
    hits: Hits,
    automatic: str = "1h",
) -> CacheChoice:
    """What to ask of the cache for one tier.

    Args:
        declared: auto, none, 5m or 1h.
        model: for the sentence.
        prefix_tokens: what all its requests begin with.
        minimum: shortest prefix that the model caches; None where it is not published.
        requests: how many share the prefix.
        rates: the model's.
        hits: the hit share to expect.
        automatic: how long to cache where `auto` finds that it pays.
    """
    least = USUAL_MINIMUM if minimum is None else minimum
    told = f"{least:,} tokens" + (" (not published; assumed)" if minimum is None else "")
    short = prefix_tokens < least
    prefix = f"the shared prefix of {prefix_tokens:,} tokens"
    if declared == "none":
        return CacheChoice("none", works=False, why="prompt.cache is none.")
    if not prefix_tokens:
        said = "The requests begin with nothing that is the same in all rows, so nothing can be cached."
    elif short:
        said = (
            f"{prefix[0].upper()}{prefix[1:]} is below the {told} that {model} caches at least, and the API then "
            "skips caching without a word."
        )
    elif declared != "auto":
        even = break_even(rates, declared)
        return CacheChoice(
            declared,
            works=True,
            why=f"prompt.cache is {declared}: it pays above a hit share of {even:.1%}, and {hits.said} is expected.",
        )
    else:
        even = break_even(rates, automatic)
        pays = hits.share > even and requests >= LEAST_REQUESTS
        if requests < LEAST_REQUESTS:
            said = f"{requests} requests are too few to share a prefix: writing it costs more than it saves."
        else:
            said = (
                f"{prefix[0].upper()}{prefix[1:]} reaches {model}'s minimum of {told}, and caching for {automatic} "
                f"pays above a hit share of {even:.1%}: {hits.said}, so it is {'on' if pays else 'off'}."
            )
        return CacheChoice(automatic if pays else "none", works=pays, why=said)
    return CacheChoice("none" if declared == "auto" else declared, works=False, why=said)
