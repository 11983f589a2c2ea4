"""`bakeoff`: the golden set over several models at once, to see which is the cheapest that is good enough."""

from __future__ import annotations

import json
import math
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch_pipeline.cli import EXIT_UNFINISHED
from batch_pipeline.cli.options import date_option, json_option, max_wait_option, workload_argument
from batch_pipeline.cli.stops import interruptible
from batch_pipeline.errors import ConfigurationError, PipelineError, printable
from batch_pipeline.settings import Settings
from batch_pipeline.workload.catalogue import find_workload

if TYPE_CHECKING:
    from batch_pipeline.bakeoff.candidates import Bakeoff


@click.command()
@workload_argument
@click.option(
    "--models",
    required=True,
    metavar="A,B,C",
    help="The candidates, two or more, by their ids in the price table.",
)
@date_option
@max_wait_option
@click.option(
    "--max-usd",
    type=float,
    metavar="DOLLARS",
    help="Send nothing if the bake-off could cost more than this, by a guess from the size of the requests.",
)
@click.option(
    "--again",
    is_flag=True,
    help="Begin a new one where the last of the same models is finished. It is paid again.",
)
@click.option(
    "--to",
    "target",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE.html",
    help="Write the page to this file, too.",
)
@json_option
def bakeoff(
    workload: str,
    models: str,
    load: str | None,
    max_wait: float | None,
    max_usd: float | None,
    again: bool,
    target: Path | None,
    as_json: bool,
) -> None:
    """Ask several models the golden rows of WORKLOAD, and name the cheapest that is good enough.

    It changes nothing: no load, metric, baseline or promotion. Called again, it goes on with what is not finished
    and pays nothing twice; a finished one is shown again. Exit codes: 0 done, 4 not finished (call again), 2 wrong
    use or configuration.
    """
    for name, number in (("--max-wait", max_wait), ("--max-usd", max_usd)):
        if number is not None and (math.isnan(number) or number < 0):
            raise ConfigurationError(f"{name} {number} makes no sense; give a number, 0 or more.")
    _check_target(target)
    named = [each.strip() for each in models.split(",") if each.strip()]
    with interruptible():
        from batch_pipeline.bakeoff.drive import holding_bakeoff

        settings = Settings.from_environment()
        found = find_workload(workload, settings)
    with holding_bakeoff(found, named, settings, day=load, again=again) as opened:
        if not opened.finished:
            left = _drive(opened, max_wait, max_usd)
            if left:
                _unfinished(workload, opened.bakeoff_id, left, as_json=as_json)
        _show(opened, target, as_json=as_json)


def _drive(opened: Bakeoff, max_wait: float | None, max_usd: float | None) -> list[str]:
    """Why it is not finished; nothing when it is. Raises ConfigurationError."""
    from batch_pipeline.bakeoff.bound import checked_bound
    from batch_pipeline.bakeoff.drive import run_bakeoff
    from batch_pipeline.claude.client import BatchesApi
    from batch_pipeline.claude.errors import UnreachableError

    try:
        with interruptible():
            bound = checked_bound(opened, max_usd, option="--max-usd")
            if bound:
                _say(bound)
            try:
                BatchesApi().check_access()
            except UnreachableError as error:
                _say(str(error))
        return run_bakeoff(opened, BatchesApi, max_wait=max_wait, say=_say, pause=_pause)
    except KeyboardInterrupt:
        return ["stopped"]
    except ConfigurationError:
        raise
    except PipelineError as error:
        return [str(error)]


def _unfinished(workload: str, bakeoff_id: str, left: list[str], *, as_json: bool) -> None:
    if as_json:
        facts = {"workload": workload, "bakeoff": bakeoff_id, "finished": False, "open": left}
        click.echo(json.dumps(facts, indent=2))
    for sentence in left:
        _say(sentence)
    _say(f"The bake-off of {workload} is not finished; call again to go on. Nothing is paid twice.")
    sys.exit(EXIT_UNFINISHED)


def _show(opened: Bakeoff, target: Path | None, *, as_json: bool) -> None:
    from batch_pipeline.bakeoff.outcomes import bakeoff_result
    from batch_pipeline.report.bakeoff_page import write_bakeoff, write_page
    from batch_pipeline.report.bakeoff_words import to_json

    result = bakeoff_result(opened)
    path = write_bakeoff(result)
    if target is not None:
        write_page(result, target.absolute())
    if as_json:
        click.echo(json.dumps({**to_json(result), "page": str(path)}, indent=2))
        return
    from batch_pipeline.cli.bakeoff_table import print_bakeoff

    print_bakeoff(result)
    click.echo(f"Page: {path}")


def _check_target(target: Path | None) -> None:
    if target is None:
        return
    if target.suffix != ".html":
        raise ConfigurationError(f"--to {target}: the name must end in .html.")
    if not target.absolute().parent.is_dir():
        raise ConfigurationError(
            f"--to {target}: the folder {target.absolute().parent} does not exist."
        )


def _pause(seconds: float) -> None:
    # Only here may a signal cut in: never between a batch and the record of it.
    with interruptible():
        time.sleep(seconds)


def _say(sentence: str) -> None:
    click.echo(f"batch-pipeline: {printable(sentence)}", err=True)
