"""The workloads of the year: those of the simulated nights, under names and days of their own, run for real."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from datetime import date, timedelta
from pathlib import Path

import yaml

from batch_pipeline.cli.demo import forget_credentials
from batch_pipeline.cli.drive import drive
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.baseline import record_baseline
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.workload.catalogue import find_workload
from batch_pipeline_tests.nights.plan import FIRST_DAY, stable
from batch_pipeline_tests.nights.tickets import NAME, write_night, write_workload

_MOST_SECONDS = 600.0
_BY = "the year"


class GrowthError(Exception):
    """A load that did not come to its end: nothing can be measured then."""


def workload_name(number: int) -> str:
    return f"tickets_{number}"


def declare(folder: Path, number: int, first: date) -> None:
    """Writes one workload below `folder`, whose days begin with `first`."""
    base = folder / workload_name(number)
    write_workload(base, seed=number)
    path = base / NAME / "defs.yaml"
    declared = yaml.safe_load(path.read_text(encoding="utf-8"))
    declared["attributes"] |= {"name": workload_name(number), "partitions": {"start": first}}
    path.write_text(yaml.safe_dump(declared), encoding="utf-8")


@contextmanager
def environment(state: Path, workloads: Path) -> Iterator[None]:
    """Only this state folder, and no API but a simulator; put back at the end."""
    before = dict(os.environ)
    forget_credentials()
    for name in list(os.environ):
        if name.startswith(("BATCH_PIPELINE_", "DAGSTER_")):
            del os.environ[name]
    os.environ |= {
        "ANTHROPIC_API_KEY": "simulator",
        "BATCH_PIPELINE_STATE": str(state),
        "BATCH_PIPELINE_WORKLOADS": str(workloads),
        "BATCH_PIPELINE_POLL_SECONDS": "0.02",
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def answering(
    workloads: Path, number: int, day: date, *, rows: int, turnaround_seconds: float = 0
) -> Iterator[LoadContext]:
    """A load whose source is written and whose answers a simulator has."""
    night = (day - FIRST_DAY).days + 1
    scenario = write_night(
        workloads / workload_name(number), stable(1), night, rows=rows, seed=number
    )
    scenario = scenario.model_copy(update={"turnaround_seconds": turnaround_seconds})
    with Simulator(scenario) as simulator:
        os.environ["ANTHROPIC_BASE_URL"] = simulator.telling_url
        settings = Settings.from_environment()
        workload = find_workload(workload_name(number), settings)
        yield LoadContext.open(workload, day.isoformat(), settings)


def run_for_real(context: LoadContext, *, baseline: bool = False) -> None:
    """Drives a load to its promotion, as `batch-pipeline run` does; records a first baseline where asked to.

    Raises GrowthError where it is not promoted.
    """
    _drive(context)
    if baseline:
        record_baseline(context, reason="the first night", by=_BY)
        _drive(context)


def _drive(context: LoadContext) -> None:
    with redirect_stderr(io.StringIO()) as progress:
        outcome = drive(context, max_wait=_MOST_SECONDS)
    if outcome.exit_code:
        raise GrowthError(f"{context} was not promoted: {outcome.sentence}\n{progress.getvalue()}")


def day_after(first: date, days: int) -> date:
    return first + timedelta(days=days)
