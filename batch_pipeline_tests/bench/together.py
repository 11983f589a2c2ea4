"""Several workloads' loads at once on one machine: what they wait for each other, embedded and shared.

    python -m batch_pipeline_tests.bench.together [--rows 10000] [--loads 1 --loads 4] [--homes embedded]

Each load is a process that drives our stages to promotion, all against one server. `embedded` is the default: one
SQLite ledger, one DuckDB file. `postgres` has the ledger in a Postgres of the benchmark's own. With as many loads
as the machine has cores, and more, the cores are what is waited for; read the CPU seconds of a load beside that.
"""

import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import mean

import click
import yaml
from rich.console import Console
from rich.table import Table

from batch_pipeline_tests.bench.__main__ import DAY, _environment, bench_server
from batch_pipeline_tests.bench.inputs import NAME, Inputs, make_inputs
from batch_pipeline_tests.bench.process import Taken, run_watched
from batch_pipeline_tests.postgres import running

HOMES = ("embedded", "postgres")


def one_round(inputs: Inputs, loads: int, more: dict[str, str]) -> tuple[float, list[Taken]]:
    """So many loads begun at once: seconds until the last was promoted, and what each took."""
    names = [_copy_of(inputs, number) for number in range(loads)]
    taken: list[Taken] = []
    failed: list[str] = []
    with tempfile.TemporaryDirectory(dir=inputs.folder) as state, bench_server() as url:
        environment = _environment(inputs, Path(state), url) | more

        def drive(name: str) -> None:
            command = [sys.executable, "-m", "batch_pipeline_tests.bench.stages_run", name, DAY]
            try:
                taken.append(run_watched(command, environment))
            except SystemExit as error:  # which would end this thread without a word
                failed.append(str(error))

        threads = [threading.Thread(target=drive, args=(name,)) for name in names]
        began = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        whole = time.perf_counter() - began
    if failed:
        raise SystemExit(failed[0])
    return whole, taken


def _copy_of(inputs: Inputs, number: int) -> str:
    name = f"{NAME}_{number}"
    folder = inputs.workloads / name
    if not folder.is_dir():
        folder.mkdir()
        declared = yaml.safe_load((inputs.workloads / NAME / "defs.yaml").read_text("utf-8"))
        declared["attributes"]["name"] = name
        (folder / "defs.yaml").write_text(yaml.safe_dump(declared, sort_keys=False), "utf-8")
        (folder / "system.md").write_bytes(inputs.system.read_bytes())
    return name


@contextmanager
def _home(name: str) -> Iterator[Callable[[], dict[str, str]]]:
    """Makes the environment of one round: a ledger of its own."""
    if name == "embedded":
        yield dict
        return
    with running() as server:
        yield lambda: {"BATCH_PIPELINE_LEDGER": server.url()}


@click.command(help=__doc__)
@click.option("--rows", type=int, default=10_000, show_default=True, help="Rows of each load.")
@click.option("--loads", type=int, multiple=True, default=(1, 2, 4, 8), show_default=True)
@click.option("--homes", type=click.Choice(HOMES), multiple=True, default=HOMES)
def together(rows: int, loads: tuple[int, ...], homes: tuple[str, ...]) -> None:
    table = Table(
        title=f"loads of {rows:,} rows at once, {os.cpu_count()} cores", title_justify="left"
    )
    for heading in (
        "home",
        "loads",
        "seconds",
        "rows/s",
        "x one",
        "cpu s a load",
        "peak MB a load",
    ):
        table.add_column(heading, justify="right")
    with tempfile.TemporaryDirectory() as folder:
        inputs = make_inputs(Path(folder), rows, "short")
        for home in homes:
            with _home(home) as environment:
                first = 0.0
                for count in loads:
                    seconds, taken = one_round(inputs, count, environment())
                    speed = count * rows / seconds
                    first = first or speed
                    table.add_row(
                        home,
                        str(count),
                        f"{seconds:.1f}",
                        f"{speed:,.0f}",
                        f"{speed / first:.2f}",
                        f"{mean(one.cpu_seconds for one in taken):.1f}",
                        f"{max(one.peak_mb for one in taken):,.0f}",
                    )
    Console(width=100).print(table)


if __name__ == "__main__":
    together()
