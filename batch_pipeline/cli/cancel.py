"""`cancel`: stops the spending on one load, keeps what came, and closes the rest."""

import getpass
import sys

import click

from batch_pipeline.cli import EXIT_HELD
from batch_pipeline.cli.opening import existing_load
from batch_pipeline.cli.options import date_option, json_option, max_wait_option, workload_argument
from batch_pipeline.cli.show import show


@click.command()
@workload_argument
@date_option
@click.option(
    "--reason",
    default="cancelled on the command line",
    help="Why; recorded, and shown with the gate's decision.",
)
@max_wait_option
@json_option
def cancel(
    workload: str, load: str | None, reason: str, max_wait: float | None, as_json: bool
) -> None:
    """Stop spending on a load of WORKLOAD: send nothing more, stop its batches, and close it.

    What came is kept; rows without an answer are quarantined as load_cancelled, and the gate holds the load.
    Requests that are in work may still complete, and are charged. Only `run --resend` undoes it.

    Exit codes: 0 cancelled and closed, 4 batches are still stopping (call again), 2 nothing to cancel.
    """
    context = existing_load(workload, load)
    from batch_pipeline.cli.drive import cancel_and_close

    outcome = cancel_and_close(context, reason=reason, by=getpass.getuser(), max_wait=max_wait)
    show(outcome.card, as_json=as_json)
    if outcome.sentence:
        click.echo(f"batch-pipeline: {outcome.sentence}", err=True)
    # A cancelled load is held by its gate: that is how it should end.
    sys.exit(0 if outcome.exit_code == EXIT_HELD else outcome.exit_code)
