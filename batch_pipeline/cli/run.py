"""`run`: one load, with the same Dagster jobs that the sensor launches, until it is promoted or held."""

import math
import sys

import click

from batch_pipeline.cli import EXIT_WRONG_USE
from batch_pipeline.cli.options import date_option, json_option, workload_argument
from batch_pipeline.cli.show import show
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.stages.next_step import Action, next_step
from batch_pipeline.stages.scorecard import measure_load


@click.command()
@workload_argument
@date_option
@click.option(
    "--max-wait",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="Stop after this long, with exit code 4; call again to go on. By default it waits to the end.",
)
@click.option(
    "--resend",
    is_flag=True,
    help="Read the source anew and send every row of the load again. It is paid again.",
)
@json_option
def run(
    workload: str, load: str | None, max_wait: float | None, resend: bool, as_json: bool
) -> None:
    """Drive one load of WORKLOAD until it is promoted or held; go on where an earlier run stopped.

    Exit codes: 0 promoted, 3 held by a gate, 4 not finished (call again), 2 wrong use or configuration.
    """
    from batch_pipeline.cli.preflight import preflight

    if max_wait is not None and math.isnan(max_wait):
        raise ConfigurationError("--max-wait nan is no number of seconds; give one, 0 or more.")
    context = preflight(workload, load, resend=resend)
    step = next_step(context.ledger, context.workload.name, context.load)
    if step.action is Action.PROMOTED and not resend:
        # Nothing is left to do, so Dagster, which takes seconds to import, is left alone.
        show(measure_load(context), as_json=as_json)
        return
    from batch_pipeline.cli.drive import drive

    outcome = drive(context, max_wait=max_wait, resend=resend)
    if outcome.exit_code != EXIT_WRONG_USE:
        show(outcome.card, as_json=as_json)
    if outcome.sentence:
        click.echo(f"batch-pipeline: {outcome.sentence}", err=True)
    sys.exit(outcome.exit_code)
