"""`baseline`: which golden outcome later loads are held against."""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING

import click

from batch_pipeline.cli.opening import existing_load
from batch_pipeline.cli.options import date_option, json_option, workload_argument
from batch_pipeline.errors import printable
from batch_pipeline.settings import Settings

if TYPE_CHECKING:
    from batch_pipeline.ledger.records import Baseline


@click.group()
def baseline() -> None:
    """Record and show the golden outcome that a workload's loads are compared with, row by row."""


@baseline.command()
@workload_argument
@date_option
@click.option(
    "--reason",
    required=True,
    help="Why this outcome is good enough: a new prompt that was looked at, say. Shown beside every verdict.",
)
@click.option(
    "--by",
    default=getpass.getuser,
    metavar="NAME",
    help="Who accepts it; by default, who is logged in.",
)
def record(workload: str, load: str | None, reason: str, by: str) -> None:
    """Accept the golden outcome of a settled load of WORKLOAD as the baseline from now on."""
    context = existing_load(workload, load, with_rows=True)
    from batch_pipeline.stages.baseline import record_baseline

    made = record_baseline(context, reason=reason, by=by)
    click.echo(_line(made))
    if context.record().promoted_at is None:
        click.echo(
            f"`batch-pipeline run {workload} --date {context.load}` puts that load to its gate again.",
            err=True,
        )


@baseline.command()
@workload_argument
@json_option
def show(workload: str, as_json: bool) -> None:
    """Show the baselines of WORKLOAD, the one that counts first, or the declared one where none is recorded."""
    from batch_pipeline.ledger import Ledger
    from batch_pipeline.workload.catalogue import find_workload

    settings = Settings.from_environment()
    found = find_workload(workload, settings)
    ledger = Ledger.existing(settings)
    recorded = ledger.baselines(workload) if ledger else []
    golden = found.spec.golden
    declared = float(golden.baseline) if golden else None
    if as_json:
        listed = [
            {**vars(one), "recorded_at": one.recorded_at.isoformat(), "score": one.correct / one.n}
            for one in recorded
        ]
        click.echo(
            json.dumps({"workload": workload, "declared": declared, "recorded": listed}, indent=2)
        )
        return
    if declared is None:
        click.echo(f"{workload} declares no golden set, so there is nothing to compare with.")
        return
    for one in recorded:
        click.echo(_line(one))
    if not recorded:
        click.echo(
            f"None is recorded: the declared {declared:.1%} counts, which knows a share and no rows. "
            f"`batch-pipeline baseline record {workload} --reason …` takes the newest load's outcome."
        )
    elif recorded[0].fingerprint != found.fingerprint():
        click.echo(
            "The prompt, the contract or the tiers have changed since the newest was recorded: the next load "
            "is held until a new one is recorded.",
            err=True,
        )


def _line(one: Baseline) -> str:
    return (
        f"{one.recorded_at:%Y-%m-%d %H:%M} UTC  {one.correct} of {one.n} right ({one.correct / one.n:.1%}), load "
        f"{one.load}, by {printable(one.recorded_by)}: {printable(one.reason)}  [declaration {one.fingerprint[:12]}, "
        f"golden set {one.golden_fingerprint.rpartition('-')[2][:12]}]"
    )
