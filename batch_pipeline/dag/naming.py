"""The names that Dagster knows a workload's parts by."""

import dagster as dg

from batch_pipeline.settings import Settings

STEPS = (
    "source_rows",
    "batch_submission",
    "batch_results",
    "validated_rows",
    "escalated_rows",
    "golden_score",
    "promoted_rows",
)
SUBMIT_STEPS = STEPS[:2]
COLLECT_STEPS = STEPS[2:5]
PUBLISH_STEPS = STEPS[5:]

WORKLOAD_TAG = "batch_pipeline/workload"
# Tags below .dagster/ are not shown as chips on every run.
LOAD_TAG = ".dagster/batch_pipeline_load"
WORK_TAG = ".dagster/batch_pipeline_work"

# One slot, so that two steps never wait for each other on the warehouse's file lock.
WAREHOUSE_POOL = "batch_pipeline_warehouse"


def warehouse_pool() -> str | None:
    """None where the warehouse is a DuckLake: nothing locks it, so nobody need wait."""
    return None if Settings.from_environment().warehouse else WAREHOUSE_POOL


def asset_key(workload: str, step: str) -> dg.AssetKey:
    return dg.AssetKey([workload, step])


def job_name(workload: str, kind: str) -> str:
    """`kind` is submit, collect, publish, cancel, rollback, watch or bakeoff."""
    return f"{workload}__{kind}"


def sensor_name(workload: str) -> str:
    return f"{workload}__poll"


def alert_sensor_name(workload: str) -> str:
    return f"{workload}__alerts"


def schedule_name(workload: str) -> str:
    return f"{workload}__nightly"


def partition_tags(workload: str, load: str) -> dict[str, str]:
    """What every run of the workload's jobs on a load carries, whoever launched it."""
    return {WORKLOAD_TAG: workload, "dagster/partition": load}


def load_tags(workload: str, load: str) -> dict[str, str]:
    """dagster.yaml lets one run at a time carry the same load tag."""
    return {LOAD_TAG: f"{workload}/{load}"}
