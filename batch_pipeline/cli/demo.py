"""`demo`: the sample workload against the simulator, whatever the environment holds."""

from __future__ import annotations

import os
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import SHIPPED_WORKLOADS, Settings, project_root

if TYPE_CHECKING:
    from batch_pipeline.workload.workload import Workload

SAMPLE = "support_tickets"


def sample_scenario() -> Path:
    """The simulator's scenario for the sample. Raises ConfigurationError outside a checkout."""
    scenario = project_root() / "data" / SAMPLE / "scenario.yaml"
    if not (SHIPPED_WORKLOADS / SAMPLE).is_dir() or not scenario.is_file():
        raise ConfigurationError(
            "The sample workload lives in the project's repository, not in the installed package; "
            "clone it and run `make demo` there."
        )
    return scenario


def forget_credentials() -> None:
    """Removes what could lead a call anywhere but to the simulator, for this process and its children."""
    for name in list(os.environ):
        if name.startswith("ANTHROPIC_") or name.lower() in (
            "http_proxy",
            "https_proxy",
            "all_proxy",
        ):
            del os.environ[name]
    os.environ["NO_PROXY"] = "127.0.0.1"


@click.command()
def demo() -> None:
    """Run the sample workload through submission, escalation, golden gate and promotion.

    A simulator answers: no API key is needed and nothing is ever spent. Each call makes a new load, of the
    newest complete day that has none.
    """
    from batch_pipeline.cli.drive import drive
    from batch_pipeline.cli.preflight import preflight
    from batch_pipeline.cli.scorecard_table import print_scorecard
    from batch_pipeline.simulator import Simulator
    from batch_pipeline.workload.catalogue import find_workload

    scenario = sample_scenario()
    forget_credentials()
    # Nothing that a simulator answered belongs among what is shared.
    for name in ("LEDGER", "ROWS", "WAREHOUSE", "WORKLOADS", "PRICES"):
        os.environ.pop(f"BATCH_PIPELINE_{name}", None)
    os.environ.pop("DAGSTER_HOME", None)
    os.environ["BATCH_PIPELINE_POLL_SECONDS"] = "0.5"
    settings = Settings.from_environment()
    load = _fresh_day(find_workload(SAMPLE, settings), settings)
    with Simulator(scenario) as simulator:
        os.environ["ANTHROPIC_BASE_URL"] = simulator.telling_url
        os.environ["ANTHROPIC_API_KEY"] = "simulator"
        click.echo(
            f"A simulator answers at {simulator.base_url} in place of the API: no model, no key, no charge."
        )
        outcome = drive(preflight(SAMPLE, load), max_wait=600)
    print_scorecard(outcome.card)
    if outcome.sentence:
        click.echo(outcome.sentence, err=True)
    click.echo("The answers above come from the simulator. Written:")
    from batch_pipeline.report import report_path
    from batch_pipeline.warehouse import warehouse_path

    click.echo(f"  report     {report_path(settings.state, SAMPLE, load)}")
    click.echo(
        f"  warehouse  {warehouse_path(settings.state)} (promoted.{SAMPLE}, metrics.scorecards)"
    )
    click.echo(f"  all state  {settings.state}")
    click.echo(
        "Next: `make ui` shows this load in Dagster; README.md says how to declare your own."
    )
    sys.exit(outcome.exit_code)


def _fresh_day(workload: Workload, settings: Settings) -> str:
    """The newest complete day without a load, so that a second demo is a second night."""
    from batch_pipeline.ledger import Ledger

    ledger = Ledger.existing(settings)
    day = date.fromisoformat(workload.last_complete_day())
    while ledger is not None and ledger.load(workload.name, day.isoformat()) is not None:
        day -= timedelta(days=1)
    workload.check_load(day.isoformat())
    return day.isoformat()
