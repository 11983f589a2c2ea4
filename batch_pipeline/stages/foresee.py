"""What a load that was read should cost, held against its budget before anything of it is sent."""

from collections.abc import Callable
from dataclasses import dataclass

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.errors import PipelineError
from batch_pipeline.measure.money import usd
from batch_pipeline.stages.budget import Cost, breach, budgets, whole_load
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.make_plan import plan_load
from batch_pipeline.stages.pilot import under_way
from batch_pipeline.stages.plan import LoadPlan
from batch_pipeline.stages.retired_models import require_models_in_service, retiring_soon
from batch_pipeline.stages.shared_prefix import require_constant_prefix
from batch_pipeline.stages.states import live_chunks


@dataclass(frozen=True)
class Foreseen:
    """Whether the load may be sent as far as its price goes, in a sentence; `plan` where one could be made."""

    passed: bool
    sentence: str
    plan: LoadPlan | None


def foresee(context: LoadContext, api: Callable[[], BatchesApi] | None) -> Foreseen:
    """Makes the load's plan if it has none, and asks what sending it will ask.

    A guess is no failure: only a budget that the plan may break is, or a prefix that varies between rows.
    """
    record = context.record()
    try:
        sent = bool(live_chunks(context.ledger.chunks(record)))
        if not sent:
            require_models_in_service(context.workload, context.settings)
        if not sent and context.workload.prompt.system_columns:
            with context.querying() as connection:
                require_constant_prefix(connection, context, record)
        plan = plan_load(context, record, api)
        cost = Cost(plan.typical_usd, plan.bound_usd)
        if under_way(context, record):
            # What it costs at most is known once the pilot has shown how long answers are.
            cost = whole_load(plan)
        # Of a load that was begun, what is left to send is judged wave by wave.
        said = None if sent else breach(context, record, cost)
    except PipelineError as error:
        return Foreseen(False, str(error), None)
    if said is not None:
        return Foreseen(False, said, plan)
    limits = " and ".join(
        f"{budget.option} ({budget.limit:,.2f})" for budget in budgets(context, record)
    )
    within = f", within {limits}" if limits else ""
    said_too = [*plan.notes, *retiring_soon(context.workload, context.settings)]
    notes = f" {' '.join(said_too)}" if said_too else ""
    return Foreseen(
        True,
        f"The load should cost {usd(plan.typical_usd)}, at most {usd(plan.bound_usd)}{within}.{notes}",
        plan,
    )
