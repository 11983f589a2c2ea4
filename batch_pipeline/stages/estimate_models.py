"""One model's part in an estimate: the size of its requests, its rates and its cache; and other models beside it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal

import duckdb

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.prices import ModelFacts, PriceTable
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Load
from batch_pipeline.ledger.records import Lane
from batch_pipeline.measure.caching import CacheChoice, Hits, choose_cache
from batch_pipeline.measure.estimate import (
    LongRows,
    Number,
    RequestSize,
    cost_of,
    long_prompts,
    rates_of,
)
from batch_pipeline.measure.load_estimate import PricedTier, Volume
from batch_pipeline.measure.tokens import (
    THINKING_TOKENS,
    guessed_output,
    thinks_unasked,
    tokenizer_factor,
    tokens_per_byte,
)
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.past_answers import PastAnswers
from batch_pipeline.stages.plan import LoadPlan
from batch_pipeline.stages.plan_prices import long_of, today
from batch_pipeline.stages.request_tokens import COUNTED, measure_tokens
from batch_pipeline.stages.shared_prefix import find_shared_prefix
from batch_pipeline.stages.token_sample import draw_rows, params_of
from batch_pipeline.workload.spec import TierSpec

_RECOUNTED_ROWS = 20
# A mean is shown and priced to this: more digits say nothing.
_TENTH = Decimal("0.1")


@dataclass(frozen=True)
class Asked:
    """What a person put in place of what was found; None leaves it as found."""

    rows: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    prefix_tokens: int | None = None
    hit_share: Decimal | None = None
    loads_per_month: Decimal | None = None
    engineering_days: Decimal | None = None
    day_rate_usd: Decimal | None = None


@dataclass(frozen=True)
class Candidate:
    """The same load on one model alone, nobody climbing. US dollars a load; `usd` in the load's lane."""

    model: str
    size: RequestSize
    counted: bool
    sync_usd: Decimal
    usd: Decimal
    cache: str
    cache_why: str
    retires: str | None


def candidate_models(table: PriceTable, models: Sequence[str] | None) -> list[str]:
    """Those to compare. Raises ConfigurationError for one that has no price or is retired."""
    if models is None:
        return [name for name in table.known_models() if not _retired(table.facts(name))]
    for model in models:
        check_model(table, model)
    return list(models)


def check_model(table: PriceTable, model: str) -> None:
    facts = table.facts(model)
    if _retired(facts):
        raise ConfigurationError(
            f"Model {model} was retired on {facts.retires}: the API answers nothing for it; use another one."
        )


def _retired(facts: ModelFacts) -> bool:
    return facts.retires is not None and facts.retires <= today()


def request_size(asked: Asked, prefix: Number, own: Number, output: Number) -> RequestSize:
    def chosen(stated: int | None, found: Number) -> Decimal:
        return Decimal(stated) if stated is not None else Decimal(str(found)).quantize(_TENTH)

    return RequestSize(
        chosen(asked.prefix_tokens, prefix),
        chosen(asked.input_tokens, own),
        chosen(asked.output_tokens, output),
    )


def price_tier(
    table: PriceTable,
    model: str,
    size: RequestSize,
    declared: str,
    requests: Number,
    hits: Hits,
    lane: str,
    *,
    us: bool,
    share: Decimal,
    long: LongRows | None,
) -> tuple[PricedTier, CacheChoice]:
    full = rates_of(table, model, today(), batch=False, us=us, long=long)
    batched = rates_of(table, model, today(), batch=True, us=us, long=long)
    rates = batched if lane == Lane.BATCH else full
    choice = choose_cache(
        declared,
        model=model,
        prefix_tokens=int(size.prefix),
        minimum=table.facts(model).min_cacheable_tokens,
        requests=round(requests),
        rates=rates,
        hits=hits,
        automatic="1h" if lane == Lane.BATCH else "5m",
    )
    cache = choice.cache if choice.works else "none"
    return PricedTier(model, size, cache, share, rates, full, batched), choice


def long_prompts_of(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    record: Load,
    table: PriceTable,
    model: str,
    size: RequestSize,
    asked: Asked,
) -> LongRows | None:
    if asked.input_tokens is not None or asked.prefix_tokens is not None:
        return long_prompts(table, model, today(), size)
    tokens, per_byte = float(size.prefix + size.input), tokens_per_byte(model).mean
    return long_of(connection, context, record, table, model, tokens, per_byte)


