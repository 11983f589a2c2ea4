"""The sensor that turns what is wrong with a workload into alerts, and tells whom it concerns."""

import dagster as dg

from batch_pipeline.alerts.reconcile import Look
from batch_pipeline.alerts.watch import watch
from batch_pipeline.dag.alert_conditions import dagster_look
from batch_pipeline.dag.naming import alert_sensor_name
from batch_pipeline.dag.sensor import LEDGER_WAIT_SECONDS
from batch_pipeline.ledger import Ledger
from batch_pipeline.ledger.alerting import Alert
from batch_pipeline.obstacles import obstacle
from batch_pipeline.settings import Settings


def build_alert_sensor(workload: str) -> dg.SensorDefinition:
    """One per workload: a team that declares only a component in a project of its own has it, too."""

    @dg.sensor(
        name=alert_sensor_name(workload),
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Opens, resolves and delivers the alerts of {workload}: held loads, batches and answers that "
        "need a look, failed checks and failed runs. alerts.yaml says who is told.",
    )
    def alert(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        try:
            return dg.SkipReason(tick(workload, context))
        except Exception as error:
            # A full disk, or a ledger that somebody keeps locked, is no failure of the sensor.
            found = obstacle(error)
            if found is None:
                raise
            return dg.SkipReason(str(found))

    return alert


def tick(workload: str, context: dg.SensorEvaluationContext) -> str:
    """One look; what it did, in words. Raises ConfigurationError, when all is done that can be."""
    settings = Settings.from_environment()
    ledger = Ledger.existing(settings, LEDGER_WAIT_SECONDS)
    if ledger is None or context.repository_def is None:
        return "No load was begun yet."
    checks = context.repository_def.asset_graph.asset_check_keys

    def elsewhere(known: list[Alert]) -> Look:
        return dagster_look(context.instance, checks, ledger, [workload], known)

    watched = watch(ledger, settings, [workload], elsewhere)
    for attempt in watched.attempts:
        if attempt.sent:
            context.log.info("%s told: %s", attempt.channel, attempt.headline)
        else:
            context.log.warning("%s not told: %s", attempt.channel, attempt.said)
    if watched.problem is not None:
        # A tick that fails is the one thing that is seen without any channel.
        raise watched.problem
    return f"{watched}."
