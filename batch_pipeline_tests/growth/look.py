"""What is measured: each piece of work that looks at the history, on the newest load."""

from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import dagster as dg

from batch_pipeline.cli.drive import drive
from batch_pipeline.dag.build import build_definitions
from batch_pipeline.dag.instance import open_instance
from batch_pipeline.dag.naming import alert_sensor_name, sensor_name
from batch_pipeline.dag.trend_checks import night_results
from batch_pipeline.ledger import Ledger
from batch_pipeline.report import write_report
from batch_pipeline.report.index import write_index
from batch_pipeline.rows.query import querying
from batch_pipeline.stages.broken_slices import broken
from batch_pipeline.stages.budget import budgets
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.cost_history import costs_explained
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.next_step import Action, next_step
from batch_pipeline.stages.past_answers import earlier_answers
from batch_pipeline.stages.promote import promote
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.warehouse import warehouse
from batch_pipeline.warehouse.metrics import copy_metrics
from batch_pipeline_tests.growth.meter import Cost, cost_of
from batch_pipeline_tests.growth.workloads import GrowthError


def looks(context: LoadContext) -> Iterator[tuple[str, Callable[[], object]]]:
    """Name and work, in the order of the table. `context` is the newest load, promoted."""
    state, ledger, record = context.settings.state, context.ledger, context.record()
    name, load = context.workload.name, context.load
    card = measure_load(context)
    yield "open the ledger", lambda: Ledger(state).newest_load(name)
    yield "budgets and requests in flight", lambda: (budgets(context, record), ledger.in_flight())
    yield "scorecard", lambda: measure_load(context)
    yield "trend and slice checks", lambda: list(night_results(context))
    yield "of them, slices", lambda: broken(state, name, load)
    yield "of them, cost of a good row", lambda: costs_explained(state, name, load)
    yield "grade (measures, metrics, copies)", lambda: grade(context)
    yield "of it, Parquet copies", lambda: _copy(context)
    yield "promote again", lambda: promote(context)
    yield "report page and index", lambda: write_report(context, card)
    yield "of it, index", lambda: write_index(context)
    yield "cost estimate: earlier answers", lambda: _earlier(context)


def _copy(context: LoadContext) -> None:
    with warehouse(context.settings.state) as connection:
        copy_metrics(connection, context.settings.state)


def _earlier(context: LoadContext) -> None:
    with querying(context.scratch) as connection:
        if not earlier_answers(connection, context, context.record(), with_own=True).loads:
            raise GrowthError("No earlier load was found to learn from.")


def cost_of_ticks(context: LoadContext) -> dict[str, Cost]:
    """Begins a load whose batches run, and measures a tick of each of its workload's sensors.

    Raises GrowthError where its batches ended meanwhile: the tick would have launched a run.
    """
    with redirect_stderr(StringIO()):
        drive(context, max_wait=0.5)
    name = context.workload.name
    with open_instance(context.settings) as instance:
        repository = build_definitions(context.workload).get_repository_def()
        cursors: dict[str, str | None] = {}

        def tick(sensor: str) -> Any:
            made = dg.build_sensor_context(
                instance=instance, cursor=cursors.get(sensor), repository_def=repository
            )
            data = repository.get_sensor_def(sensor).evaluate_tick(made)
            cursors[sensor] = data.cursor
            return data

        costs = {
            "sensor tick, batches open": cost_of(lambda: tick(sensor_name(name)), times=9),
            "alert sensor tick": cost_of(lambda: tick(alert_sensor_name(name)), times=9),
        }
    if next_step(context.ledger, name, context.load).action is not Action.WAIT:
        raise GrowthError(f"The batches of {context} ended before the ticks were measured.")
    return costs
