"""The sensor that turns what is wrong into alerts: one for all workloads of a code location."""

import dagster as dg

from batch_pipeline.alerts.reconcile import Look
from batch_pipeline.alerts.watch import watch
from batch_pipeline.dag.alert_conditions import dagster_look
from batch_pipeline.dag.sensor import LEDGER_WAIT_SECONDS
from batch_pipeline.ledger import Ledger
from batch_pipeline.ledger.alerting import Alert
from batch_pipeline.obstacles import obstacle
from batch_pipeline.settings import Settings

NAME = "batch_pipeline__alerts"


@dg.sensor(
    name=NAME,
    minimum_interval_seconds=30,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Opens, resolves and delivers alerts: held loads, batches and answers that need a look, failed "
    "checks and failed runs, of all workloads. alerts.yaml says who is told.",
)
def alert_sensor(context: dg.SensorEvaluationContext) -> dg.SkipReason:
    """Launches nothing. A project of its own adds it to its definitions, once: names must differ there."""
    try:
        return dg.SkipReason(tick(context))
    except Exception as error:
        # A full disk, or a ledger that somebody keeps locked, is no failure of the sensor.
        found = obstacle(error)
        if found is None:
            raise
        return dg.SkipReason(str(found))


def tick(context: dg.SensorEvaluationContext) -> str:
    """One look; what it did, in words. Raises ConfigurationError, when all is done that can be."""
    settings = Settings.from_environment()
    ledger = Ledger.existing(settings.state, LEDGER_WAIT_SECONDS)
    if ledger is None or context.repository_def is None:
        return "No load was begun yet."
    graph = context.repository_def.asset_graph
    workloads = sorted(
        {key.path[0] for key in graph.get_all_asset_keys() if key.path[1:] == ["batch_submission"]}
    )

    def elsewhere(known: list[Alert]) -> Look:
        return dagster_look(context.instance, graph.asset_check_keys, ledger, workloads, known)

    watched = watch(ledger, settings, workloads, elsewhere)
    for attempt in watched.attempts:
        if attempt.sent:
            context.log.info("%s told: %s", attempt.channel, attempt.headline)
        else:
            context.log.warning("%s not told: %s", attempt.channel, attempt.said)
    if watched.problem is not None:
        # A tick that fails is the one thing that is seen without any channel.
        raise watched.problem
    return f"{watched}."
