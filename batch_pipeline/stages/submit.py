"""batch_submission: sends every row that is due, each once, by the send protocol.

Body to disk, intent to the ledger, one POST, batch id to the ledger. A crash or a lost answer in between
leaves an intent that nobody can read as "not sent": nothing else of the load is sent until it is resolved.
Whatever else stops the sending is written down with the load, so that whoever comes next knows when to go on.
"""

from collections.abc import Callable
from pathlib import Path

import duckdb

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import ChunkState, Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.ledger.transactions import now
from batch_pipeline.stages.budget import breach, price_collected, to_come, whole_load
from batch_pipeline.stages.chunks import SendSummary, send_tier
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.make_plan import plan_after_pilot, plan_caching, plan_load
from batch_pipeline.stages.pilot import judge_pilot, under_way, withhold_the_rest
from batch_pipeline.stages.plan import LoadPlan
from batch_pipeline.stages.promotable import require_load_promotable
from batch_pipeline.stages.resolve import needs_resolving, resolve_held
from batch_pipeline.stages.retired_models import require_models_in_service
from batch_pipeline.stages.reuse import carry_over
from batch_pipeline.stages.same_prompts import find_passengers
from batch_pipeline.stages.send import SendingEndsError, resume_sync
from batch_pipeline.stages.settle import settle
from batch_pipeline.stages.shared_prefix import require_constant_prefix
from batch_pipeline.stages.states import derive_states, live_chunks


def send_pending(
    context: LoadContext,
    api: Callable[[], BatchesApi],
    on_batch: Callable[[SendSummary], None] = lambda _: None,
) -> SendSummary:
    """Sends all rows of the load that are due: never sent, to be sent again, or climbing a tier.

    A load that was stopped (a spend limit, a refused key) is tried again: somebody asked for it.

    Args:
        context: the load.
        api: makes the API client; called only when there is something to send or to look for.
        on_batch: called after each batch that the API accepted.

    Raises:
        PipelineError: the API refused for good, or the workload changed meanwhile. What was sent before
            stays recorded; calling again continues.
    """
    with context.querying() as connection:
        return send_due(connection, context, api, on_batch, asked=True)


def send_due(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    api: Callable[[], BatchesApi],
    on_batch: Callable[[SendSummary], None],
    *,
    asked: bool = False,
) -> SendSummary:
    """As `send_pending`; leaves the table `states` on the connection, as it is when all was sent.

    Unless it is `asked` for, a load that was stopped stays stopped.
    """
    with context.ledger.hold(context.workload.name, context.load):
        record = context.record()
        summary = SendSummary()
        cut_off = resume_sync(context, record, api, asked=asked)
        unresolved = _resolve(context, record, api, summary) or cut_off
        _remove_leftovers(context, record)
        carry_over(connection, context, record)
        derive_states(connection, context, record)
        due = _due(connection, context, record, summary)
        if not due:
            held = context.record().held_by == "pilot"
            summary.waits_for = cut_off or (context.record().stopped if held else None)
        if due and (obstacle := unresolved or _obstacle(record, asked=asked)):
            summary.waits_for = obstacle
        elif due:
            _stop_at_change(context, record)
            try:
                _send(connection, context, record, api, summary, on_batch)
                context.ledger.update_load(record, not_before=None, waits_for=None)
            except SendingEndsError as end:
                summary.waits_for = str(end)
            # Anew: it may have been cancelled meanwhile.
            derive_states(connection, context, context.record())
            if under_way(context, context.record()):
                withhold_the_rest(connection, context, record)
        settle(connection, context, record)
        return summary


def _due(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    record: Load,
    summary: SendSummary,
) -> dict[int, int]:
    """How many rows are to be sent now, by tier; those that wait for the pilot are not among them."""
    (still_open,) = connection.execute(
        "SELECT count(*) FROM states WHERE disposition IS NULL"
    ).fetchall()[0]
    # Where earlier loads answered every row there is nothing to try out.
    if still_open and under_way(context, record):
        closed = withhold_the_rest(connection, context, record)
        if closed:
            passed = _pilot_passes(context, record, summary)
            # With the rest again: it is due, or waits for a person.
            derive_states(connection, context, record)
            if not passed:
                return {}
    return dict(
        connection.execute(
            "SELECT next_tier, count(*) FROM states WHERE next_tier IS NOT NULL GROUP BY ALL ORDER BY 1"
        ).fetchall()
    )


def _send(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    record: Load,
    api: Callable[[], BatchesApi],
    summary: SendSummary,
    on_batch: Callable[[SendSummary], None],
) -> None:
    if all(chunk.state is ChunkState.REUSED for chunk in context.ledger.chunks(record)):
        require_models_in_service(context.workload, context.settings)
        require_constant_prefix(connection, context, record)
        require_load_promotable(connection, context, record)
    wave = _wave(context, record)
    context.ledger.set_phase(record, Phase.SENDING)
    # Somebody asked for it again: what stopped it is mended, or stops it anew.
    context.ledger.update_load(record, stopped=None, held_by=None)
    client = api()
    plan = plan_load(context, record, lambda: client)
    pilot = under_way(context, context.record())
    # Rows that ask the same are one request.
    due = find_passengers(connection, context, record)
    for tier in _caching_open(context, record, plan, due, pilot=pilot):
        plan = plan_caching(context, record, plan, tier, due[tier])
    _keep_to_the_budget(context, record, plan, due, pilot=pilot)
    for tier in due:
        send_tier(
            context,
            record,
            connection,
            wave,
            tier,
            due[tier],
            client,
            summary,
            on_batch,
            plan=plan,
            pilot=pilot,
        )


