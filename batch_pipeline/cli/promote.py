"""`promote`: a person's way past a closed gate."""

import getpass

import click

from batch_pipeline.cli.opening import existing_load
from batch_pipeline.cli.options import date_option, workload_argument


@click.command()
@workload_argument
@date_option
@click.option(
    "--reason",
    required=True,
    help="Why this load may go out although the gate holds it; recorded, and shown on the scorecard.",
)
def promote(workload: str, load: str | None, reason: str) -> None:
    """Promote a load of WORKLOAD that the gate holds. A coverage leak cannot be overridden."""
    context = existing_load(workload, load, with_rows=True)
    from batch_pipeline.cli.drive import publish_with_override

    publish_with_override(context, reason, getpass.getuser())
    record = context.record()
    click.echo(f"{record.promoted_rows:,} rows of {context} promoted", err=True)
