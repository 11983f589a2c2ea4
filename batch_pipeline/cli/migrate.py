"""`migrate`: moves the ledger from one database into another."""

import click

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import Settings


@click.command()
@click.option(
    "--from",
    "source",
    metavar="URL",
    help="The ledger as it is: sqlite:PATH/ledger.sqlite or postgresql://…; by default the one below "
    "BATCH_PIPELINE_STATE.",
)
@click.option(
    "--to",
    "target",
    metavar="URL",
    help="An empty database: postgresql://user:password@host:5432/database; by default BATCH_PIPELINE_LEDGER, "
    "which keeps the password off the command line.",
)
def migrate(source: str | None, target: str | None) -> None:
    """Move the ledger into another database: from this machine's file to a Postgres that many share, or back.

    Stop Dagster's daemon and whatever runs loads first. Every record is copied in one transaction; then the old
    ledger says where it went, and nothing can be sent from it. The rows' files stay where they are.

    Exit codes: 0 moved, 2 wrong use, 4 a load is being worked on, or a database is away (call again).
    """
    from batch_pipeline.ledger.move import move_ledger

    settings = Settings.from_environment()
    to = target or settings.ledger
    if to is None:
        raise ConfigurationError(
            "Say where the ledger is to be: --to postgresql://user:password@host:5432/database, or set "
            "BATCH_PIPELINE_LEDGER."
        )
    moved = move_ledger(source or f"sqlite:{settings.state / 'ledger.sqlite'}", to)
    loads, batches = moved.records["loads"], moved.records["batches"]
    done = "It was copied before" if moved.resumed else "Copied"
    click.echo(
        f"{done}: {loads:,} loads, {batches:,} batches, {sum(moved.records.values()):,} records in all. The old "
        "ledger is closed. Set BATCH_PIPELINE_LEDGER to the new one wherever loads are run, before the daemon is "
        "started again."
    )
