"""Makes a load's plan: what its requests hold, what they should cost at most, which lane and cache they take.

Made once, when the load was read, and kept; after the pilot once more from what that measured, and then the lane,
the cache and the shared head stay as they were, so that all chunks begin alike.
"""

import hashlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, replace
from decimal import Decimal
from pathlib import Path

import duckdb
import orjson

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.prices import load_prices
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Load
from batch_pipeline.ledger.records import Lane
from batch_pipeline.ledger.transactions import now
from batch_pipeline.measure.caching import (
    ASSUMED,
    USUAL_MINIMUM,
    CacheChoice,
    Hits,
    choose_cache,
)
from batch_pipeline.measure.estimate import (
    MeanInterval,
    rates_of,
)
from batch_pipeline.measure.lane import choose_lane
from batch_pipeline.measure.tokens import (
    guessed_output,
    thinks_unasked,
    tokenizer_factor,
)
from batch_pipeline.rows.place import version_of
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.past_answers import PastAnswers, earlier_answers, own_answers
from batch_pipeline.stages.plan import LoadPlan, TierPlan, keep_plan, kept_plan
from batch_pipeline.stages.plan_prices import (
    ExpectedTier,
    kept_interval,
    mean_of,
    priced_tiers,
    today,
)
from batch_pipeline.stages.request_tokens import COUNTED, GUESSED, RequestTokens, measure_tokens
from batch_pipeline.stages.shared_prefix import find_shared_prefix
from batch_pipeline.stages.states import live_chunks
from batch_pipeline.stages.token_sample import SAMPLE_ROWS, draw_rows, params_of

_INPUT_GUESSED = "Input tokens are a guess from the texts' bytes"
OUTPUT_GUESSED = (
    "Output tokens are a guess from the contract, at most max_tokens: no earlier load of this declaration says how "
    "long its answers are."
)
# Where no earlier load says how many rows climb: an assumption, and said to be one.
_ESCALATION = MeanInterval(0.05, 0.0, 0.25)


def plan_load(context: LoadContext, record: Load, api: Callable[[], BatchesApi] | None) -> LoadPlan:
    """The plan that the load follows: the kept one, or one that is made and kept now.

    A plan of which nothing was sent yet is made anew when the declaration or the source has changed. Tokens are
    counted only where it matters: a budget is declared, or the shared prefix may be long enough to be cached.

    Args:
        context: the load.
        record: its record; its source was read.
        api: makes the client, called only to count; None to guess.
    """
    folder = context.folder(record)
    kept, made_for = kept_plan(folder), _made_for(context, record)
    if kept is not None and (
        kept.made_for == made_for or live_chunks(context.ledger.chunks(record))
    ):
        return kept
    gates = context.workload.spec.gates
    budget = gates.max_cost_usd is not None or gates.max_cost_usd_per_month is not None
    with context.querying() as connection:
        past = earlier_answers(connection, context, record)
        plan = draft_plan(connection, context, record, api, past, count_rows=budget)
    plan = replace(plan, made_for=made_for)
    keep_plan(folder, plan)
    return plan


def plan_after_pilot(context: LoadContext, record: Load) -> LoadPlan:
    """The kept plan with what the load's own answers measured so far: answer lengths, rows that climb, cache hits.

    Where the input was only guessed it is now what was charged. Kept in place of the first. Raises
    PipelineError where the load has no plan.
    """
    folder = context.folder(record)
    kept = kept_plan(folder)
    if kept is None:
        raise PipelineError(f"{context} has no plan; materialise source_rows first.")
    with context.querying() as connection:
        own = own_answers(connection, context, record)
        tiers = _corrected(context, kept, own)
        escalation = own.escalation or mean_of(kept.escalation)
        priced, typical, most = priced_tiers(
            connection, context, record, tiers, kept.lane, kept.requests, escalation
        )
    plan = replace(
        kept,
        made_at=now(),
        counted_by="pilot" if own.input and kept.counted_by == GUESSED else kept.counted_by,
        output_from="pilot" if own.output else kept.output_from,
        notes=tuple(
            note
            for note in kept.notes
            if not (own.output and note == OUTPUT_GUESSED)
            and not (own.input and note.startswith(_INPUT_GUESSED))
        ),
        escalation=kept_interval(escalation),
        tiers=priced,
        typical_usd=typical,
        bound_usd=most,
        before_pilot=kept.foreseen_usd,
    )
    keep_plan(folder, plan)
    return plan


