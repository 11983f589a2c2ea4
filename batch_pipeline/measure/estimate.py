"""What requests cost, by parts, from their sizes and a model's rates: exact sums, no I/O.

Tokens may be fractions, for they are means of samples; money is Decimal to the end.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import date
from decimal import Decimal
from math import sqrt

from batch_pipeline.claude.price_table import MILLION
from batch_pipeline.claude.prices import PriceTable, Rates
from batch_pipeline.measure.caching import write_rate

Number = int | float | Decimal


@dataclass(frozen=True)
class MeanInterval:
    """A mean with its 95% confidence interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: Sequence[float], population: int) -> MeanInterval:
    """The mean of a population from a simple random sample without replacement, with Student's t.

    The half width is t·s/√n·√((N - n)/(N - 1)), the finite population correction of Cochran, Sampling
    Techniques, 1977, §2.6; a point where all were drawn. One value of many says little: from nothing to
    three times that. Raises ValueError for no values.
    """
    n = len(values)
    if not n:
        raise ValueError("no values")
    mean = sum(values) / n
    if n >= population:
        return MeanInterval(mean, mean, mean)
    if n == 1:
        return MeanInterval(mean, 0.0, 3 * mean)
    from scipy.special import stdtrit

    spread = sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
    half = float(stdtrit(n - 1, 0.975)) * spread / sqrt(n)
    half *= sqrt((population - n) / (population - 1))
    return MeanInterval(mean, max(mean - half, 0.0), mean + half)


@dataclass(frozen=True)
class LongRows:
    """Rows whose prompt is above the size at which a model's price rises: their share of requests and of tokens."""

    requests: Decimal = Decimal(0)
    tokens: Decimal = Decimal(0)


def share_of(part: Number, whole: Number) -> Decimal:
    """`part` / `whole`, and nothing of nothing."""
    return Decimal(str(part)) / Decimal(str(whole)) if whole else Decimal(0)


def rates_of(
    table: PriceTable,
    model: str,
    on: date,
    *,
    batch: bool,
    us: bool = False,
    long: LongRows | None = None,
) -> Rates:
    """USD per million tokens, of requests of which some are `long`.

    The average of both rates, input by the tokens and everything else by the requests that are long. Raises
    ConfigurationError for a model without a price.
    """
    below = table.price_for(model, on, batch=batch, us=us)
    dated = table.facts(model).on(on)
    if long is None or not long.requests or dated.threshold is None:
        return below
    above = table.price_for(model, on, batch=batch, us=us, prompt_tokens=dated.threshold + 1)

    def mixed(kind: str) -> Decimal:
        share = long.tokens if kind == "input" else long.requests
        low: Decimal = getattr(below, kind)
        high: Decimal = getattr(above, kind)
        return low * (1 - share) + high * share

    return Rates(*(mixed(field.name) for field in fields(Rates)))


@dataclass(frozen=True)
class RequestSize:
    """Tokens of one request: the prefix that all share, its own input, its answer."""

    prefix: Decimal
    input: Decimal
    output: Decimal

    @classmethod
    def of(cls, prefix: Number, own: Number, output: Number) -> "RequestSize":
        return cls(*(Decimal(str(tokens)) for tokens in (prefix, own, output)))


@dataclass(frozen=True)
class Parts:
    """US dollars by what they are paid for. `input` is all that is not cached."""

    cache_writes: Decimal = Decimal(0)
    cache_reads: Decimal = Decimal(0)
    input: Decimal = Decimal(0)
    output: Decimal = Decimal(0)

    @property
    def total(self) -> Decimal:
        return self.cache_writes + self.cache_reads + self.input + self.output

    def __add__(self, other: "Parts") -> "Parts":
        return Parts(
            *(getattr(self, part.name) + getattr(other, part.name) for part in fields(self))
        )


def cost_of(
    rates: Rates, size: RequestSize, requests: Number, cache: str = "none", hits: Number = 0
) -> Parts:
    """What `requests` cost, by parts.

    Args:
        rates: discounts included.
        size: of one request.
        requests: how many; may be a fraction, where it is expected.
        cache: none, 5m or 1h; one that the API skips is none.
        hits: share of the requests that read the prefix; at least one of them writes it.
    """
    n = Decimal(str(requests))
    output = n * size.output * rates.output / MILLION
    own = n * size.input * rates.input / MILLION
    if cache == "none" or not size.prefix:
        return Parts(input=own + n * size.prefix * rates.input / MILLION, output=output)
    found = min(n * Decimal(str(hits)), max(n - 1, Decimal(0)))
    return Parts(
        cache_writes=(n - found) * size.prefix * write_rate(rates, cache) / MILLION,
        cache_reads=found * size.prefix * rates.cache_read / MILLION,
        input=own,
        output=output,
    )


def most_of(rates: Rates, size: RequestSize, requests: Number, cache: str) -> Decimal:
    """The most that `requests` cost, whatever the cache does: nothing is found in it, or it is skipped."""
    return max(cost_of(rates, size, requests).total, cost_of(rates, size, requests, cache, 0).total)


def long_prompts(table: PriceTable, model: str, on: date, size: RequestSize) -> LongRows | None:
    """All requests or none, where all are of one size."""
    threshold = table.facts(model).on(on).threshold
    if threshold is None or size.prefix + size.input <= threshold:
        return None
    return LongRows(Decimal(1), Decimal(1))
