"""Everything that Dagster is told of one workload: assets, checks, jobs, sensor, schedule.

Definitions are loaded far more often than they run, so what a step needs to do its work (DuckDB, pandas, the SDK,
the report) is imported in the step.
"""

import warnings
from datetime import timedelta
from zoneinfo import ZoneInfo

import dagster as dg

from batch_pipeline.dag.alert_sensor import build_alert_sensor
from batch_pipeline.dag.asset_face import AssetFace
from batch_pipeline.dag.bakeoff_job import build_bakeoff_job
from batch_pipeline.dag.cancel_job import build_cancel_job
from batch_pipeline.dag.checks import build_checks
from batch_pipeline.dag.collect_assets import collect_assets
from batch_pipeline.dag.naming import (
    COLLECT_STEPS,
    PUBLISH_STEPS,
    SUBMIT_STEPS,
    WORKLOAD_TAG,
    asset_key,
    job_name,
    load_tags,
    schedule_name,
)
from batch_pipeline.dag.publish_assets import publish_assets
from batch_pipeline.dag.rollback_job import build_rollback_job
from batch_pipeline.dag.run_worker import announcing_executor
from batch_pipeline.dag.sending_check import build_sending_check, build_watch_job
from batch_pipeline.dag.sensor import build_sensor
from batch_pipeline.dag.submit_assets import submit_assets
from batch_pipeline.workload.workload import Workload

EXECUTOR = announcing_executor

_JOBS = (
    ("submit", SUBMIT_STEPS, "Reads the load's rows and sends them."),
    ("collect", COLLECT_STEPS, "Reads back what has ended, judges it, and sends the next wave."),
    ("publish", PUBLISH_STEPS, "Grades the finished load and promotes it, if the gate allows."),
)


def build_definitions(workload: Workload) -> dg.Definitions:
    """The definitions of one workload; they merge with any other's."""
    spec = workload.spec
    partitions = dg.DailyPartitionsDefinition(
        start_date=spec.partitions.start.isoformat(),
        timezone=spec.partitions.timezone,
        end_offset=1,  # today can be run by hand, too
    )
    jobs = [
        dg.define_asset_job(
            job_name(workload.name, kind),
            selection=dg.AssetSelection.assets(*(asset_key(workload.name, step) for step in steps)),
            executor_def=EXECUTOR,
            description=f"{description} Part of {workload.name}.",
            tags={WORKLOAD_TAG: workload.name},
        )
        for kind, steps, description in _JOBS
    ]
    with warnings.catch_warnings():
        # Partitioned checks are marked preview: known, and pinned with Dagster's version.
        warnings.simplefilter("ignore", dg.PreviewWarning)
        checks = [*build_checks(workload, partitions), build_sending_check(workload, partitions)]
        face = AssetFace(workload, partitions)
        assets = [*submit_assets(face), *collect_assets(face), *publish_assets(face)]
    watch = build_watch_job(workload, partitions, EXECUTOR)
    cancel = build_cancel_job(workload, partitions, EXECUTOR)
    rollback = build_rollback_job(workload, partitions, EXECUTOR)
    bakeoff = build_bakeoff_job(workload, EXECUTOR)
    return dg.Definitions(
        assets=assets,
        asset_checks=checks,
        jobs=[*jobs, watch, cancel, rollback, bakeoff],
        sensors=[build_sensor(workload, [*jobs, watch]), build_alert_sensor(workload.name)],
        schedules=[_schedule(workload)] if spec.schedule else [],
    )


def _schedule(workload: Workload) -> dg.ScheduleDefinition:
    """Off until a person turns it on: it spends money."""
    zone = ZoneInfo(workload.spec.partitions.timezone)

    @dg.schedule(
        name=schedule_name(workload.name),
        cron_schedule=workload.spec.schedule or "",
        job_name=job_name(workload.name, "submit"),
        execution_timezone=workload.spec.partitions.timezone,
        description="Sends the load of the day before.",
    )
    def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        day = context.scheduled_execution_time.astimezone(zone).date() - timedelta(days=1)
        load = day.isoformat()
        return dg.RunRequest(run_key=load, partition_key=load, tags=load_tags(workload.name, load))

    return nightly
