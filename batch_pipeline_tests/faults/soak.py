"""Any number of seeded nights on all cores, and a summary.

    python -m batch_pipeline_tests.faults.soak [--seeds N] [--first M] [--crashes] [--postgres] [--keep FOLDER]

`--crashes` also kills `batch-pipeline run` at every boundary there is, Dagster's own included. With
`--postgres` all ledgers are in Postgres, each in a database of its own.
"""

import argparse
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click

from batch_pipeline_tests import forked
from batch_pipeline_tests.faults.boundaries import DAGSTER, PRODUCT
from batch_pipeline_tests.faults.crash_anywhere import RUN, STAGES, report
from batch_pipeline_tests.faults.night_run import NightEnd, run_night
from batch_pipeline_tests.faults.nights import draw
from batch_pipeline_tests.postgres import running


def nights(
    first: int,
    seeds: int,
    folder: Path,
    processes: int,
    *,
    keep: bool,
    databases: Callable[[], str] | None = None,
) -> Iterator[NightEnd]:
    """Runs the nights of these seeds, several at a time, in the order of the seeds."""

    def share(number: int) -> list[NightEnd]:
        return [_night(seed, folder, keep, databases) for seed in _seeds(number)]

    def _seeds(number: int) -> range:
        return range(first + number, first + seeds, processes)

    with ThreadPoolExecutor(processes) as pool:
        for ends in pool.map(share, range(min(processes, seeds))):
            yield from ends


def _night(
    seed: int,
    folder: Path,
    keep: bool,
    databases: Callable[[], str] | None,
) -> NightEnd:
    ledger = databases() if databases else None
    end = run_night(draw(seed), folder / str(seed), keep=keep, ledger=ledger)
    if end.violations:
        click.echo(str(end))
    return end


def main() -> int:
    parser = argparse.ArgumentParser(description="Seeded nights, and crashes at every boundary.")
    parser.add_argument("--seeds", type=int, default=500)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--crashes", action="store_true")
    parser.add_argument("--keep", type=Path, help="keep everything that the nights leave, here")
    parser.add_argument("--postgres", action="store_true", help="the ledgers are in Postgres")
    options = parser.parse_args()
    if not options.postgres:
        return soak(options, None)
    with running() as server:
        return soak(options, server.url)


def soak(options: argparse.Namespace, databases: Callable[[], str] | None) -> int:
    """Prints the summary; returns 1 where anything was not as it must be."""
    processes = os.cpu_count() or 1
    started = time.monotonic()
    total = NightEnd(draw(options.first))
    violations = done = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or Path(temporary)
        for end in nights(
            options.first,
            options.seeds,
            folder,
            processes,
            keep=options.keep is not None,
            databases=databases,
        ):
            done += 1
            total.kills += end.kills
            total.faults += end.faults
            total.batches += end.batches
            total.rows += end.rows
            violations += len(end.violations)
    click.echo(
        f"{done} nights in {time.monotonic() - started:.0f} s: {total.rows} rows, {total.batches} batches"
    )
    click.echo(f"{total.kills.total()} kills: {_listed(total.kills)}")
    click.echo(f"faults that struck: {_listed(total.faults)}")
    click.echo(f"{violations} violations")
    if options.crashes:
        violations += sum(
            report(call, owner, [], processes, databases)
            for call, owner in ((STAGES, PRODUCT), (RUN, PRODUCT), (RUN, DAGSTER))
        )
    return int(violations > 0)


def _listed(counted: Counter[str]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in sorted(counted.items())) or "none"


if __name__ == "__main__":
    with forked.available():
        sys.exit(main())
