"""Records the state folder that this folder holds. It runs with the release that is to be recorded:

    PYTHONPATH=CHECKOUT_OF_THAT_RELEASE python batch_pipeline_tests/old_state/make.py

Everything beside this file that it writes is removed first. README.md says what comes out.
"""

import csv
import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import yaml

import batch_pipeline
from batch_pipeline.simulator import Simulator

HERE = Path(__file__).resolve().parent
LABELS = ["billing", "bug", "how_to"]
HAIKU, SONNET = "claude-haiku-4-5", "claude-sonnet-4-6"
AN_HOUR = 3600

SCENARIO: dict[str, Any] = {
    "seed": 1,
    "answers": {"file": "key.csv", "lookup": {"column": "text"}},
    "rows": [
        {"fault": "unknown_label", "contains": "number 2 of", "model": HAIKU},
        {"fault": "invalid_request", "contains": "number 4 of"},
    ],
}


def rows(count: int, start: int = 0) -> list[dict[str, str]]:
    return [
        {"id": f"r{n:05}", "text": f"question number {n} of the night", "label": LABELS[n % 3]}
        for n in range(start, start + count)
    ]


def write_csv(path: Path, lines: Sequence[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)


def write_yaml(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


class Making:
    """The folder that is being filled: workloads, simulator and state."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        # Both simulators and the ledger's addresses name the same one.
        with closing(socket.create_server(("127.0.0.1", 0))) as free:
            self.port = free.getsockname()[1]
        (folder / "simulator").mkdir()
        source, golden = rows(8), rows(2, start=100)
        write_csv(
            folder / "simulator" / "key.csv", [_only(r, "text", "label") for r in source + golden]
        )
        write_yaml(folder / "simulator" / "scenario.yaml", SCENARIO)
        self._declare("questions", source, golden, {})
        self._declare("dear_questions", source, golden, {"gates": {"max_cost_usd": 0.000001}})

    def _declare(self, name: str, source: Any, golden: Any, more: dict[str, Any]) -> None:
        place = self.folder / "workloads" / name
        place.mkdir(parents=True)
        write_csv(place / "source.csv", [_only(r, "id", "text") for r in source])
        write_csv(
            place / "golden.csv",
            [{**_only(r, "id", "text"), "expected_label": r["label"]} for r in golden],
        )
        attributes = {
            "name": name,
            "source": {"path": "source.csv", "key": "id"},
            "prompt": {"system": "Say what the question is about.", "user": "{{ text }}"},
            "output": {"label": {"type": "string", "enum": LABELS}},
            "tiers": [{"model": HAIKU, "max_tokens": 64}, {"model": SONNET, "max_tokens": 128}],
            "golden": {"path": "golden.csv", "match": ["label"], "baseline": 0.9},
            "limits": {"max_requests": 5},
            **more,
        }
        write_yaml(
            place / "defs.yaml", {"type": "batch_pipeline.BatchWorkload", "attributes": attributes}
        )

    @contextmanager
    def simulator(self, **changes: Any) -> Iterator[None]:
        """The simulator over the batches that it has, with other options."""
        home = self.folder / "simulator"
        now = home / "now.yaml"
        write_yaml(now, {**SCENARIO, **changes})
        try:
            with Simulator(now, state_dir=home / "state", port=self.port):
                yield
        finally:
            now.unlink()

    def creates(self) -> int:
        calls = (self.folder / "simulator" / "state" / "batches").glob("*/record.json")
        return sum(1 for _ in calls)

    def call(self, *arguments: str, exits: int = 0) -> str:
        """The recorded release's command line, in a process of its own."""
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
            "ANTHROPIC_API_KEY": "simulator",
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{self.port}/simulator",
            "BATCH_PIPELINE_STATE": str(self.state),
            "BATCH_PIPELINE_WORKLOADS": str(self.folder / "workloads"),
            "BATCH_PIPELINE_POLL_SECONDS": "0.1",
            "DAGSTER_DISABLE_TELEMETRY": "1",
        }
        done = subprocess.run(
            [sys.executable, "-c", "from batch_pipeline.cli import main; main()", *arguments],
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != exits:
            raise SystemExit(f"{arguments} ended with {done.returncode}: {done.stderr}")
        return done.stdout

    def nights(self) -> None:
        """A promoted load, a held one, one whose second wave is open, and one whose answer was lost."""
        with self.simulator():
            self.call("run", "questions", "--date", "2026-11-16")
            self.call("run", "dear_questions", "--date", "2026-11-16", exits=3)
        with self.simulator(turnaround_seconds=2):
            # Sent, and no more.
            self.call("run", "questions", "--date", "2026-11-17", "--max-wait", "0", exits=4)
        with self.simulator(turnaround_seconds=AN_HOUR):
            # Collected, and the next wave sent.
            self.call("run", "questions", "--date", "2026-11-17", "--max-wait", "3", exits=4)
        lost = {"on": "create", "fault": "error_after_accepting", "nth": self.creates() + 2}
        with self.simulator(turnaround_seconds=AN_HOUR, calls=[lost]):
            self.call("run", "questions", "--date", "2026-11-18", "--max-wait", "1", exits=4)

    def answers(self, to: Path) -> None:
        """What the recorded release says of the loads that are done."""
        for workload in ("questions", "dear_questions"):
            of_it = (workload, "--date", "2026-11-16")
            (to / f"{workload}.scorecard.json").write_text(self.call("scorecard", *of_it, "--json"))
            self.call("dispositions", *of_it, "--to", str(to / f"{workload}.dispositions.csv"))
        self.call("export", "questions", "--date", "2026-11-16", "--to", str(to / "questions.csv"))


def _only(row: dict[str, str], *names: str) -> dict[str, str]:
    return {name: row[name] for name in names}


def record(making: Making) -> None:
    """Copies what is kept, in a form that can be read in a review."""
    for name in ("state", "simulator", "workloads", "answers"):
        shutil.rmtree(HERE / name, ignore_errors=True)
    (HERE / "answers").mkdir()
    making.answers(HERE / "answers")
    (HERE / "state" / "warehouse").mkdir(parents=True)
    with closing(sqlite3.connect(making.state / "ledger.sqlite")) as ledger:
        (HERE / "state" / "ledger.sql").write_text("\n".join(ledger.iterdump()) + "\n")
    with duckdb.connect(str(making.state / "warehouse.duckdb"), read_only=True) as warehouse:
        folder = making.folder / "exported"
        warehouse.execute(f"EXPORT DATABASE '{folder}' (FORMAT csv)")
    for file in sorted(folder.iterdir()):
        # Relative to the folder that is imported from.
        text = file.read_text().replace(f"{folder}/", "")
        (HERE / "state" / "warehouse" / file.name).write_text(text)
    shutil.copytree(making.state / "rows", HERE / "state" / "rows")
    shutil.copytree(making.folder / "workloads", HERE / "workloads")
    shutil.copytree(
        making.folder / "simulator",
        HERE / "simulator",
        ignore=shutil.ignore_patterns("lock", "incoming"),
    )
    now = datetime.now(UTC).isoformat(timespec="seconds")
    (HERE / "answers" / "recorded.json").write_text(json.dumps({"recorded_at": now}) + "\n")


def check() -> None:
    """Nothing of the machine that recorded it may be in it."""
    machine = re.compile(rb"/tmp/|/home/|/root/|/Users/|" + re.escape(os.fsencode(HERE.parent)))
    for file in HERE.glob("*/**/*"):
        if file.is_file() and machine.search(file.read_bytes()):
            raise SystemExit(f"{file} names a folder of this machine")


def main() -> None:
    print(f"Recording {Path(batch_pipeline.__file__).parent}")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        making = Making(Path(folder))
        making.nights()
        record(making)
    check()


if __name__ == "__main__":
    main()
