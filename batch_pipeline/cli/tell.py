"""What `run` does at its end, so that a team without Dagster's daemon is alerted too."""

import sys

import click

from batch_pipeline.alerts.reconcile import Look
from batch_pipeline.alerts.watch import Watched, is_quiet, watch
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Ledger
from batch_pipeline.ledger.alerting import Alert
from batch_pipeline.obstacles import obstacle
from batch_pipeline.settings import Settings
from batch_pipeline.workload.catalogue import find_workload

# A ledger that somebody keeps locked, or a slow receiver, must not keep the command for long.
_LEDGER_WAIT_SECONDS = 15.0


def tell(workload: str) -> None:
    """Looks at the workload's alerts and delivers what is due. Whatever goes wrong is said, and no more."""
    try:
        watched = _watch(workload)
    except KeyboardInterrupt:
        return
    except Exception as error:  # noqa: BLE001 - the load is what the command is about
        known = error if isinstance(error, PipelineError) else obstacle(error)
        # The words of an error that is not ours may quote anything.
        _say(f"alerts: {known or type(error).__name__}")
        return
    if watched is None:
        return
    if watched.problem is not None:
        _say(f"alerts: {watched.problem}")
    for attempt in watched.attempts:
        if not attempt.sent:
            _say(
                f"alerts: channel {attempt.channel} was not reached, it is tried again: {attempt.said}"
            )


def _watch(workload: str) -> Watched | None:
    settings = Settings.from_environment()
    ledger = Ledger.existing(settings, _LEDGER_WAIT_SECONDS)
    if ledger is None:
        return None
    if "dagster" not in sys.modules:
        # The load was done before, and Dagster takes seconds to import: the ledger alone is asked.
        return None if is_quiet(ledger, workload) else watch(ledger, settings, [workload])
    from batch_pipeline.dag.alert_conditions import dagster_look
    from batch_pipeline.dag.build import build_definitions
    from batch_pipeline.dag.instance import open_instance

    definitions = build_definitions(find_workload(workload, settings))
    checks = definitions.resolve_asset_graph().asset_check_keys

    def elsewhere(known: list[Alert]) -> Look:
        with open_instance(settings) as instance:
            return dagster_look(instance, checks, ledger, [workload], known)

    return watch(ledger, settings, [workload], elsewhere)


def _say(sentence: str) -> None:
    click.echo(f"batch-pipeline: {sentence}", err=True)
