"""`run`: one load, with the same Dagster jobs that the sensor launches, until it is promoted or held."""

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING

import click

from batch_pipeline.cli import EXIT_UNFINISHED, EXIT_WRONG_USE
from batch_pipeline.cli.options import date_option, json_option, max_wait_option, workload_argument
from batch_pipeline.cli.show import show
from batch_pipeline.cli.stops import asked, interruptible
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.obstacles import obstacle
from batch_pipeline.settings import Settings

if TYPE_CHECKING:
    from batch_pipeline.stages.scorecard import Scorecard

_CARD_SECONDS = 5.0


@click.command()
@workload_argument
@date_option
@max_wait_option
@click.option(
    "--resend",
    is_flag=True,
    help="Read the source anew and send every row of the load again. It is paid again.",
)
@json_option
def run(
    workload: str, load: str | None, max_wait: float | None, resend: bool, as_json: bool
) -> None:
    """Drive one load of WORKLOAD until it is promoted or held; go on where an earlier run stopped.

    Exit codes: 0 promoted, 3 held by a gate, 4 not finished (call again), 2 wrong use or configuration.
    """
    if max_wait is not None and math.isnan(max_wait):
        raise ConfigurationError("--max-wait nan is no number of seconds; give one, 0 or more.")
    code, card, sentence = _to_the_end(workload, load, max_wait, resend=resend)
    if code != EXIT_WRONG_USE:
        show(card, as_json=as_json)
    if sentence:
        click.echo(f"batch-pipeline: {sentence}", err=True)
    if not asked():
        from batch_pipeline.cli.tell import tell

        tell(workload)
    if asked() > 1:
        # The step under way is not waited for, and Python would run into it on its way out.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _to_the_end(
    workload: str, load: str | None, max_wait: float | None, *, resend: bool
) -> tuple[int, Scorecard, str | None]:
    """The exit code, the measures, and a sentence where one is needed. Raises ConfigurationError."""
    try:
        return _drive(workload, load, max_wait, resend=resend)
    except ConfigurationError:
        raise
    except KeyboardInterrupt:
        sentence = (
            f"stopped; {workload} goes on where it is: call again, or let the sensor carry on."
        )
    except PipelineError as error:
        sentence = str(error)
    except Exception as error:
        found = obstacle(error)
        if found is None:
            raise
        sentence = str(found)
    return EXIT_UNFINISHED, _card(workload, load), sentence


def _drive(
    workload: str, load: str | None, max_wait: float | None, *, resend: bool
) -> tuple[int, Scorecard, str | None]:
    from batch_pipeline.cli.preflight import preflight
    from batch_pipeline.stages.next_step import Action, next_step
    from batch_pipeline.stages.scorecard import measure_load, to_promote_anew

    with interruptible():
        context = preflight(workload, load, resend=resend)
        step = next_step(context.ledger, context.workload.name, context.load)
        if step.action is Action.PROMOTED and not resend:
            # Nothing is left to do, so Dagster, which takes seconds to import, is left alone.
            from batch_pipeline.report import refresh_report

            card = measure_load(context)
            if not to_promote_anew(context, card):
                refresh_report(context, card)
                return 0, card, None
    from batch_pipeline.cli.drive import drive

    outcome = drive(context, max_wait=max_wait, resend=resend)
    return outcome.exit_code, outcome.card, outcome.sentence


def _card(workload: str, load: str | None) -> Scorecard:
    """The load's measures, or an empty scorecard where they cannot be had."""
    from batch_pipeline.ledger import Ledger
    from batch_pipeline.rows.hurry import in_a_hurry
    from batch_pipeline.stages.context import LoadContext
    from batch_pipeline.stages.scorecard import empty_scorecard, measure_load
    from batch_pipeline.workload.catalogue import find_workload

    try:
        settings = Settings.from_environment()
        found = find_workload(workload, settings)
        load = load or found.last_complete_day()
        ledger = Ledger.existing(settings)
        if ledger is not None:
            # A store that is down has been waited for already.
            with in_a_hurry(_CARD_SECONDS):
                return measure_load(LoadContext(found, load, settings, ledger))
    except Exception as error:
        if not isinstance(error, PipelineError) and obstacle(error) is None:
            raise
    return empty_scorecard(workload, load or "")
