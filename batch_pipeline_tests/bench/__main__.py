"""Four ways to run the same night, one after the other against the same server: how long, how much memory.

    python -m batch_pipeline_tests.bench [--rows 10000 --rows 100000] [--shape short --shape long]

a  floor     a script as tight as it can be written, for this one workload
b  plain     the SDK's plain way: create(list), iterate results(), Pandera at the end
c  stages    our stages, as the assets call them
d  run       the whole `batch-pipeline run`, Dagster included

Prints a table, and writes the same figures as JSON. Read the ratios: the seconds are this machine's.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import click
import duckdb
from rich.console import Console
from rich.table import Table

from batch_pipeline_tests.bench.inputs import NAME, Inputs, make_inputs
from batch_pipeline_tests.bench.process import Taken, run_watched

DAY = "2026-11-20"
CONTESTANTS = ("floor", "plain", "stages", "run")
_LETTERS = dict(zip(CONTESTANTS, "abcd", strict=True))
_PACKAGE = "batch_pipeline_tests.bench"


@contextmanager
def bench_server() -> Iterator[str]:
    """A server of its own process; its address."""
    command = [sys.executable, "-m", f"{_PACKAGE}.server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdin is not None and server.stdout is not None
        try:
            yield server.stdout.readline().decode().strip()
        finally:
            server.stdin.close()
            server.wait(10)


def _command(contestant: str, inputs: Inputs, state: Path, url: str) -> list[str]:
    paths = [str(inputs.source), str(inputs.system), str(state)]
    return {
        "floor": [sys.executable, "-m", f"{_PACKAGE}.floor", *paths, url],
        "plain": [sys.executable, "-m", f"{_PACKAGE}.plain", *paths],
        "stages": [sys.executable, "-m", f"{_PACKAGE}.stages_run", NAME, DAY],
        "run": [
            str(Path(sys.executable).with_name("batch-pipeline")),
            "run",
            NAME,
            "--date",
            DAY,
            "--json",
        ],
    }[contestant]


def _environment(inputs: Inputs, state: Path, url: str) -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("BATCH_PIPELINE_", "ANTHROPIC_", "DAGSTER_"))
    }
    return kept | {
        "ANTHROPIC_BASE_URL": url,
        "ANTHROPIC_API_KEY": "bench",
        "BATCH_PIPELINE_STATE": str(state),
        "BATCH_PIPELINE_WORKLOADS": str(inputs.workloads),
        "BATCH_PIPELINE_POLL_SECONDS": "0.05",
        "BATCH_PIPELINE_GRACE_SECONDS": "1",
    }


def measure(contestant: str, inputs: Inputs) -> Taken:
    """Runs one contestant once, in a new state folder against a new server."""
    with tempfile.TemporaryDirectory(dir=inputs.folder) as folder, bench_server() as url:
        state = Path(folder)
        return run_watched(
            _command(contestant, inputs, state, url), _environment(inputs, state, url)
        )


def work_seconds(taken: Taken) -> float:
    """Seconds of the stages, without the start of the process; of a whole command there is only the whole."""
    seconds: dict[str, float] | None = taken.said.get("seconds")
    return sum(seconds.values()) if seconds else taken.wall_seconds


def _median_run(runs: list[Taken]) -> Taken:
    middle = median(work_seconds(run) for run in runs)
    return min(runs, key=lambda run: abs(work_seconds(run) - middle))


def compare(inputs: Inputs, contestants: tuple[str, ...], repeats: int) -> dict[str, Any]:
    """The figures of one size and shape: the run in the middle of `repeats`, contestants taking turns."""
    runs: dict[str, list[Taken]] = {name: [] for name in contestants}
    for _ in range(repeats):
        for name in contestants:
            runs[name].append(measure(name, inputs))
    chosen = {name: _median_run(each) for name, each in runs.items()}
    promoted = {name: _promoted(taken) for name, taken in chosen.items()}
    if len(set(promoted.values())) > 1:
        raise SystemExit(f"the contestants did not promote the same rows: {promoted}")
    figures = {name: _figures(taken, inputs.rows) for name, taken in chosen.items()}
    ratios = {
        f"{_LETTERS[one]}/{_LETTERS[other]}": figures[one][what] / figures[other][what]
        for one, other, what in (
            ("stages", "floor", "seconds"),
            ("plain", "stages", "seconds"),
            ("run", "stages", "process_seconds"),
            ("plain", "run", "process_seconds"),
        )
        if one in figures and other in figures
    }
    overhead = None
    if "run" in figures and "stages" in figures:
        overhead = figures["run"]["process_seconds"] - figures["stages"]["seconds"]
    return {
        "rows": inputs.rows,
        "shape": inputs.shape,
        "repeats": repeats,
        "contestants": figures,
        "ratios": ratios,
        "overhead_seconds": overhead,
    }


def _promoted(taken: Taken) -> int:
    return int(taken.said.get("measures", taken.said)["promoted_rows"])


def _figures(taken: Taken, rows: int) -> dict[str, Any]:
    seconds = work_seconds(taken)
    # The kernel's own mark begins anew with each stage.
    peaks: dict[str, float] = taken.said.get("peak_mb", {})
    return {
        "seconds": seconds,
        "process_seconds": taken.wall_seconds,
        "cpu_seconds": taken.cpu_seconds,
        "rows_per_second": rows / seconds,
        "peak_mb": max([taken.peak_mb, *peaks.values()]),
        "stage_peaks_mb": peaks,
        "stages": taken.said.get("seconds", {}),
    }


def show(console: Console, result: dict[str, Any]) -> None:
    """Prints the figures of one size and shape."""
    title = f"{result['rows']:,} rows, {result['shape']} prefix, median of {result['repeats']}"
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for heading in ("seconds", "process", "cpu", "rows/s", "peak MB"):
        table.add_column(heading, justify="right")
    table.add_column("seconds per stage (peak)")
    for name, one in result["contestants"].items():
        peaks = one["stage_peaks_mb"]
        stages = ", ".join(
            f"{stage} {seconds:.2f}" + (f" ({peaks[stage]:,.0f} MB)" if stage in peaks else "")
            for stage, seconds in one["stages"].items()
        )
        table.add_row(
            f"{_LETTERS[name]} {name}",
            f"{one['seconds']:.2f}",
            f"{one['process_seconds']:.2f}",
            f"{one['cpu_seconds']:.1f}",
            f"{one['rows_per_second']:,.0f}",
            f"{one['peak_mb']:,.0f}",
            stages,
        )
    console.print(table)
    said = [f"{name} = {value:.2f}" for name, value in result["ratios"].items()]
    if result["overhead_seconds"] is not None:
        said.append(f"d - c = {result['overhead_seconds']:.1f} s")
    console.print(f"{'   '.join(said)}\n")


def _machine() -> dict[str, Any]:
    return {
        "cores": os.cpu_count(),
        "memory_gb": round(os.sysconf("SC_PAGESIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "duckdb": duckdb.__version__,
    }


@click.command(help=__doc__)
@click.option("--rows", type=int, multiple=True, default=(10_000, 100_000), show_default=True)
@click.option("--shape", type=click.Choice(["short", "long"]), multiple=True, default=("short",))
@click.option("--only", type=click.Choice(CONTESTANTS), multiple=True, help="Leave the others out.")
@click.option("--repeats", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--scratch", type=click.Path(path_type=Path), help="Where inputs and states are made."
)
@click.option("--json", "to", type=click.Path(path_type=Path), help="The figures, as a JSON file.")
def bench(
    rows: tuple[int, ...],
    shape: tuple[str, ...],
    only: tuple[str, ...],
    repeats: int,
    scratch: Path | None,
    to: Path | None,
) -> None:
    console = Console(width=None if sys.stdout.isatty() else 160)
    contestants = tuple(name for name in CONTESTANTS if not only or name in only)
    results = []
    for one_shape in shape:
        for count in rows:
            with tempfile.TemporaryDirectory(dir=scratch) as folder:
                inputs = make_inputs(Path(folder), count, one_shape)
                results.append(compare(inputs, contestants, repeats))
            show(console, results[-1])
            if to is not None:
                to.write_text(json.dumps({"machine": _machine(), "results": results}, indent=2))


if __name__ == "__main__":
    bench()
