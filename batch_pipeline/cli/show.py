"""`scorecard`: the measures of a load, for people and for scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import click

from batch_pipeline.cli.opening import existing_load
from batch_pipeline.cli.options import date_option, json_option, workload_argument

if TYPE_CHECKING:
    from batch_pipeline.stages.scorecard import Scorecard


@click.command()
@workload_argument
@date_option
@json_option
def scorecard(workload: str, load: str | None, as_json: bool) -> None:
    """Show the measures of a load of WORKLOAD: coverage, validity, cost, escalation, golden score, gate."""
    from batch_pipeline.stages.scorecard import measure_load

    show(measure_load(existing_load(workload, load)), as_json=as_json)


def show(card: Scorecard, *, as_json: bool) -> None:
    """Prints a scorecard on standard output: a table, or one JSON object."""
    if as_json:
        click.echo(json.dumps(card.to_json()))
    else:
        from batch_pipeline.cli.scorecard_table import print_scorecard

        print_scorecard(card)
