"""`purge`: old loads lose their rows and keep their measures."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import click

from batch_pipeline.cli import EXIT_UNFINISHED
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.settings import Settings

if TYPE_CHECKING:
    from batch_pipeline.ledger import Ledger, Load
    from batch_pipeline.stages.purge import Purged
    from batch_pipeline.stages.scorecard import Scorecard

_UNITS = {"d": "days", "w": "weeks"}


class _Age(click.ParamType[timedelta]):
    name = "AGE"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> timedelta:
        if isinstance(value, timedelta):
            return value
        found = re.fullmatch(r"([0-9]{1,5})([dw])", str(value))
        if found is None:
            self.fail(f"{value!r} is no age; write days or weeks, as 90d or 12w.", param, ctx)
        return timedelta(**{_UNITS[found[2]]: int(found[1])})


@click.command()
@click.argument("workloads", metavar="[WORKLOAD]...", nargs=-1)
@click.option(
    "--older-than",
    type=_Age(),
    required=True,
    help="How long ago every row of a load must have had its disposition: 90d, 12w; 0d takes all.",
)
@click.option(
    "--delete-batches",
    is_flag=True,
    help="Delete the batches of these loads at the API, too.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be removed, and remove nothing.")
def purge(
    workloads: tuple[str, ...], older_than: timedelta, delete_batches: bool, dry_run: bool
) -> None:
    """Remove rows and raw results of old loads of each WORKLOAD, or of all.

    Kept are the measures, the ledger, the report and what was promoted. Loads that are not finished are left
    alone. Calling again completes what was cut off.
    """
    from batch_pipeline.claude.client import BatchesApi
    from batch_pipeline.ledger import Ledger
    from batch_pipeline.ledger.transactions import now
    from batch_pipeline.rows import shared
    from batch_pipeline.stages.purge import Purge

    settings = Settings.from_environment()
    ledger = Ledger.existing(settings)
    known = {record.workload for record in ledger.generations()} if ledger else set()
    for name in workloads:
        if name not in known:
            raise ConfigurationError(f"There is no load of {name} in {settings.state}.")
    if ledger is None:
        click.echo(f"There is no load in {settings.state}.")
        return
    work = Purge(
        state=settings.state,
        ledger=ledger,
        before=now() - older_than,
        measure=lambda record: _measured(record, settings, ledger),
        api=BatchesApi if delete_batches else None,
        dry_run=dry_run,
        shared=shared(settings),
    )
    done = []
    for one in work.run(workloads):
        done.append(one)
        _say(one, dry_run=dry_run, delete_batches=delete_batches)
    _say_totals(done, dry_run=dry_run, delete_batches=delete_batches)


def _measured(record: Load, settings: Settings, ledger: Ledger) -> Scorecard | None:
    from batch_pipeline.stages.context import LoadContext
    from batch_pipeline.stages.scorecard import measure_load
    from batch_pipeline.workload.catalogue import find_workload

    try:
        workload = find_workload(record.workload, settings)
        return measure_load(LoadContext(workload, record.load, settings, ledger))
    except PipelineError:
        return None


def _say(one: Purged, *, dry_run: bool, delete_batches: bool) -> None:
    said = _amount(one.bytes, one.batches, dry_run=dry_run, delete_batches=delete_batches)
    click.echo(f"{one.workload} {one.load}: {one.left_alone or said}")
    for failure in one.failures:
        click.echo(f"{one.workload} {one.load}: not deleted at the API: {failure}", err=True)


def _say_totals(done: list[Purged], *, dry_run: bool, delete_batches: bool) -> None:
    purged = [one for one in done if one.left_alone is None]
    said = _amount(
        sum(one.bytes for one in purged),
        sum(one.batches for one in purged),
        dry_run=dry_run,
        delete_batches=delete_batches,
    )
    left = len(done) - len(purged)
    click.echo(f"{_loads(len(purged))}: {said}" + (f"; {_loads(left)} left alone" if left else ""))
    failures = sum(len(one.failures) for one in done)
    if failures:
        click.echo(
            f"batch-pipeline: {failures:,} batches could not be deleted at the API; all else is done. Call "
            "again to delete them.",
            err=True,
        )
        sys.exit(EXIT_UNFINISHED)


def _amount(size: int, batches: int, *, dry_run: bool, delete_batches: bool) -> str:
    would = "would be " if dry_run else ""
    said = f"{size:,} bytes of rows {would}removed"
    if delete_batches:
        said += f", {batches:,} batches {would}deleted at the API"
    return said


def _loads(n: int) -> str:
    return f"{n:,} load{'' if n == 1 else 's'}"
