"""A year of loads, and what looking at it costs: python -m batch_pipeline_tests.growth [--days 365] [--json FILE]."""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import click

from batch_pipeline.stages.context import LoadContext
from batch_pipeline_tests.growth.look import cost_of_ticks, looks
from batch_pipeline_tests.growth.meter import Cost, cost_of
from batch_pipeline_tests.growth.replay import Replay, backdate, replay
from batch_pipeline_tests.growth.workloads import (
    answering,
    declare,
    environment,
    run_for_real,
    workload_name,
)

_KEY = "ticket_id"
_TEMPLATES = 3
_SIZES = (30, 90, 180, 365)
_STILL_RUNNING_SECONDS = 3600.0


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="growth", description=__doc__)
    parser.add_argument("--days", type=int, default=365, help="the longest history, in loads")
    parser.add_argument("--workloads", type=int, default=3)
    parser.add_argument("--rows", type=int, default=200, help="source rows of a load")
    parser.add_argument("--state", type=Path, help="an empty folder; default: a new temporary one")
    parser.add_argument("--json", type=Path, help="write the figures here")
    options = parser.parse_args(arguments)
    if options.days <= _TEMPLATES or options.workloads < 1 or options.rows < 1:
        parser.error(f"--days must be above {_TEMPLATES}; --workloads and --rows 1 or more")
    folder = (options.state or Path(tempfile.mkdtemp(prefix="growth-"))).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        click.echo(f"{folder} is not an empty folder; give --state one that is.", err=True)
        return 2
    sizes = sorted({*(size for size in _SIZES if size < options.days), options.days})
    click.echo(
        f"{options.workloads} workloads of {options.rows:,} rows a load; {_TEMPLATES} loads of each are run through "
        "Dagster against the simulator, and copied to the other days. At each size one more load of the first "
        f"workload is run, and one begun. All below {folder}"
    )
    found: dict[int, dict[str, Cost]] = {}
    year = _Year(folder, options.workloads, options.rows, options.days)
    for size in sizes:
        began = time.monotonic()
        year.grow(size)
        found[size] = year.measured(size)
        click.echo(f"{size} loads a workload: {time.monotonic() - began:.0f} s", err=True)
    click.echo(table(found))
    if options.json is not None:
        figures = {
            size: {name: vars(cost) for name, cost in costs.items()}
            for size, costs in found.items()
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


class _Year:
    """A state folder whose history grows, day by day."""

    def __init__(self, folder: Path, workloads: int, rows: int, days: int) -> None:
        self._folder = folder
        self._state = folder / "state"
        self._rows = rows
        self._numbers = range(1, workloads + 1)
        self._today = datetime.now(UTC).date()
        # The day after the last load is begun, too.
        self._first = self._today - timedelta(days=days + 2)
        self._known = 0
        for number in self._numbers:
            declare(folder / "workloads", number, self._first)

    def grow(self, loads: int) -> None:
        """Until each workload has so many loads."""
        if not self._known:
            self._run_templates()
        days = range(self._known, loads)
        templates = [self._day(each) for each in range(_TEMPLATES)]
        replays = [
            Replay(workload_name(number), templates[day % _TEMPLATES], self._day(day))
            for day in days
            for number in self._numbers
        ]
        replay(self._state, replays, _KEY)
        self._known = loads

    def _run_templates(self) -> None:
        with environment(self._state, self._folder / "workloads"):
            for each in range(_TEMPLATES):
                for number in self._numbers:
                    with self._answering(number, each) as context:
                        run_for_real(context, baseline=not each)
        for each in range(_TEMPLATES):
            for number in self._numbers:
                backdate(self._state, workload_name(number), self._day(each), self._today)
        self._known = _TEMPLATES

    def measured(self, loads: int) -> dict[str, Cost]:
        """Runs one more load and begins another, in a copy of the state, and looks at them."""
        copy = self._folder / f"after-{loads}"
        shutil.copytree(self._state, copy)
        with environment(copy, self._folder / "workloads"):
            with self._answering(1, loads) as context:
                began = time.process_time()
                run_for_real(context)
                night = Cost(time.process_time() - began, 0)
                costs = {name: cost_of(work) for name, work in looks(context)}
            with self._answering(1, loads + 1, _STILL_RUNNING_SECONDS) as context:
                ticks = cost_of_ticks(context)
        shutil.rmtree(copy)
        return {**ticks, **costs, "a whole `run`": night}

    def _answering(
        self, number: int, day: int, turnaround: float = 0
    ) -> AbstractContextManager[LoadContext]:
        return answering(
            self._folder / "workloads",
            number,
            self._day(day),
            rows=self._rows,
            turnaround_seconds=turnaround,
        )

    def _day(self, number: int) -> date:
        return self._first + timedelta(days=number)


def table(found: Mapping[int, Mapping[str, Cost]]) -> str:
    """Markdown: CPU milliseconds at the first size, then each size's ratio to it, and the bytes read."""
    first, *later = found
    head = [f"{first} loads: ms", *(f"{size}: ×" for size in later)]
    head += [f"{first} loads: KB read", *(f"{size}: ×" for size in later)]
    lines = [f"| | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    for name, cost in found[first].items():
        cpu = [f"{cost.cpu * 1000:,.1f}"]
        cpu += [f"{found[size][name].cpu / cost.cpu:.2f}" for size in later]
        read = [f"{cost.read / 1024:,.0f}" if cost.read else ""]
        read += [f"{found[size][name].read / cost.read:.2f}" if cost.read else "" for size in later]
        lines.append(f"| {name} | {' | '.join(cpu + read)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
