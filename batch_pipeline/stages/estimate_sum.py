"""An estimate as a whole: what `estimate` prints, put together from tiers, volume and verdict."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from batch_pipeline.measure.caching import CacheChoice, Hits, break_even
from batch_pipeline.measure.estimate import cost_of
from batch_pipeline.measure.lane import CEILING_HOURS, Verdict, should_be_batch
from batch_pipeline.measure.load_estimate import TYPICAL, LoadSum, PricedTier, Volume, sum_up
from batch_pipeline.stages.estimate_models import Asked, Candidate
from batch_pipeline.stages.past_answers import PastAnswers
from batch_pipeline.stages.plan import LoadPlan


@dataclass(frozen=True)
class BudgetLeft:
    """A declared budget in US dollars, and what `run` would make of it.

    committed_usd: spent or under way beside this load. word: within, ABOVE (nothing is sent) or pilot (its pilot
    is sent, and decides about the rest).
    """

    option: str
    limit_usd: Decimal
    committed_usd: Decimal
    word: str


@dataclass(frozen=True)
class Estimate:
    """An estimate; money is exact in what it was made from.

    break_even: the hit share above which caching pays at the first tier. bound_usd: what a load costs at most,
    None where numbers were given.
    """

    workload: str | None
    load: str | None
    lane: str
    lane_why: str
    volume: Volume
    tiers: Sequence[PricedTier]
    choices: Sequence[CacheChoice]
    hits: Hits
    break_even: Decimal
    sums: LoadSum
    loads_per_month: Decimal
    bound_usd: Decimal | None
    max_cost_usd: Decimal | None
    max_cost_usd_per_month: Decimal | None
    budgets: Sequence[BudgetLeft]
    candidates: Sequence[Candidate]
    verdict: Verdict
    plan: LoadPlan | None
    notes: Sequence[str]

    @property
    def total_usd(self) -> Decimal:
        return self.sums.total[TYPICAL]

    @property
    def month_usd(self) -> Decimal:
        return self.total_usd * self.loads_per_month


def put_together(
    tiers: Sequence[PricedTier],
    choices: Sequence[CacheChoice],
    volume: Volume,
    hits: Hits,
    asked: Asked,
    *,
    lane: str,
    lane_why: str,
    deadline: Decimal | None,
    notes: Sequence[str],
    past: PastAnswers,
    workload: str | None,
    load: str | None,
    loads_per_month: Decimal,
    bound_usd: Decimal | None,
    max_cost_usd: Decimal | None,
    max_cost_usd_per_month: Decimal | None,
    budgets: Sequence[BudgetLeft],
    candidates: Sequence[Candidate],
    plan: LoadPlan | None,
    escalation: float,
) -> Estimate:
    """The lines, the parts and the verdict of what was priced."""
    sums = sum_up(
        volume,
        tiers,
        hits.share,
        lane=lane,
        notes=_line_notes(tiers, choices, volume, past, escalation),
    )
    first = tiers[0]
    everything = [(tier, volume.requests * tier.share) for tier in tiers]
    sync = sum((cost_of(t.sync_rates, t.size, n).total for t, n in everything), Decimal(0))
    # The discount alone: caching works in either lane.
    batched = sum((cost_of(t.batch_rates, t.size, n).total for t, n in everything), Decimal(0))
    verdict = should_be_batch(
        deadline_hours=deadline,
        saved_usd_per_month=(sync - batched) * loads_per_month,
        sync_usd_per_month=sync * loads_per_month,
        cache_why=choices[0].why,
        engineering_days=asked.engineering_days,
        day_rate_usd=asked.day_rate_usd,
    )
    return Estimate(
        workload=workload,
        load=load,
        lane=lane,
        lane_why=lane_why,
        volume=volume,
        tiers=tiers,
        choices=choices,
        hits=hits,
        break_even=break_even(first.rates, "5m" if choices[0].cache == "5m" else "1h"),
        sums=sums,
        loads_per_month=loads_per_month,
        bound_usd=bound_usd,
        max_cost_usd=max_cost_usd,
        max_cost_usd_per_month=max_cost_usd_per_month,
        budgets=budgets,
        candidates=candidates,
        verdict=verdict,
        plan=plan,
        notes=notes,
    )


def _line_notes(
    tiers: Sequence[PricedTier],
    choices: Sequence[CacheChoice],
    volume: Volume,
    past: PastAnswers,
    escalation: float,
) -> dict[str, str]:
    first = tiers[0]
    size = first.size
    shared = f"{size.prefix:,f} shared + " if size.prefix else ""
    return {
        "synchronous price": f"{volume.source_rows:,} rows × ({shared}{size.input:,f} in + {size.output:,f} out) on "
        f"{first.model}",
        "batch discount": f"half of every category, for up to {CEILING_HOURS} h of waiting",
        "duplicates asked once": f"{volume.duplicates:,.0f} rows ask what another one asks",
        "cache effect": choices[0].why,
        "golden rows": f"{volume.golden_rows:,} rows with known answers",
        "expected escalations": (
            "no further tier"
            if len(tiers) == 1
            else f"{escalation:.1%} of requests climb, {'measured' if past.escalation else 'assumed'}"
        ),
        "retries": (
            f"{volume.paid_again:.2%} of requests were paid again on earlier loads"
            if volume.paid_again
            else "the API bills nothing for requests that it errors, cancels or lets expire"
        ),
    }
