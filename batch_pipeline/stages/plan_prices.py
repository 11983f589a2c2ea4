"""What a plan's requests cost: a row and the whole load, as expected and at most."""

from collections.abc import Sequence
from dataclasses import astuple, dataclass
from datetime import date
from decimal import Decimal

import duckdb

from batch_pipeline.claude.prices import PriceTable, load_prices
from batch_pipeline.ledger import Load
from batch_pipeline.ledger.records import Lane
from batch_pipeline.ledger.transactions import now
from batch_pipeline.measure.caching import LOW_HITS, CacheChoice, Hits
from batch_pipeline.measure.estimate import (
    LongRows,
    MeanInterval,
    RequestSize,
    cost_of,
    most_of,
    rates_of,
)
from batch_pipeline.measure.tokens import tokens_per_byte
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.plan import Interval, TierPlan
from batch_pipeline.stages.request_tokens import GUESSED, RequestTokens
from batch_pipeline.stages.token_sample import long_rows
from batch_pipeline.workload.spec import TierSpec

# Some rows have more tokens to the byte than the average one.
_LONGER = 1.25


def today() -> date:
    """The day whose prices count, as the API bills in UTC."""
    return now().date()


@dataclass(frozen=True)
class ExpectedTier:
    """What is expected of one tier before it is priced."""

    spec: TierSpec
    tokens: RequestTokens
    output: MeanInterval
    choice: CacheChoice
    hits: Hits


def priced_tiers(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    record: Load,
    tiers: Sequence[ExpectedTier],
    lane: Lane,
    requests: int,
    escalation: MeanInterval,
) -> tuple[tuple[TierPlan, ...], float, float]:
    """The tiers' plans, what the load should cost, and what it costs at most."""
    table = load_prices(context.settings.prices)
    plans: list[TierPlan] = []
    typical, most = Decimal(0), Decimal(0)
    for position, tier in enumerate(tiers):
        n = requests * Decimal(str(escalation.mean**position))
        n_most = requests * (Decimal(1) if not position else Decimal(str(escalation.high)))
        cache = tier.choice.cache if tier.choice.works else "none"
        tokens = tier.tokens
        usual = RequestSize.of(tokens.prefix, tokens.own.mean, tier.output.mean)
        longer = 1.0 if tokens.counted_by == GUESSED else _LONGER
        bytes_as = tokens_per_byte(tier.spec.model)
        long_usual, long_most = (
            long_of(connection, context, record, table, tier.spec.model, each, per_byte)
            for each, per_byte in (
                (tokens.prefix + tokens.own.mean, bytes_as.mean),
                (longer * (tokens.prefix + tokens.own.high), bytes_as.high),
            )
        )
        pricing = {"batch": lane is Lane.BATCH, "us": tier.spec.inference_geo == "us"}
        rates = rates_of(table, tier.spec.model, today(), **pricing, long=long_usual)
        # A tier that nobody is expected at has its price all the same.
        row = cost_of(rates, usual, n or 1, cache, tier.hits.share).total / (n or 1)
        dear = rates_of(table, tier.spec.model, today(), **pricing, long=long_most)
        longest = RequestSize.of(tokens.prefix, tokens.own.high, tier.output.high)
        row_most = most_of(dear, longest, 1, tier.choice.cache)
        if tier.hits.measured and tier.hits.share >= LOW_HITS:
            few = cost_of(dear, longest, Decimal(1_000), tier.choice.cache, LOW_HITS).total / 1_000
            row_most = max(cost_of(dear, longest, 1).total, few)
        typical += row * n
        most += row_most * n_most
        plans.append(
            TierPlan(
                model=tier.spec.model,
                prefix_tokens=tokens.prefix,
                input_tokens=kept_interval(tokens.own),
                output_tokens=kept_interval(tier.output),
                cache=tier.choice.cache,
                cache_why=tier.choice.why,
                hit_share=float(tier.hits.share) if tier.choice.cache != "none" else 0.0,
                row_usd=float(row),
                row_bound_usd=float(max(row_most, row)),
            )
        )
    return tuple(plans), float(typical), float(max(most, typical))


def long_of(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    record: Load,
    table: PriceTable,
    model: str,
    tokens: float,
    per_byte: float,
) -> LongRows | None:
    """The rows whose prompt is above the model's price threshold; None where it has none.

    `tokens` are those of a request on average, its prefix included.
    """
    threshold = table.facts(model).on(today()).threshold
    if threshold is None:
        return None
    return long_rows(connection, context, record, threshold, tokens, per_byte)


def kept_interval(mean: MeanInterval) -> Interval:
    """As a plan keeps it."""
    return Interval(*astuple(mean))


def mean_of(interval: Interval) -> MeanInterval:
    """As it is computed with."""
    return MeanInterval(*astuple(interval))
