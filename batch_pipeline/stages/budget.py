"""The budget: what a load and a month may cost, held against what was spent and what could still be.

A batch that is under way counts with the most that it should cost, as estimated when it was sent; one that was
read back with what its own usage says.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from batch_pipeline.claude.prices import load_prices
from batch_pipeline.ledger import Lane, Ledger, Load
from batch_pipeline.ledger.transactions import now
from batch_pipeline.measure.money import usd
from batch_pipeline.rows import LoadFolder
from batch_pipeline.stages.bakeoff_name import bakeoff_name
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.load_tables import Paid
from batch_pipeline.stages.plan import LoadPlan
from batch_pipeline.workload.workload import Workload


@dataclass(frozen=True)
class Budget:
    """A limit that is declared, in US dollars, and what is spent or under way of it."""

    option: str
    limit: Decimal
    committed: float
    what: str

    @property
    def left(self) -> float:
        return float(self.limit) - self.committed


def price_collected(context: LoadContext) -> None:
    """Writes down what each batch of the workload cost that was read back and is not priced yet."""
    ledger = context.ledger
    name = context.workload.name
    todo = ledger.unpriced(name) + ledger.unpriced(bakeoff_name(name))
    if not todo:
        return
    prices = load_prices(context.settings.prices)
    with context.querying() as connection:
        for chunk, one in todo:
            folder = LoadFolder.configured(
                context.settings, chunk.workload, chunk.load, chunk.generation
            )
            path = folder.results(chunk.chunk_id)
            if not path.is_file():
                continue
            here, none = [str(path)], list[str]()
            batch, sync = (none, here) if chunk.lane is Lane.SYNC else (here, none)
            bound = None if chunk.bound_usd is None else chunk.bound_usd / max(chunk.requests, 1)
            paid = Paid(batch, sync, None, {chunk.chunk_id: bound})
            spent = paid.measure(connection, prices, one.created_at.date()).total_usd
            _, unknown = paid.unpriced(connection)
            ledger.update_batch(one.batch_id, cost_usd=spent + (unknown or 0))


def budgets(context: LoadContext, record: Load) -> list[Budget]:
    """The limits that are declared; a load's includes what its earlier generations cost."""
    gates, ledger = context.workload.spec.gates, context.ledger
    found = []
    if gates.max_cost_usd is not None:
        committed = ledger.committed_usd(record.workload, load=record.load)
        found.append(Budget("gates.max_cost_usd", gates.max_cost_usd, committed, "the load"))
    month = month_budget(context.workload, ledger)
    return found if month is None else [*found, month]


def month_budget(workload: Workload, ledger: Ledger) -> Budget | None:
    """What the workload may cost in this month of UTC, its bake-offs included; None where nothing limits it."""
    limit = workload.spec.gates.max_cost_usd_per_month
    if limit is None:
        return None
    moment: datetime = now()
    first = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    committed = sum(
        ledger.committed_usd(name, since=first)
        for name in (workload.name, bakeoff_name(workload.name))
    )
    return Budget(
        "gates.max_cost_usd_per_month", limit, committed, f"{workload.name} in {moment:%B}"
    )


@dataclass(frozen=True)
class Cost:
    """US dollars: what something should cost, and what it costs at most."""

    typical: float
    most: float


def to_come(plan: LoadPlan, due: Mapping[int, int]) -> Cost:
    """What so many rows by tier should cost, with the rows among them that climb."""
    typical = most = 0.0
    for tier, rows in due.items():
        expected = worst = float(rows)
        for each in plan.tiers[tier:]:
            typical += expected * each.row_usd
            most += worst * each.row_bound_usd
            expected *= plan.escalation.mean
            worst *= plan.escalation.high
    return Cost(typical, most)


def whole_load(plan: LoadPlan) -> Cost:
    """What a load should cost before its pilot; at most so much where that is known from earlier loads."""
    return Cost(
        plan.typical_usd, plan.bound_usd if plan.output_from == "history" else plan.typical_usd
    )


def breach(context: LoadContext, record: Load, cost: Cost) -> str | None:
    """Why what is about to be sent would go beyond a budget; None where it stays within."""
    for budget in budgets(context, record):
        if cost.most > budget.left:
            spent = (
                f"{usd(budget.committed)} are spent or under way, and " if budget.committed else ""
            )
            return (
                f"{spent}what remains to be sent could cost up to {usd(cost.most)} (it should be "
                f"{usd(cost.typical)}): more than {budget.option} allows {budget.what}, "
                f"{usd(float(budget.limit))}. Raise it, or send fewer rows or a cheaper model, then "
                "launch the load again; nothing more is sent until then."
            )
    return None