def _caching_open(
    context: LoadContext, record: Load, plan: LoadPlan, due: dict[int, int], *, pilot: bool
) -> list[int]:
    """The tiers whose caching is decided now: more is known than when the plan was made, or it was declared anew."""
    declared = context.workload.prompt.cache
    chunks = live_chunks(context.ledger.chunks(record))
    begun = {chunk.tier for chunk in chunks if chunk.pilot == pilot}
    after_pilot = any(chunk.pilot for chunk in chunks) and not pilot
    return [
        tier
        for tier in due
        if (tier not in begun and (tier > 0 or after_pilot))
        or (declared != "auto" and declared != plan.tiers[tier].cache)
    ]


def _pilot_passes(context: LoadContext, record: Load, summary: SendSummary) -> bool:
    """Judges the pilot, all of whose rows are closed; a load whose pilot fails stops, with the reasons."""
    result = judge_pilot(context, record)
    summary.pilot = result.sentence
    if not result.problems:
        plan_after_pilot(context, record)
        context.ledger.update_load(record, pilot_passed_at=now(), stopped=None, held_by=None)
        return True
    context.ledger.update_load(
        record,
        held_by="pilot",
        stopped=f"{result.sentence}. {result.advice}",
    )
    return False


def _keep_to_the_budget(
    context: LoadContext, record: Load, plan: LoadPlan, due: dict[int, int], *, pilot: bool
) -> None:
    """Raises SendingEndsError where what is due could cost more than is left, and writes that down."""
    gates = context.workload.spec.gates
    if gates.max_cost_usd is None and gates.max_cost_usd_per_month is None:
        return
    price_collected(context)
    wave = to_come(plan, due)
    said = breach(context, record, wave)
    if said is None and pilot:
        # What the rest costs at most is known once the pilot has shown how long answers are; but where it
        # should cost too much, no pilot is needed to know it.
        said = breach(context, record, whole_load(plan))
    if said is not None:
        context.ledger.update_load(record, stopped=said, held_by="budget")
        raise SendingEndsError(said)


def _resolve(
    context: LoadContext, record: Load, api: Callable[[], BatchesApi], summary: SendSummary
) -> str | None:
    """Looks for chunks whose answer was lost; why nothing may be sent, where some stay unresolved."""
    if not needs_resolving(context.ledger, record):
        return None
    resolution = resolve_held(context, record, api())
    summary.resolved = resolution.said
    return "; ".join(resolution.said) if resolution.unresolved else None


def _obstacle(record: Load, *, asked: bool) -> str | None:
    """Why nothing may be sent at the moment."""
    if record.not_before is not None and record.not_before > now():
        return (
            f"{record.waits_for} Until {record.not_before:%Y-%m-%d %H:%M:%S} UTC nothing is sent."
        )
    return None if asked else record.stopped


def _wave(context: LoadContext, record: Load) -> int:
    """The number of the wave that is about to be sent; a wave that was cut off keeps its number."""
    last = max((chunk.wave for chunk in context.ledger.chunks(record)), default=0)
    return max(last, 1) if record.phase is Phase.SENDING else last + 1


def _stop_at_change(context: LoadContext, record: Load) -> None:
    if context.workload.fingerprint() != record.fingerprint:
        raise PipelineError(
            f"{context}: the prompt, the output contract or the tiers changed since this load was begun, "
            "and rows remain to be sent; restore them, or send the whole load again with --resend."
        )


def _remove_leftovers(context: LoadContext, record: Load) -> None:
    """What a crash left: files half written, and those of chunks that are no intent (yet, or any more)."""
    folder = context.folder(record)
    chunks = context.ledger.chunks(record)
    intents = {chunk.chunk_id for chunk in chunks if chunk.state is ChunkState.INTENT}
    # A chunk that was given up for lost may still turn up, and is then read by what it carried.
    kept = {chunk.chunk_id for chunk in chunks if chunk.state is not ChunkState.NOT_CREATED}
    # What is on its way to an object store lies elsewhere, and is seen to there.
    folders = {each for each in (folder.root, folder.local) if isinstance(each, Path)}
    leftovers = [
        *(p for each in folders for p in each.rglob(".*.tmp")),
        *(p for p in folder.body("x").parent.glob("*.json") if p.stem not in intents),
        *(p for p in folder.sent("x").parent.glob("*.parquet") if p.stem not in kept),
    ]
    for path in leftovers:
        path.unlink(missing_ok=True)
