"""Whether caching paid in a graded load, from what its requests wrote and read: logged, never paged."""

from datetime import date

from batch_pipeline.claude.prices import load_prices
from batch_pipeline.measure.savings import ASKED_ONCE, WRITES, Savings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.cost_history import savings_by_load
from batch_pipeline.stages.noticed import Noticed
from batch_pipeline.stages.plan import LoadPlan, kept_plan

NAME = "cache_pays"
_DECLARED = ("5m", "1h")


def cache_pays(context: LoadContext) -> Noticed:
    """What caching saved or lost, and where it failed, why and what to do."""
    kept = savings_by_load(context.settings, context.workload.name, context.load)
    spent = Savings(
        tuple(
            line
            for line in kept[context.load].lines
            if line.part not in ("resent", ASKED_ONCE) and line.requests
        )
        if context.load in kept
        else ()
    )
    if not spent.lines:
        return Noticed(NAME, None, "Nothing was answered, so nothing could be cached.")
    record = context.record()
    plan = None if record.purged_at else kept_plan(context.folder(record))
    inactive = [
        said
        for tier in range(len(context.workload.spec.tiers))
        if (said := _inactive(context, spent, plan, tier)) is not None
    ]
    if spent.prefix_hit_share is not None:
        paid, sentence = _with_activity(context, spent)
    else:
        why = plan.tiers[0].cache_why.rstrip(".") if plan else ""
        paid, sentence = True, "" if inactive else f"Nothing is cached{f': {why}' if why else ''}."
    said = " ".join([*inactive, *([sentence] if sentence else [])])
    return Noticed(NAME, bool(inactive) or not paid, said)


def _inactive(context: LoadContext, spent: Savings, plan: LoadPlan | None, tier: int) -> str | None:
    """What to say of a tier whose requests ask for caching and saw none; None where that is not so."""
    lines = [line for line in spent.lines if line.tier == tier]
    planned = plan.tiers[tier] if plan and tier < len(plan.tiers) else None
    asked = planned.cache if planned else context.workload.spec.prompt.cache
    if not lines or asked not in _DECLARED or any(line.cached_requests for line in lines):
        return None
    model = context.workload.spec.tiers[tier].model
    least = load_prices(context.settings.prices).facts(model).min_cacheable_tokens
    minimum = f" ({least:,} tokens)" if least else ""
    said = f"No cache activity at all at tier {tier}, though caching was asked for: "
    if planned and planned.prefix_tokens and (least is None or planned.prefix_tokens >= least):
        return (
            f"{said}the prefix of about {planned.prefix_tokens:,} tokens should reach the minimum of "
            f"{model}{minimum}; count it with `batch-pipeline estimate {context.workload.name}`, and look "
            "whether the model caches at all."
        )
    size = (
        f" of about {planned.prefix_tokens:,} tokens" if planned and planned.prefix_tokens else ""
    )
    return (
        f"{said}the prefix{size} is {'' if size else 'probably '}below the minimum of {model}{minimum}, and "
        "the API then skips caching silently. Nothing is lost by it; set prompt.cache: none, or move what "
        "all rows share into the system prompt."
    )


def _with_activity(context: LoadContext, spent: Savings) -> tuple[bool, str]:
    """Whether caching paid, and in words."""
    found, saved = spent.prefix_hit_share, spent.saved_cache_usd
    share, reads = spent.saved_cache_share, spent.request_hit_share
    assert found is not None
    level = break_even(context, spent)
    held = f", {level:.0%} is break-even" if level is not None else ""
    hits = (
        f"{found:.0%} of the cached prefix was read rather than written{held}, and {reads or 0:.0%} of the "
        "requests with a prefix found it"
    )
    of_input = f"{abs(share):.1%} of what the input costs without a cache" if share else "nothing"
    if saved >= 0:
        return True, f"Caching saved ${saved:,.4f} at full prices, {of_input}: {hits}."
    lost = f"Caching lost ${-saved:,.4f} at full prices, {of_input}: {hits}."
    return False, f"{lost} {_advice(context, spent)}"


def break_even(context: LoadContext, spent: Savings) -> float | None:
    """The share of prefix tokens that must be read for the reads to pay for the writes.

    With writes at `w` times and reads at `r` times the input's rate it is (w - 1) / (w - r); of the model and
    the kind of write that the most tokens are of.
    """
    table = load_prices(context.settings.prices)
    used = [
        (line.tokens[kind], line.model, kind)
        for line in spent.lines
        for kind in WRITES
        if line.tokens[kind] and table.knows(line.model)
    ]
    if not used:
        return None
    _, model, kind = max(used)
    rates = table.facts(model).on(date.fromisoformat(context.load)).rates
    write = getattr(rates, kind)
    return float((write - rates.input) / (write - rates.cache_read))


def _advice(context: LoadContext, spent: Savings) -> str:
    brief = spent.tokens("cache_write_5m") > spent.tokens("cache_write_1h")
    advice = []
    if brief:
        advice.append("set prompt.cache: 1h, since a batch often takes longer than 5 minutes")
    side_by_side = len(context.ledger.batches(context.record())) > len(context.workload.spec.tiers)
    if side_by_side:
        advice.append(
            "let the pilot go first, since batches that start side by side each write their own prefix"
        )
    advice.append("look whether the prefix varies between rows")
    return f"{'; '.join(advice).capitalize()}; or set prompt.cache: none."