def plan_caching(
    context: LoadContext, record: Load, plan: LoadPlan, tier: int, requests: int
) -> LoadPlan:
    """The plan with the caching of one tier decided anew, as it is declared now and by what is known now.

    Of a later tier that is how many rows climb to it: on a night on which more do than ever before, the dearest
    model would else read a long prefix anew with each. After the pilot it is how often the prefix was found.
    What is decided is kept.

    Args:
        context: the load.
        record: its record.
        plan: what it follows.
        tier: a tier that is about to be sent to.
        requests: how many are.
    """
    declared = context.workload.prompt.cache
    if not plan.tiers[tier].prefix_tokens:
        return plan
    table = load_prices(context.settings.prices)
    model = plan.tiers[tier].model
    with context.querying() as connection:
        own = own_answers(connection, context, record)
        hits = own.hits or earlier_answers(connection, context, record).hits or ASSUMED
        choice = choose_cache(
            declared,
            model=model,
            prefix_tokens=plan.tiers[tier].prefix_tokens,
            minimum=table.facts(model).min_cacheable_tokens,
            requests=requests,
            rates=rates_of(table, model, today(), batch=plan.lane == Lane.BATCH),
            hits=hits,
            automatic="1h" if plan.lane == Lane.BATCH else "5m",
        )
        if choice.cache == plan.tiers[tier].cache:
            return plan
        tiers = _corrected(context, plan, own)
        tiers[tier] = replace(tiers[tier], choice=choice, hits=hits)
        priced, _, _ = priced_tiers(
            connection, context, record, tiers, plan.lane, plan.requests, mean_of(plan.escalation)
        )
    changed = (*plan.tiers[:tier], priced[tier], *plan.tiers[tier + 1 :])
    plan = replace(plan, tiers=changed)
    keep_plan(context.folder(record), plan)
    return plan


def _corrected(context: LoadContext, kept: LoadPlan, own: PastAnswers) -> list[ExpectedTier]:
    """The tiers of a kept plan with what the load's own answers measured."""
    return [
        ExpectedTier(
            spec=spec,
            tokens=_measured_input(tier, position, kept, own),
            output=own.output.get(position, mean_of(tier.output_tokens)),
            choice=CacheChoice(tier.cache, works=_reaches(context, tier), why=tier.cache_why),
            hits=own.hits or Hits(Decimal(str(tier.hit_share)), measured=False),
        )
        for position, (spec, tier) in enumerate(
            zip(context.workload.spec.tiers, kept.tiers, strict=True)
        )
    ]


def draft_plan(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    record: Load,
    api: Callable[[], BatchesApi] | None,
    past: PastAnswers,
    *,
    count_rows: bool,
    sample_rows: int = SAMPLE_ROWS,
) -> LoadPlan:
    """A plan, made and not kept. `count_rows`: whether the sample is counted by the API, if it can be."""
    workload, spec = context.workload, context.workload.spec
    table = load_prices(context.settings.prices)
    lane, lane_why = choose_lane(
        spec.lane,
        source_rows=record.source_rows,
        below_rows=spec.sync.below_rows,
        deadline_hours=spec.sync.deadline_hours,
    )
    prefix = find_shared_prefix(connection, workload, context.folder(record).source)
    sample = draw_rows(connection, context, record, sample_rows)
    escalation = _expected_escalation(len(spec.tiers), past)
    counted: dict[float, RequestTokens] = {}
    tiers: list[ExpectedTier] = []
    client = _Client(api)
    for position, tier in enumerate(spec.tiers):
        minimum = table.facts(tier.model).min_cacheable_tokens
        factor = tokenizer_factor(tier.model)
        if factor not in counted:
            least = min(
                table.facts(each.model).min_cacheable_tokens or USUAL_MINIMUM
                for each in spec.tiers
                if tokenizer_factor(each.model) == factor
            )
            counted[factor] = measure_tokens(
                params_of(workload, position, sample.rows),
                tier.model,
                prefix,
                sample.requests,
                api=client.get(
                    wanted=count_rows
                    or _may_be_cached(workload.prompt.cache, prefix.text, least, factor)
                ),
                count_rows=count_rows,
                minimum=least,
                more_bytes=sample.more_bytes,
            )
            if counted[factor].counted_by == GUESSED and counted[factor].problem:
                # Asked again for another model, it would take its time to fail again.
                client.problem = counted[factor].problem
        tokens = counted[factor]
        share = escalation.mean**position
        hits = past.hits or ASSUMED
        choice = choose_cache(
            workload.prompt.cache,
            model=tier.model,
            prefix_tokens=tokens.prefix,
            minimum=minimum,
            requests=round(sample.requests * share),
            rates=rates_of(table, tier.model, today(), batch=lane == Lane.BATCH),
            hits=hits,
            # Synchronous requests follow each other within minutes.
            automatic="1h" if lane == Lane.BATCH else "5m",
        )
        tiers.append(
            ExpectedTier(tier, tokens, _expected_output(context, position, past), choice, hits)
        )
    priced, typical, most = priced_tiers(
        connection, context, record, tiers, Lane(lane), sample.requests, escalation
    )
    if prefix.varying:
        why = f"The system prompt differs between rows ({', '.join(prefix.varying)}), so nothing is shared."
        priced = tuple(replace(tier, cache_why=why) for tier in priced)
    first = counted[tokenizer_factor(spec.tiers[0].model)]
    return LoadPlan(
        made_at=now(),
        lane=Lane(lane),
        lane_why=lane_why,
        counted_by=first.counted_by,
        output_from="history" if past.output else GUESSED,
        sampled_rows=first.sampled,
        head_parts=prefix.head_parts,
        escalation=kept_interval(escalation),
        tiers=priced,
        typical_usd=typical,
        bound_usd=most,
        requests=sample.requests,
        duplicates=sample.duplicates,
        notes=tuple(_notes(first, client, min(sample_rows, sample.requests), past)),
    )


