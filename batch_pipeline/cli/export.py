"""`export` and `dispositions`: rows out of the project, as CSV or Parquet."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch_pipeline.cli import EXIT_HELD, EXIT_UNFINISHED
from batch_pipeline.cli.opening import existing_load
from batch_pipeline.cli.options import Command, date_option, to_option, workload_argument
from batch_pipeline.errors import ConfigurationError, printable

if TYPE_CHECKING:
    from batch_pipeline.cli.spreadsheet import Written


def exact_option(command: Command) -> Command:
    return click.option(
        "--exact",
        is_flag=True,
        help="Write the cells of a CSV as they are. By default, text that a spreadsheet would run as a "
        "formula gets an apostrophe in front. Parquet is always exact.",
    )(command)


@click.command()
@workload_argument
@date_option
@to_option
@exact_option
def export(workload: str, load: str | None, target: str, exact: bool) -> None:
    """Write the rows that a load of WORKLOAD promoted.

    Columns: the source's key, the contract's fields, and _tier, _model, _batch_id, _load.
    """
    path = _target(target)
    context = existing_load(workload, load, with_rows=True)
    record = context.record()
    if record.promoted_at is None:
        held = record.gate == "hold"
        why = "held by its gate" if held else "not finished"
        why = "rolled back" if record.rolled_back else why
        click.echo(
            f"batch-pipeline: {context} is {why}, so nothing of it is promoted; see `batch-pipeline scorecard`.",
            err=True,
        )
        sys.exit(EXIT_HELD if held else EXIT_UNFINISHED)
    from batch_pipeline.cli.spreadsheet import write_file
    from batch_pipeline.workload.data_file import literal

    promoted = f"read_parquet({literal(str(context.folder(record).promoted))})"
    with context.querying() as connection:
        written = write_file(connection, promoted, path, exact=exact)
    _say(f"{written.rows:,} promoted rows of {context} written to {path}", written)


@click.command()
@workload_argument
@date_option
@to_option
@exact_option
def dispositions(workload: str, load: str | None, target: str, exact: bool) -> None:
    """Write every source row of a load of WORKLOAD: key, disposition, reason, tier, attempts.

    A row whose fate is still open has no disposition.
    """
    path = _target(target)
    context = existing_load(workload, load, with_rows=True)
    from batch_pipeline.cli.spreadsheet import write_file
    from batch_pipeline.stages.scorecard import measuring

    with measuring(context) as (connection, card):
        connection.execute(
            "CREATE TEMP TABLE listed AS SELECT key, disposition, reason, tier, attempts FROM rows "
            "WHERE NOT golden ORDER BY row"
        )
        written = write_file(connection, "listed", path, exact=exact)
    _say(f"{card.source_rows:,} source rows of {context} written to {path}", written)


def _target(text: str) -> Path:
    from batch_pipeline.cli.spreadsheet import FORMATS

    path = Path(text).absolute()
    if path.suffix not in FORMATS:
        raise ConfigurationError(f"--to {text}: the name must end in .csv or .parquet.")
    if not path.parent.is_dir():
        raise ConfigurationError(f"--to {text}: the folder {path.parent} does not exist.")
    return path


def _say(sentence: str, written: Written) -> None:
    if written.defused:
        sentence += (
            f"; {written.defused:,} cells that a spreadsheet would take for formulas got an apostrophe in "
            "front (--exact writes them as they are)"
        )
    click.echo(printable(sentence), err=True)
