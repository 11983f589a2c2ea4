"""Dagster's instance for this project: its history lies in the state folder, however it is started."""

import os
from importlib.resources import files
from pathlib import Path

import dagster as dg
from dagster._core.instance import InstanceRef
from filelock import FileLock

from batch_pipeline.dag.naming import WAREHOUSE_POOL, WORKLOAD_TAG
from batch_pipeline.dag.run_worker import is_gone
from batch_pipeline.ledger import Ledger
from batch_pipeline.settings import Settings

_OPENING_SECONDS = 120.0
# Capturing a step's output turns this process's own standard output aside and starts four processes per run: what a
# command prints when it is stopped in the middle of a step would be lost, and `tail` could outlive it.
_IN_PROCESS = {
    "compute_logs": {
        "module": "dagster._core.storage.noop_compute_log_manager",
        "class": "NoOpComputeLogManager",
    }
}


def dagster_home(settings: Settings) -> Path:
    """DAGSTER_HOME as the environment has it; else a folder below the state, with our dagster.yaml.

    Sets DAGSTER_HOME for this process and its children.
    """
    if configured := os.environ.get("DAGSTER_HOME"):
        return Path(configured)
    home = settings.state / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    config = home / "dagster.yaml"
    ours = files("batch_pipeline.dag").joinpath("instance.yaml").read_text(encoding="utf-8")
    if not config.is_file():
        config.write_text(ours, encoding="utf-8")
    os.environ["DAGSTER_HOME"] = str(home)
    return home


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The instance that `batch-pipeline run` records its runs in and the UI shows."""
    locks = settings.state / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    # Two processes would create its tables at once, which Dagster does not take kindly.
    with FileLock(locks / "dagster.lock", timeout=_OPENING_SECONDS):
        home = dagster_home(settings)
        return dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(home), overrides=_IN_PROCESS))


def end_abandoned_runs(
    instance: dg.DagsterInstance, workload: str, ledger: Ledger | None = None
) -> None:
    """Marks runs as failed whose process is dead, and frees what finished runs still hold.

    A run of a process, or a whole machine, that was killed would otherwise stay "started" for ever. Its load would
    wait for it, and so would every later publish, of any workload, for its slot of the warehouse's pool. Looked at
    are the runs in the workload's way.
    """
    holders = _slot_holders(instance)
    started = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    for run in instance.get_runs(started):
        in_the_way = run.run_id in holders or run.tags.get(WORKLOAD_TAG, workload) == workload
        if in_the_way and is_gone(run, ledger):
            instance.report_run_failed(run, "The process that ran this is gone.")
    for run_id in holders:
        holder = instance.get_run_by_id(run_id)
        if holder is None or holder.is_finished:
            instance.event_log_storage.free_concurrency_slots_for_run(run_id)


def _slot_holders(instance: dg.DagsterInstance) -> set[str]:
    storage = instance.event_log_storage
    if WAREHOUSE_POOL not in storage.get_concurrency_keys():
        return set()
    return storage.get_concurrency_info(WAREHOUSE_POOL).active_run_ids
