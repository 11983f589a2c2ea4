"""Ninety simulated nights: python -m batch_pipeline_tests.nights [--stable] [--json FILE]."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import click

from batch_pipeline_tests.nights.drive_night import NightRun, run_nights
from batch_pipeline_tests.nights.plan import Plan, eventful, stable
from batch_pipeline_tests.nights.verdict import as_json, judge, summary, table

_EXIT_WRONG_USE = 2


def main(arguments: Sequence[str]) -> int:
    """0: all that was planted was caught, with at most one false page; else 1. 2: wrong use."""
    parser = argparse.ArgumentParser(prog="nights", description=__doc__)
    parser.add_argument("--nights", type=int, default=90)
    parser.add_argument("--rows", type=int, default=1_000, help="source rows of a night")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--state", type=Path, help="an empty folder; default: a new temporary one")
    parser.add_argument("--stable", action="store_true", help="plant nothing")
    parser.add_argument("--json", type=Path, help="write everything that was found here")
    options = parser.parse_args(arguments)
    if options.nights < 1 or options.rows < 1:
        parser.error("--nights and --rows must be 1 or more")
    state = (options.state or Path(tempfile.mkdtemp(prefix="nights-"))).resolve()
    if state.exists() and (not state.is_dir() or any(state.iterdir())):
        click.echo(f"{state} is not an empty folder; give --state one that is.", err=True)
        return _EXIT_WRONG_USE
    state.mkdir(parents=True, exist_ok=True)
    plan = (stable if options.stable else eventful)(options.nights)
    click.echo(
        f"{len(plan.loads())} loads in {plan.nights} nights, {options.rows:,} rows each, seed {options.seed}, "
        "through Dagster's jobs and the SDK, against the simulator: no model answers."
    )
    click.echo(f"All state: {state}")
    started = time.monotonic()
    runs = _shown(plan, state, rows=options.rows, seed=options.seed)
    verdict = judge(plan, runs)
    click.echo("")
    for said in summary(plan, verdict):
        click.echo(said)
    click.echo("Pages:")
    telling = {one.night for one in verdict.caught} | {one.last for one in plan.planted}
    telling.add(runs[-1].night)
    for run in runs:
        if run.night in telling:
            click.echo(f"    night {run.night}: {run.report}")
    click.echo(f"{time.monotonic() - started:.0f} s")
    if options.json is not None:
        options.json.write_text(json.dumps(as_json(plan, runs, verdict), indent=2) + "\n")
    return int(not verdict.good)


def _shown(plan: Plan, state: Path, *, rows: int, seed: int) -> list[NightRun]:
    """Runs the nights, and prints each line of the table as soon as it is known."""
    runs: list[NightRun] = []
    shown = 0
    for run in run_nights(plan, state, rows=rows, seed=seed):
        runs.append(run)
        lines = list(table(plan, runs))[: run.night + 1]
        for said in lines[shown:]:
            click.echo(said)
        shown = len(lines)
    return runs


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