class _Client:
    """The API, if there is one, opened at the first call; and why there is none."""

    def __init__(self, api: Callable[[], BatchesApi] | None) -> None:
        self._api = api
        self.problem: str | None = None

    def get(self, *, wanted: bool) -> BatchesApi | None:
        if not wanted or self._api is None or self.problem is not None:
            return None
        try:
            return self._api()
        except PipelineError as error:
            self.problem = str(error)
            return None


def _may_be_cached(declared: str, prefix: str, minimum: int, factor: float) -> bool:
    return declared != "none" and factor * len(prefix.encode()) / 2 >= minimum


def _reaches(context: LoadContext, tier: TierPlan) -> bool:
    facts = load_prices(context.settings.prices).facts(tier.model)
    return tier.cache != "none" and tier.prefix_tokens >= (
        USUAL_MINIMUM if facts.min_cacheable_tokens is None else facts.min_cacheable_tokens
    )


def _expected_output(context: LoadContext, position: int, past: PastAnswers) -> MeanInterval:
    tier = context.workload.spec.tiers[position]
    known = past.output.get(position)
    if known is not None:
        most = float(tier.max_tokens)
        return MeanInterval(min(known.mean, most), min(known.low, most), min(known.high, most))
    thinks = (
        thinks_unasked(tier.model)
        if tier.thinking is None
        else tier.thinking.get("type") != "disabled"
    )
    return guessed_output(context.workload.contract, tier.model, tier.max_tokens, thinks=thinks)


def _expected_escalation(tiers: int, past: PastAnswers) -> MeanInterval:
    if tiers == 1:
        return MeanInterval(0.0, 0.0, 0.0)
    return past.escalation or _ESCALATION


def _measured_input(
    tier: TierPlan, position: int, kept: LoadPlan, own: PastAnswers
) -> RequestTokens:
    tokens = RequestTokens(
        tier.prefix_tokens,
        mean_of(tier.input_tokens),
        kept.counted_by,
        kept.sampled_rows,
    )
    if kept.counted_by == COUNTED or own.input is None or position:
        return tokens
    prefix = min(tier.prefix_tokens, int(own.input.low))
    less = MeanInterval(*(max(each - prefix, 0.0) for each in astuple(own.input)))
    return replace(tokens, prefix=prefix, own=less, counted_by="pilot")


def _notes(tokens: RequestTokens, client: _Client, wanted: int, past: PastAnswers) -> list[str]:
    notes: list[str] = []
    problem = tokens.problem or client.problem
    if tokens.counted_by == GUESSED:
        notes.append(
            _INPUT_GUESSED
            + (f", because count_tokens was not to be had: {problem}" if problem else "")
            + ("" if problem and problem.endswith(".") else ".")
        )
    elif tokens.sampled < wanted:
        notes.append(
            f"{tokens.sampled} rows were counted instead of {wanted}"
            + (f": {problem}" if problem else ".")
        )
    if not past.output:
        notes.append(OUTPUT_GUESSED)
    return notes


def _made_for(context: LoadContext, record: Load) -> str:
    """A digest of all that a plan depends on and that may change until something was sent."""
    spec = context.workload.spec.model_dump(
        mode="json",
        include={"prompt", "tiers", "gates", "lane", "sync", "dedupe", "output"},
    )
    source = context.folder(record).source
    looked: list[object] = [0, 0]
    if isinstance(source, Path):
        with suppress(FileNotFoundError):
            stat = source.stat()
            looked = [stat.st_size, stat.st_mtime_ns]
    else:
        looked = list(version_of(source) or looked)
    facts = [spec, context.workload.fingerprint(), record.generation, looked]
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()