def price_candidate(
    table: PriceTable,
    model: str,
    size: RequestSize,
    declared: str,
    volume: Volume,
    hits: Hits,
    lane: str,
    *,
    long: LongRows | None,
    counted: bool,
) -> Candidate:
    tier, choice = price_tier(
        table,
        model,
        size,
        declared,
        volume.requests,
        hits,
        lane,
        us=False,
        share=Decimal(1),
        long=long,
    )
    retires = table.facts(model).retires
    return Candidate(
        model=model,
        size=size,
        counted=counted,
        sync_usd=cost_of(tier.sync_rates, size, volume.requests).total,
        usd=cost_of(tier.rates, size, volume.requests, tier.cache, hits.share).total,
        cache=tier.cache,
        cache_why=choice.why,
        retires=None if retires is None else retires.isoformat(),
    )


class SizesElsewhere:
    """The sizes of the same requests on other models: counted anew on a few rows, or scaled by the tokenizer."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        context: LoadContext,
        record: Load,
        table: PriceTable,
        plan: LoadPlan,
        asked: Asked,
        past: PastAnswers,
        api: Callable[[], BatchesApi] | None,
    ) -> None:
        self._workload, self._table, self._asked = context.workload, table, asked
        self._plan, self._past = plan, past
        self._api = api() if api is not None and plan.counted_by == COUNTED else None
        self._found: dict[float, tuple[Decimal, Decimal, bool]] = {}
        first = plan.tiers[0]
        self._found[tokenizer_factor(first.model)] = (
            Decimal(first.prefix_tokens),
            Decimal(str(first.input_tokens.mean)),
            plan.counted_by == COUNTED,
        )
        self._prefix = find_shared_prefix(
            connection, context.workload, context.folder(record).source
        )
        self._sample = draw_rows(connection, context, record, _RECOUNTED_ROWS)

    def of(self, model: str) -> tuple[RequestSize, bool]:
        """The size on a model, and whether the API counted its input."""
        factor = tokenizer_factor(model)
        if factor not in self._found:
            self._found[factor] = self._other(model, factor)
        prefix, own, counted = self._found[factor]
        return request_size(self._asked, prefix, own, self._output(model)), counted

    def _other(self, model: str, factor: float) -> tuple[Decimal, Decimal, bool]:
        """In the relation that a few rows have on both models, so that the sample's mean is kept."""
        first = self._plan.tiers[0]
        ratio = factor / tokenizer_factor(first.model)
        counted = False
        if self._api is not None:
            params = params_of(self._workload, 0, self._sample.rows)
            here, there = (
                measure_tokens(
                    [{k: v for k, v in each.items() if k != "thinking"} for each in params],
                    each_model,
                    self._prefix,
                    self._sample.requests,
                    api=self._api,
                    count_rows=True,
                    minimum=0,
                )
                for each_model in (first.model, model)
            )
            if here.counted_by == there.counted_by == COUNTED:
                ratio = (there.prefix + there.own.mean) / max(here.prefix + here.own.mean, 1.0)
                counted = True
        scale = Decimal(str(ratio))
        return (
            Decimal(first.prefix_tokens) * scale,
            Decimal(str(first.input_tokens.mean)) * scale,
            counted,
        )

    def _output(self, model: str) -> float:
        """As its answers were measured if it is the first tier; the same text's tokens, or a guess, on others."""
        first, spec = self._plan.tiers[0], self._workload.spec.tiers[0]
        if model == first.model:
            return first.output_tokens.mean
        known = self._past.output.get(0)
        thinks = _thinks(model, spec)
        if known is not None:
            text = known.mean * tokenizer_factor(model) / tokenizer_factor(first.model)
            added = THINKING_TOKENS if thinks and not _thinks(first.model, spec) else 0
            return min(text + added, float(spec.max_tokens))
        return guessed_output(self._workload.contract, model, spec.max_tokens, thinks=thinks).mean


def _thinks(model: str, spec: TierSpec) -> bool:
    """Whether a model would think before it answers, were it asked as the tier declares."""
    if spec.thinking is None:
        return thinks_unasked(model)
    return spec.thinking.get("type") != "disabled"
