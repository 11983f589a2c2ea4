"""A whole night for real: `batch-pipeline run` to promotion, two tiers, a golden set, faults; then what is read of it.

    python -m batch_pipeline_tests.bench.whole_night [--rows 2000000]

Everything is as declared by default: pilot, dedupe, caching, estimate. The simulator answers, in a process of its
own: it renders, validates, draws and accounts for every request, which costs more than what is measured; so the
seconds of `run` are shared with it, and `bench` says what the pipeline alone takes.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import duckdb
import yaml

from batch_pipeline_tests.bench.inputs import (
    LABELS,
    NAME,
    OUTPUT,
    PREFIX_BYTES,
    prefix,
    write_source,
)
from batch_pipeline_tests.bench.process import Taken, run_watched

DAY = "2026-11-20"
GOLDEN_ROWS = 500
_CHEAP, _GOOD = "claude-haiku-4-5", "claude-sonnet-4-6"
_COMMAND = str(Path(sys.executable).with_name("batch-pipeline"))


def write_night(folder: Path, rows: int) -> Path:
    """Writes source, golden set and declaration below `folder`; returns the simulator's scenario."""
    place = folder / "workloads" / NAME
    place.mkdir(parents=True)
    source, golden = folder / "source.parquet", folder / "golden.parquet"
    write_source(source, rows)
    write_source(golden, GOLDEN_ROWS, first=90_000_000)
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT *, regexp_extract(text, 'about (intent_\\d+)', 1) AS expected_intent FROM '{golden}') "
            f"TO '{place}/golden.csv' (FORMAT csv, HEADER)"
        )
    (place / "system.md").write_text(prefix(PREFIX_BYTES["short"]), encoding="utf-8")
    attributes: dict[str, Any] = {
        "name": NAME,
        "source": {"path": str(source), "key": "id"},
        "prompt": {"system": "system.md", "user": "Channel: {{ channel }}\n\n{{ text }}"},
        "output": OUTPUT,
        "tiers": [{"model": _CHEAP, "max_tokens": 256}, {"model": _GOOD, "max_tokens": 512}],
        "golden": {"path": "golden.csv", "match": ["intent"], "baseline": 0.9},
        "gates": {"golden_drop_points": 5, "min_validity": 0.95},
        "slices": ["channel"],
    }
    declaration = {"type": "batch_pipeline.BatchWorkload", "attributes": attributes}
    (place / "defs.yaml").write_text(yaml.safe_dump(declaration, sort_keys=False))
    key = "".join(f"{label},{label}\n" for label in LABELS)
    (folder / "key.csv").write_text(f"about,intent\n{key}")
    scenario = {
        "seed": 6,
        "turnaround_seconds": 1,
        "answers": {
            "file": "key.csv",
            "lookup": {"column": "about", "pattern": r"about (intent_\d+)"},
        },
        "models": {
            _CHEAP: {"wrong": 0.05, "broken": 0.03, "server_error": 0.01, "expired": 0.01},
            _GOOD: {"wrong": 0.03, "broken": 0.01},
        },
    }
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(scenario))
    return path


@contextmanager
def simulator(scenario: Path, state: Path) -> Iterator[str]:
    """The simulator in a process of its own; its address."""
    command = [
        _COMMAND,
        "simulate",
        "--port",
        "0",
        "--scenario",
        str(scenario),
        "--state",
        str(state),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            assert process.stdout is not None
            for line in process.stdout:
                words = line.decode().split()
                address = next((word for word in words if word.startswith("http://")), None)
                if address is not None:
                    yield address.rstrip(".,")
                    return
            raise SystemExit("the simulator did not start")
        finally:
            process.terminate()


def run_night(folder: Path, rows: int) -> dict[str, Any]:
    """Runs the night and reads it; what each command took, and the scorecard."""
    scenario = write_night(folder, rows)
    with simulator(scenario, folder / "simulator") as url:
        environment = os.environ | {
            "ANTHROPIC_BASE_URL": url,
            "ANTHROPIC_API_KEY": "bench",
            "BATCH_PIPELINE_STATE": str(folder / "state"),
            "BATCH_PIPELINE_WORKLOADS": str(folder / "workloads"),
            "BATCH_PIPELINE_POLL_SECONDS": "1",
        }
        load = [NAME, "--date", DAY]
        run = run_watched([_COMMAND, "run", *load, "--json"], environment)
        export = ["--to", str(folder / "promoted.parquet")]
        commands = {
            "run": run,
            "scorecard": run_watched([_COMMAND, "scorecard", *load, "--json"], environment),
            "export": run_watched([_COMMAND, "export", *load, *export], environment),
            "export as CSV": run_watched(
                [_COMMAND, "export", *load, "--to", str(folder / "promoted.csv")], environment
            ),
            "dispositions": run_watched(
                [_COMMAND, "dispositions", *load, "--to", str(folder / "rows.parquet")], environment
            ),
            "report": run_watched(
                [sys.executable, "-m", "batch_pipeline_tests.bench.write_page", NAME, DAY],
                environment,
            ),
        }
    with duckdb.connect() as connection:
        exported = connection.execute(
            f"SELECT count(*), count(DISTINCT id) FROM '{folder}/promoted.parquet'"
        ).fetchall()[0]
    card = run.said
    if exported != (card["promoted_rows"],) * 2:
        raise SystemExit(f"exported {exported}, promoted {card['promoted_rows']}")
    return {
        "rows": rows,
        "commands": {name: _taken(taken) for name, taken in commands.items()},
        "scorecard": card,
    }


def _taken(taken: Taken) -> dict[str, float]:
    return {
        "seconds": taken.wall_seconds,
        "cpu_seconds": taken.cpu_seconds,
        "peak_mb": taken.peak_mb,
    }


@click.command(help=__doc__)
@click.option("--rows", default=2_000_000, show_default=True)
@click.option(
    "--scratch",
    type=click.Path(path_type=Path),
    help="Where everything is made; 10 GB for 2,000,000.",
)
@click.option(
    "--json", "to", type=click.Path(path_type=Path), help="What was found, as a JSON file."
)
def main(rows: int, scratch: Path | None, to: Path | None) -> None:
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        found = run_night(Path(folder), rows)
    for name, taken in found["commands"].items():
        said = f"{taken['seconds']:8.1f} s {taken['cpu_seconds']:8.1f} s CPU {taken['peak_mb']:6,.0f} MB"
        click.echo(f"{name:14}{said}")
    card = found["scorecard"]
    shown = (
        "source_rows",
        "dispositions",
        "coverage",
        "validity",
        "escalation_rate",
        "golden",
        "gate",
    )
    for name in (*shown, "results", "batches", "requests", "cost_usd", "promoted_rows"):
        click.echo(f"{name:16}{json.dumps(card[name])}")
    if to is not None:
        to.write_text(json.dumps(found, indent=2))
    sys.exit(0 if card["coverage"] == 1 and card["gate"]["promote"] else 1)


if __name__ == "__main__":
    main()
