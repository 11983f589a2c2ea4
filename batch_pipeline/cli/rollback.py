"""`rollback`: takes a load's rows back out of the system of record."""

import getpass
from contextlib import suppress

import click

from batch_pipeline.cli.opening import existing_load
from batch_pipeline.cli.options import workload_argument
from batch_pipeline.errors import ConfigurationError


@click.command()
@workload_argument
@click.argument("load")
@click.option(
    "--reason",
    required=True,
    help="Why; recorded, and shown with the gate's decision.",
)
def rollback(workload: str, load: str, reason: str) -> None:
    """Undo the promotion of a LOAD (its date) of WORKLOAD.

    Afterwards the promoted table is as if the load had never been promoted: rows that it had replaced are back, and
    rows that later loads own stay. Its gate is closed until `promote` is called with a reason.

    Exit codes: 0 rolled back, 2 not promoted now, 4 it cannot be undone or reached (nothing was changed).
    """
    said = reason.strip()
    if not said:
        raise ConfigurationError("--reason is empty; say why the load is rolled back.")
    context = existing_load(workload, load)
    from batch_pipeline.report import write_report
    from batch_pipeline.stages.rollback import promote_again
    from batch_pipeline.stages.rollback import rollback as undo

    done = undo(context, reason=said, by=getpass.getuser())
    if done.card is not None:
        write_report(context, done.card)
    click.echo(f"{context} is rolled back: {done.sentence}.", err=True)
    click.echo(f"To promote it again: {promote_again(context)}.", err=True)
    _tell_dagster(workload, load, done.sentence)


def _tell_dagster(workload: str, load: str, sentence: str) -> None:
    """So that the page of promoted_rows says it, too. The rollback stands however this ends."""
    with suppress(Exception):
        from batch_pipeline.dag.instance import open_instance
        from batch_pipeline.dag.rollback_job import observation
        from batch_pipeline.settings import Settings

        with open_instance(Settings.from_environment()) as instance:
            instance.report_runless_asset_event(observation(workload, load, sentence))
