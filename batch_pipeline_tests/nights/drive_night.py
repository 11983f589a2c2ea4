"""One simulated night through the whole pipeline, and what its checks said in Dagster."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from pathlib import Path

import dagster as dg

from batch_pipeline.cli import EXIT_HELD
from batch_pipeline.cli.demo import forget_credentials
from batch_pipeline.cli.drive import Outcome, drive
from batch_pipeline.dag.instance import open_instance
from batch_pipeline.report import report_path
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.baseline import record_baseline
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.workload.catalogue import find_workload
from batch_pipeline_tests.nights.plan import Plan, day_of
from batch_pipeline_tests.nights.tickets import (
    NAME,
    write_night,
    write_prices,
    write_prompt,
    write_workload,
)

_MOST_SECONDS = 120.0
_BY = "the simulated nights"


@dataclass(frozen=True)
class Fired:
    """A check that failed: `page` or only logged, in its own words."""

    check: str
    page: bool
    sentence: str


@dataclass(frozen=True)
class NightRun:
    """A night that is over: the checks that failed, the figures of its scorecard, its page."""

    night: int
    load: str
    fired: tuple[Fired, ...]
    promoted: bool
    validity: float | None
    golden_score: float | None
    cost_usd: float
    report: Path


class NightsError(Exception):
    """A load that did not come to its end: the nights say nothing then."""


def run_nights(plan: Plan, state: Path, *, rows: int, seed: int) -> Iterator[NightRun]:
    """Every night of the plan that has a load, each yielded when it is over.

    Each night is driven as `batch-pipeline run` does it: the real SDK over HTTP to a simulator, Dagster's jobs in
    this process, one state folder for all. After the first night, and after a new prompt, a baseline is recorded
    as a person would.

    Raises NightsError where a load is neither promoted nor held at a gate.
    """
    with _environment(state):
        folder = state / "workloads"
        write_workload(folder, seed=seed)
        for night in plan.loads():
            scenario = write_night(folder, plan, night, rows=rows, seed=seed)
            if plan.active("prompt", night):
                write_prompt(folder, mended=True)
            if plan.active("price", night):
                os.environ["BATCH_PIPELINE_PRICES"] = str(write_prices(folder))
            with Simulator(scenario) as simulator:
                os.environ["ANTHROPIC_BASE_URL"] = simulator.telling_url
                outcome = _driven(night)
                if night == 1 or plan.active("prompt", night):
                    why = "first night" if night == 1 else "the new prompt was looked at"
                    record_baseline(_context(night), reason=why, by=_BY)
                    outcome = _driven(night)
            yield _over(night, outcome)


@contextmanager
def _environment(state: Path) -> Iterator[None]:
    """Nothing of the caller's environment leads anywhere else; it is put back at the end."""
    before = dict(os.environ)
    forget_credentials()
    for name in list(os.environ):
        if name.startswith(("BATCH_PIPELINE_", "DAGSTER_")):
            del os.environ[name]
    (state / "workloads").mkdir(parents=True, exist_ok=True)
    os.environ |= {
        "ANTHROPIC_API_KEY": "simulator",
        "BATCH_PIPELINE_STATE": str(state),
        "BATCH_PIPELINE_WORKLOADS": str(state / "workloads"),
        "BATCH_PIPELINE_POLL_SECONDS": "0.02",
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def _context(night: int) -> LoadContext:
    settings = Settings.from_environment()
    return LoadContext.open(find_workload(NAME, settings), day_of(night), settings)


def _driven(night: int) -> Outcome:
    with redirect_stderr(io.StringIO()) as progress:
        outcome = drive(_context(night), max_wait=_MOST_SECONDS)
    if outcome.exit_code not in (0, EXIT_HELD):
        raise NightsError(
            f"Night {night} did not come to its end: {outcome.sentence}\n{progress.getvalue()}"
        )
    return outcome


def _over(night: int, outcome: Outcome) -> NightRun:
    settings, load, card = Settings.from_environment(), day_of(night), outcome.card
    with open_instance(settings) as instance:
        fired = tuple(failed_checks(instance, load))
    return NightRun(
        night,
        load,
        fired,
        outcome.exit_code == 0,
        card.rates["validity"].value,
        card.golden.score if card.golden else None,
        card.cost_usd,
        report_path(settings.state, NAME, load),
    )


def failed_checks(instance: dg.DagsterInstance, load: str) -> Iterator[Fired]:
    """Every asset check that failed in any run of the load, once each, as it was said first."""
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/partition": load}), ascending=True)
    seen = set()
    for run in runs:
        evaluated = instance.all_logs(
            run.run_id, of_type=dg.DagsterEventType.ASSET_CHECK_EVALUATION
        )
        for entry in evaluated:
            event = entry.dagster_event
            assert event is not None
            result = event.asset_check_evaluation_data
            if result.passed or result.check_name in seen:
                continue
            seen.add(result.check_name)
            page = result.severity is dg.AssetCheckSeverity.ERROR
            yield Fired(result.check_name, page, result.description or "")
