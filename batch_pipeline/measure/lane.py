"""Batch or synchronous: which way a load goes, and whether a batch is worth its wait at all."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

# Anthropic's documentation: a batch ends within 24 hours, or expires; most take less than one.
CEILING_HOURS = 24
# Below this a month, nobody gets the hour back that looking after batches costs.
_LEAST_SAVED_USD = Decimal(10)
_MOST_MONTHS = 1_200


def choose_lane(
    declared: str, *, source_rows: int, below_rows: int, deadline_hours: Decimal | None
) -> tuple[str, str]:
    """("batch" or "sync", why) for what `lane` declares: batch, sync or auto."""
    if declared != "auto":
        return declared, f"lane is {declared}."
    if deadline_hours is not None and deadline_hours < CEILING_HOURS:
        return "sync", (
            f"The results are needed within {deadline_hours:g} h, and a batch may take {CEILING_HOURS}."
        )
    if source_rows < below_rows:
        return "sync", (
            f"{source_rows:,} source rows are fewer than sync.below_rows ({below_rows:,}), so a batch would save "
            "next to nothing."
        )
    return "batch", (
        f"{source_rows:,} source rows are enough for a batch"
        + (
            "."
            if deadline_hours is None
            else f", and {deadline_hours:g} h leave it its {CEILING_HOURS}."
        )
    )


def _earned(work: Decimal, a_month: Decimal) -> str:
    if a_month <= 0:
        return "which nothing would ever earn."
    months = work / a_month
    if months > _MOST_MONTHS:
        return "which these savings would not earn in a hundred years."
    return f"which ${a_month:,.2f} a month would take {months:,.1f} months to earn."


@dataclass(frozen=True)
class Verdict:
    """Should this be a batch at all? `word` is yes, no or marginal."""

    word: str
    reasons: Sequence[str]


def should_be_batch(
    *,
    deadline_hours: Decimal | None,
    saved_usd_per_month: Decimal,
    sync_usd_per_month: Decimal,
    cache_why: str,
    engineering_days: Decimal | None = None,
    day_rate_usd: Decimal | None = None,
) -> Verdict:
    """Weighs the wait against the money.

    Args:
        deadline_hours: when the results are needed, None for no hurry.
        saved_usd_per_month: synchronous price less the batched one.
        sync_usd_per_month: the synchronous price.
        cache_why: what caching adds, a sentence.
        engineering_days: the work of a pipeline of one's own, that this one saves.
        day_rate_usd: what a day of it costs.
    """
    late = deadline_hours is not None and deadline_hours < CEILING_HOURS
    little = saved_usd_per_month < _LEAST_SAVED_USD
    if deadline_hours is None:
        wait = f"Latency: no deadline is declared (sync.deadline_hours), so up to {CEILING_HOURS} h are no matter."
    else:
        wait = (
            f"Latency: results are needed in {deadline_hours:g} h; a batch may take {CEILING_HOURS} h"
            + (", so it cannot promise that." if late else ", which fits.")
        )
    volume = (
        f"Volume: batching saves ${saved_usd_per_month:,.2f} of ${sync_usd_per_month:,.2f} a month"
        + (", too little to matter." if little else ".")
    )
    reasons = [wait, volume, f"Caching: {cache_why}"]
    if engineering_days is not None and day_rate_usd is not None:
        work = engineering_days * day_rate_usd
        reasons.append(
            f"Engineering: {engineering_days:g} days of one's own at ${day_rate_usd:,.2f} are ${work:,.2f}, "
            + _earned(work, saved_usd_per_month)
        )
    return Verdict("no" if late else "marginal" if little else "yes", reasons)
