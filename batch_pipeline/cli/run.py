"""`run`: one load, with the same Dagster jobs that the sensor launches, until it is promoted or held."""

import json
import sys

import click

from batch_pipeline.cli.options import date_option, json_option, workload_argument


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
    from batch_pipeline.cli.drive import drive
    from batch_pipeline.cli.preflight import preflight

    context = preflight(workload, load, resend=resend)
    outcome = drive(context, max_wait=max_wait, resend=resend)
    if as_json:
        click.echo(json.dumps(outcome.card.to_json()))
    else:
        from batch_pipeline.cli.scorecard_table import print_scorecard

        print_scorecard(outcome.card)
    if outcome.sentence:
        click.echo(f"batch-pipeline: {outcome.sentence}", err=True)
    sys.exit(outcome.exit_code)
