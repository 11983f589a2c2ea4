"""`review`: what no model could answer goes out to people, and comes back decided."""

from __future__ import annotations

import getpass
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch_pipeline.cli import EXIT_HELD, EXIT_UNFINISHED
from batch_pipeline.cli.opening import existing_load
from batch_pipeline.cli.options import date_option, json_option, workload_argument
from batch_pipeline.errors import ConfigurationError, printable

if TYPE_CHECKING:
    from batch_pipeline.stages.context import LoadContext


@click.group()
def review() -> None:
    """The review queue of a load: rows that no model could answer, out to a file and back in."""


@review.command()
@workload_argument
@date_option
@click.option(
    "--to", "target", required=True, metavar="FILE.csv", help="The file to write, one row per item."
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Write the rows that are decided too, with their decisions filled in, so that they can be revised.",
)
@click.option(
    "--force", is_flag=True, help="Replace the file where it exists; by default it is left alone."
)
def export(workload: str, load: str | None, target: str, everything: bool, force: bool) -> None:
    """Write the rows of a load of WORKLOAD that wait for a person.

    Fill in `decision` (accept, fix or drop), for a fix the right values in fixed_<field>, and import the file.
    """
    path = Path(target).absolute()
    if path.suffix.lower() != ".csv":
        raise ConfigurationError(f"--to {target}: the name must end in .csv.")
    if not path.parent.is_dir():
        raise ConfigurationError(f"--to {target}: the folder {path.parent} does not exist.")
    context = existing_load(workload, load, with_rows=True)
    from batch_pipeline.review.export import export_queue

    done = export_queue(context, path, everything=everything, replace=force, by=getpass.getuser())
    _say(
        f"{done.rows:,} of the {done.queue:,} rows of {context} in review written to {path}; "
        f"{done.decided:,} of the queue are decided"
    )


@review.command("import")
@workload_argument
@date_option
@click.option("--from", "origin", required=True, metavar="FILE.csv", help="The file as reviewed.")
@click.option(
    "--add-to-golden",
    is_flag=True,
    help="Add the rows that were accepted or fixed to the workload's golden file, too; those that are there "
    "already are left. A new baseline is due then.",
)
def import_(workload: str, load: str | None, origin: str, add_to_golden: bool) -> None:
    """Take the decisions of a reviewed file in, all of them or none.

    The file says which load it is of. What was accepted or fixed is promoted with the load; where that was
    promoted before, this promotes it anew. Importing the same file again changes nothing.
    """
    from batch_pipeline.review.file import load_in
    from batch_pipeline.review.intake import take_in

    path = Path(origin).absolute()
    context = existing_load(workload, load or load_in(path), with_rows=True)
    done = take_in(context, path, by=getpass.getuser(), golden=add_to_golden)
    if done.rejected:
        for line in done.rejected:
            _say(f"line {line.number}: {line.review_id or 'no review_id'}: {line.sentence}")
        raise ConfigurationError(
            f"{len(done.rejected):,} line{'s' if len(done.rejected) > 1 else ''} of {path} cannot stand, so "
            "nothing of it was taken in; mend them and import it again."
        )
    if not done.decided:
        _say(f"{path} holds no decision yet; nothing was changed")
        return
    _say(
        f"{context}: {done.accepted:,} accepted, {done.fixed:,} fixed, {done.dropped:,} dropped; "
        f"{done.changed:,} new or changed"
    )
    if done.before is not None:
        _say(
            f"this very file was taken in at {done.before.imported_at:%Y-%m-%d %H:%M} UTC by "
            f"{done.before.imported_by}; nothing was changed"
        )
    if done.golden is not None:
        added = done.golden
        _say(
            f"{added.added:,} rows added to {added.path}; {added.known:,} were there already, "
            f"{added.unusable:,} left out because an empty answer cannot be expected"
        )
        if added.added:
            _say(
                "the golden set is another one now: look at its score in the next load, then accept it with "
                f"`batch-pipeline baseline record {workload}`"
            )
    _promote(context, as_decided=done.promoted_as_decided)


def _promote(context: LoadContext, *, as_decided: bool) -> None:
    """Promotes what was decided where the load was promoted before; else says when it will be."""
    record = context.record()
    if record.promoted_at is None:
        when = "its gate lets it through" if record.gate == "hold" else "the load is"
        _say(f"the answers of people are promoted when {when}")
        return
    if as_decided:
        return
    from batch_pipeline.cli.jobs import JobFailedError, Jobs
    from batch_pipeline.dag.instance import open_instance

    try:
        with open_instance(context.settings) as instance:
            Jobs(context, instance).launch("publish")
    except JobFailedError as error:
        held = context.record().gate == "hold"
        _say(
            f"the decisions are kept, but {context} was not promoted anew: {error} When that is mended, import "
            "the file again, or launch the publish job"
        )
        sys.exit(EXIT_HELD if held else EXIT_UNFINISHED)
    _say(f"{context.record().promoted_rows:,} rows of {context} promoted")


@review.command()
@workload_argument
@date_option
@json_option
def status(workload: str, load: str | None, as_json: bool) -> None:
    """How far the review of WORKLOAD's loads is: rows waiting, decided and how, time taken, agreement.

    Without --date, every load that has rows in review and was not purged.
    """
    context = existing_load(workload, load, with_rows=load is not None)
    from batch_pipeline.stages.review_status import ReviewStatus, review_status

    latest = {each.load: each for each in context.ledger.generations(workload, load)}
    found: list[ReviewStatus] = []
    for record in latest.values():
        one = review_status(replace(context, load=record.load), record)
        if one is not None and (one.rows or load is not None):
            found.append(one)
    if as_json:
        click.echo(json.dumps({"workload": workload, "loads": [each.to_json() for each in found]}))
    elif found:
        from batch_pipeline.cli.review_table import print_review

        print_review(workload, found)
    else:
        _say(f"no row of {workload} waits for a person in a load whose rows are still there")


def _say(sentence: str) -> None:
    click.echo(printable(sentence), err=True)
