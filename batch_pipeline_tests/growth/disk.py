"""Disk that one load takes, by kind, before and after `purge`: python -m batch_pipeline_tests.growth.disk [ROWS]..."""

import argparse
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import click
from click.testing import CliRunner
from dagster._core.definitions.run_request import InstigatorType
from dagster._core.scheduler.instigation import TickData, TickStatus

from batch_pipeline.cli import main as command
from batch_pipeline.dag.instance import open_instance
from batch_pipeline.settings import Settings
from batch_pipeline_tests.growth.workloads import (
    GrowthError,
    answering,
    declare,
    environment,
    run_for_real,
)

# The first that fits a path below the state folder names its kind.
_KINDS = (
    (r"rows/.*/(source|golden)\.parquet", "rows: source"),
    (r"rows/.*/prompts\.parquet", "rows: prompt digests"),
    (r"rows/.*/chunks/", "rows: request bodies"),
    (r"rows/.*/sent/", "rows: sent"),
    (r"rows/.*/raw/", "rows: raw results"),
    (r"rows/.*/results/", "rows: parsed results"),
    (r"rows/.*/verdicts/", "rows: verdicts"),
    (r"rows/.*/dispositions\.parquet", "rows: dispositions"),
    (r"rows/.*/promoted\.parquet", "rows: promoted"),
    (r"rows/", "rows: plan and the rest"),
    (r"ledger", "ledger"),
    (r"warehouse", "warehouse: metrics and promoted rows"),
    (r"metrics/", "metrics: Parquet copies"),
    (r"scorecards/", "scorecards"),
    (r"reports/", "report"),
    (r"dagster/history/runs/index\.db", "Dagster: asset events"),
    (r"dagster/history/runs\.db", "Dagster: runs"),
    (r"dagster/history/runs/", "Dagster: log of each run"),
    (r"dagster/schedules/", "Dagster: ticks"),
    (r"", "the rest"),
)
_TICKS = 2_000


def by_kind(state: Path) -> Counter[str]:
    """Bytes of files below a state folder."""
    found: Counter[str] = Counter()
    for path in state.rglob("*"):
        if path.is_file():
            name = path.relative_to(state).as_posix()
            found[next(kind for pattern, kind in _KINDS if re.match(pattern, name))] += (
                path.stat().st_size
            )
    return found


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="disk", description=__doc__)
    parser.add_argument("rows", nargs="*", type=int, default=[1_000, 100_000])
    options = parser.parse_args(arguments)
    found: dict[int, tuple[Counter[str], Counter[str]]] = {}
    for rows in options.rows:
        folder = Path(tempfile.mkdtemp(prefix="disk-"))
        try:
            found[rows] = _one_load(folder, rows)
        finally:
            shutil.rmtree(folder)
    click.echo(table(found))
    click.echo(f"A sensor's tick takes {_bytes_of_a_tick():,.0f} bytes in Dagster's storage.")
    return 0


def _one_load(folder: Path, rows: int) -> tuple[Counter[str], Counter[str]]:
    """Before and after `purge`, of a state folder in which nothing else was ever done."""
    day = datetime.now(UTC).date() - timedelta(days=2)
    state, workloads = folder / "state", folder / "workloads"
    declare(workloads, 1, day)
    with environment(state, workloads):
        with answering(workloads, 1, day, rows=rows) as context:
            run_for_real(context)
        before = by_kind(state)
        done = CliRunner().invoke(command, ["purge", "--older-than", "0d"])
        if done.exit_code:
            raise GrowthError(done.output)
        return before, by_kind(state)


def _bytes_of_a_tick() -> float:
    folder = Path(tempfile.mkdtemp(prefix="ticks-"))
    try:
        with environment(folder / "state", folder):
            (folder / "state").mkdir()
            with open_instance(Settings.from_environment()) as instance:
                path = folder / "state" / "dagster" / "schedules" / "schedules.db"
                sizes = []
                for _ in range(2):
                    for _ in range(_TICKS):
                        instance.create_tick(
                            TickData(
                                instigator_origin_id="0" * 40,
                                instigator_name="tickets_1__poll",
                                instigator_type=InstigatorType.SENSOR,
                                status=TickStatus.SKIPPED,
                                timestamp=datetime.now(UTC).timestamp(),
                                selector_id="0" * 40,
                                skip_reason="2026-11-20: batches are running, or a time is waited for",
                                cursor='{"2026-11-20": ["1/14/14/", 1795417544.4335582, ""]}',
                            )
                        )
                    sizes.append(path.stat().st_size)
        return (sizes[1] - sizes[0]) / _TICKS
    finally:
        shutil.rmtree(folder)


def table(found: Mapping[int, tuple[Mapping[str, int], Mapping[str, int]]]) -> str:
    """Markdown: kilobytes of each kind, before and after, and bytes a row."""
    head = [
        part
        for rows in found
        for part in (f"{rows:,} rows: KB", "after `purge`: KB", "bytes a row before")
    ]
    lines = [f"| | {' | '.join(head)} |", "|---" * (len(head) + 1) + "|"]
    kinds = [kind for _, kind in _KINDS if any(kind in before for before, _ in found.values())]
    for kind in [*kinds, "all"]:
        cells = []
        for rows, sizes in found.items():
            before, after = (sum(s.values()) if kind == "all" else s.get(kind, 0) for s in sizes)
            cells += [f"{before / 1024:,.0f}", f"{after / 1024:,.0f}", f"{before / rows:,.1f}"]
        lines.append(f"| {kind} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
