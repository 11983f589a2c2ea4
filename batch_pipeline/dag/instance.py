"""Dagster's instance for this project: its history lies in the state folder, however it is started."""

import os
import socket
from importlib.resources import files
from pathlib import Path

import dagster as dg

from batch_pipeline.dag.naming import load_tags
from batch_pipeline.settings import Settings

PROCESS_TAG = ".dagster/batch_pipeline_process"


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
    dagster_home(settings)
    return dg.DagsterInstance.get()


def process_tag() -> str:
    """Names this process, so that another can tell whether it is still there."""
    return f"{socket.gethostname()}:{os.getpid()}"


def end_abandoned_runs(instance: dg.DagsterInstance, workload: str, load: str) -> None:
    """Marks runs of this load as failed whose process on this machine is dead.

    A run inside a CLI that was killed would otherwise stay "started" for ever, and the sensor would wait
    for it.
    """
    filters = dg.RunsFilter(tags=load_tags(workload, load), statuses=[dg.DagsterRunStatus.STARTED])
    for run in instance.get_runs(filters):
        host, _, pid = run.tags.get(PROCESS_TAG, "").rpartition(":")
        if host == socket.gethostname() and not _alive(int(pid)):
            instance.report_run_failed(run, "The process that ran this is gone.")


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
