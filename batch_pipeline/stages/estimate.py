"""What a load would cost before anything is sent, line by line, and beside it the same on other models.

Leaves no trace: a load that was not begun is read into a folder that is removed, and nothing is kept.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.prices import PriceTable, load_prices
from batch_pipeline.ledger import Ledger, Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.measure.caching import (
    ASSUMED,
    CacheChoice,
    Hits,
)
from batch_pipeline.measure.estimate import (
    RequestSize,
    long_prompts,
    share_of,
)
from batch_pipeline.measure.load_estimate import PricedTier, Volume
from batch_pipeline.measure.tokens import thinks_unasked, tokenizer_factor
from batch_pipeline.rows.query import querying
from batch_pipeline.settings import Settings
from batch_pipeline.stages.budget import whole_load
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.estimate_budgets import budgets_before, cost_so_far
from batch_pipeline.stages.estimate_models import (
    Asked,
    SizesElsewhere,
    candidate_models,
    check_model,
    long_prompts_of,
    price_candidate,
    price_tier,
    request_size,
)
from batch_pipeline.stages.estimate_sum import BudgetLeft, Estimate, put_together
from batch_pipeline.stages.make_plan import draft_plan
from batch_pipeline.stages.past_answers import PastAnswers, earlier_answers
from batch_pipeline.stages.pilot import under_way
from batch_pipeline.stages.plan import LoadPlan
from batch_pipeline.stages.plan_prices import today
from batch_pipeline.stages.retired_models import require_models_in_service, retiring_soon
from batch_pipeline.stages.shared_prefix import require_constant_prefix
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.token_sample import SAMPLE_ROWS
from batch_pipeline.workload.cron import days_per_year
from batch_pipeline.workload.workload import Workload

LOADS_PER_MONTH = Decimal(30)
_TENTH = Decimal("0.1")


def estimate_workload(
    workload: Workload,
    load: str,
    settings: Settings,
    asked: Asked,
    *,
    api: Callable[[], BatchesApi] | None,
    sample_rows: int = SAMPLE_ROWS,
    models: Sequence[str] | None = None,
) -> Estimate:
    """Prices one load of a workload.

    Args:
        workload: whose.
        load: its day; read from the source where it was not begun.
        settings: where state and prices are.
        asked: numbers to use instead.
        api: makes the client that counts tokens; None for a guess.
        sample_rows: how many requests to count.
        models: candidates beside the declared tiers; by default all that are priced and not retired.

    Raises:
        ConfigurationError: the source is not as declared, or a model, declared or a candidate, has no price or is
            retired.
        PipelineError: a prefix that is to be cached varies between rows.
    """
    table = load_prices(settings.prices)
    candidates = candidate_models(table, models)
    require_models_in_service(workload, settings)
    with _opened(workload, load, settings) as (context, record, connection):
        # Else it was read into a scratch state of its own.
        begun = context.settings is settings
        past = _past(connection, workload, load, settings, record, begun=begun)
        # What is known is known better than a hit share that somebody asks about.
        hits = past.hits or ASSUMED
        if asked.hit_share is not None:
            hits = Hits(asked.hit_share, measured=False)
        require_constant_prefix(connection, context, record)
        plan = draft_plan(
            connection,
            context,
            record,
            api,
            replace(past, hits=hits),
            count_rows=True,
            sample_rows=sample_rows,
        )
        tiers, choices = _declared_tiers(connection, context, record, table, plan, asked, hits)
        volume = _volume(record, plan, asked, past)
        left = _budgets_left(connection, context, record, settings, plan, begun=begun)
        notes = [*retiring_soon(workload, settings)]
        if begun:
            notes.insert(0, _about_begun(connection, context, record))
        sized = SizesElsewhere(connection, context, record, table, plan, asked, past, api)
        others = [
            price_candidate(
                table,
                model,
                size,
                workload.prompt.cache,
                volume,
                hits,
                plan.lane.value,
                long=long_prompts_of(connection, context, record, table, model, size, asked),
                counted=counted,
            )
            for model in candidates
            for size, counted in [sized.of(model)]
        ]
    gates = workload.spec.gates
    return put_together(
        tiers,
        choices,
        volume,
        hits,
        asked,
        lane=plan.lane.value,
        lane_why=plan.lane_why,
        deadline=workload.spec.sync.deadline_hours,
        notes=[*notes, *plan.notes],
        past=past,
        workload=workload.name,
        load=load,
        loads_per_month=(
            loads_per_month(workload.spec.schedule)
            if asked.loads_per_month is None
            else asked.loads_per_month
        ),
        bound_usd=None if _changes_size(asked) else Decimal(str(plan.bound_usd)),
        max_cost_usd=gates.max_cost_usd,
        max_cost_usd_per_month=gates.max_cost_usd_per_month,
        budgets=() if _changes_size(asked) else left,
        candidates=others,
        plan=plan,
        escalation=plan.escalation.mean,
    )


def estimate_numbers(
    model: str, settings: Settings, asked: Asked, *, models: Sequence[str] | None, lane: str
) -> Estimate:
    """Prices a load of which only the numbers are known, on one model; `asked` has rows, input and output tokens."""
    table = load_prices(settings.prices)
    candidates = candidate_models(table, models)
    assert asked.rows is not None
    check_model(table, model)
    hits = ASSUMED if asked.hit_share is None else Hits(asked.hit_share, measured=False)
    volume = Volume(asked.rows)
    size = RequestSize.of(
        asked.prefix_tokens or 0, asked.input_tokens or 0, asked.output_tokens or 0
    )
    tier, choice = price_tier(
        table,
        model,
        size,
        "auto",
        volume.requests,
        hits,
        lane,
        us=False,
        share=Decimal(1),
        long=long_prompts(table, model, today(), size),
    )
    others = []
    for other in candidates:
        factor = Decimal(str(tokenizer_factor(other) / tokenizer_factor(model)))
        scaled = RequestSize(size.prefix * factor, size.input * factor, size.output * factor)
        others.append(
            price_candidate(
                table,
                other,
                scaled,
                "auto",
                volume,
                hits,
                lane,
                long=long_prompts(table, other, today(), scaled),
                counted=False,
            )
        )
    return put_together(
        [tier],
        [choice],
        volume,
        hits,
        asked,
        lane=lane,
        lane_why="As asked.",
        deadline=None,
        notes=_unasked_thinking(model, candidates),
        past=PastAnswers(),
        workload=None,
        load=None,
        loads_per_month=Decimal(1) if asked.loads_per_month is None else asked.loads_per_month,
        bound_usd=None,
        max_cost_usd=None,
        max_cost_usd_per_month=None,
        budgets=(),
        candidates=others,
        plan=None,
        escalation=0.0,
    )


def loads_per_month(schedule: str | None) -> Decimal:
    """Loads that a schedule begins in an average month; 30 without one. A day has one load at most."""
    if schedule is None:
        return LOADS_PER_MONTH
    return (Decimal(days_per_year(schedule)) / 12).quantize(_TENTH)


@contextmanager
def _opened(
    workload: Workload, load: str, settings: Settings
) -> Iterator[tuple[LoadContext, Load, duckdb.DuckDBPyConnection]]:
    """The load as it was read, or as it would be; whatever this writes is gone afterwards."""
    ledger = Ledger.existing(settings)
    record = ledger.load(workload.name, load) if ledger else None
    with tempfile.TemporaryDirectory(prefix="batch-pipeline-estimate-") as place:
        scratch = Path(place)
        if ledger is not None and record is not None and record.purged_at is None:
            context = LoadContext(workload, load, settings, ledger)
        else:
            context = LoadContext.open(workload, load, settings.embedded_in(scratch / "state"))
            read_source(context)
            record = context.record()
        with querying(scratch) as connection:
            yield context, record, connection


def _past(
    connection: duckdb.DuckDBPyConnection,
    workload: Workload,
    load: str,
    settings: Settings,
    record: Load,
    *,
    begun: bool,
) -> PastAnswers:
    ledger = Ledger.existing(settings)
    if ledger is None:
        return PastAnswers()
    context = LoadContext(workload, load, settings, ledger)
    return earlier_answers(connection, context, record, with_own=begun)


def _about_begun(connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load) -> str:
    spent = cost_so_far(connection, context, record)
    usd = f"${spent:,.2f}" if spent >= 1 else f"${spent:,.4f}"
    if record.phase is Phase.SETTLED:
        return (
            f"{context} is settled and has cost {usd}. This is what one more load like it should cost, by what its "
            "answers and those before taught."
        )
    return f"{context} is under way, and its answers so far have cost {usd}. This is what all of it should cost."


def _budgets_left(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    record: Load,
    settings: Settings,
    plan: LoadPlan,
    *,
    begun: bool,
) -> list[BudgetLeft]:
    gates = context.workload.spec.gates
    if gates.max_cost_usd is None and gates.max_cost_usd_per_month is None:
        return []
    ledger = Ledger.existing(settings)
    kept = replace(context, settings=settings, ledger=ledger) if ledger is not None else context
    # As `run` does: with a pilot to come, answers whose length is a guess are no reason to send nothing.
    piloted = under_way(context, record)
    first = whole_load(plan).most if piloted else plan.bound_usd
    return [
        BudgetLeft(
            budget.option,
            budget.limit,
            Decimal(str(budget.committed)),
            "ABOVE"
            if first > budget.left
            else "pilot"
            if plan.bound_usd > budget.left
            else "within",
        )
        for budget in budgets_before(connection, kept, record, begun=begun)
    ]


def _unasked_thinking(model: str, candidates: Sequence[str]) -> list[str]:
    """What the output tokens that were given may lack on models that think unless they are told not to."""
    thinking = sorted({name for name in (model, *candidates) if thinks_unasked(name)})
    if not thinking:
        return []
    names = ", ".join(thinking)
    note = (
        "Output tokens are taken as given for every model. These think before they answer unless `thinking` is "
        f"disabled, which is charged as output and not in the sum unless you counted it in: {names}."
    )
    return [note]


def _changes_size(asked: Asked) -> bool:
    return any(
        value is not None
        for value in (asked.rows, asked.input_tokens, asked.output_tokens, asked.prefix_tokens)
    )


def _volume(record: Load, plan: LoadPlan, asked: Asked, past: PastAnswers) -> Volume:
    rows = record.source_rows if asked.rows is None else asked.rows
    repeated = share_of(plan.duplicates, record.source_rows)
    return Volume(rows, rows * repeated, record.golden_rows, past.paid_again)


def _declared_tiers(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    record: Load,
    table: PriceTable,
    plan: LoadPlan,
    asked: Asked,
    hits: Hits,
) -> tuple[list[PricedTier], list[CacheChoice]]:
    tiers, choices = [], []
    for position, (spec, planned) in enumerate(
        zip(context.workload.spec.tiers, plan.tiers, strict=True)
    ):
        size = request_size(
            asked,
            planned.prefix_tokens,
            planned.input_tokens.mean,
            planned.output_tokens.mean,
        )
        share = Decimal(str(plan.escalation.mean**position))
        tier, choice = price_tier(
            table,
            spec.model,
            size,
            context.workload.prompt.cache,
            plan.requests * share,
            hits,
            plan.lane.value,
            us=spec.inference_geo == "us",
            share=share,
            long=long_prompts_of(connection, context, record, table, spec.model, size, asked),
        )
        tiers.append(tier)
        choices.append(choice)
    return tiers, choices
