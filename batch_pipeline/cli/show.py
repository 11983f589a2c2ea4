"""`scorecard`: the measures of a load, for people and for scripts."""

import json

import click

from batch_pipeline.cli.opening import existing_load
from batch_pipeline.cli.options import date_option, json_option, workload_argument


@click.command()
@workload_argument
@date_option
@json_option
def scorecard(workload: str, load: str | None, as_json: bool) -> None:
    """Show the measures of a load of WORKLOAD: coverage, validity, cost, escalation, golden score, gate."""
    context = existing_load(workload, load)
    from batch_pipeline.stages.scorecard import measure_load

    card = measure_load(context)
    if as_json:
        click.echo(json.dumps(card.to_json()))
    else:
        from batch_pipeline.cli.scorecard_table import print_scorecard

        print_scorecard(card)
