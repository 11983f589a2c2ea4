"""Puts the recorded state into a folder, as if it had been left there two hours ago."""

import json
import re
import shutil
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb

RECORDED = Path(__file__).parent
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00")


@dataclass(frozen=True)
class OldState:
    """What was restored: the state, the workloads, and the simulator's folder and scenario."""

    state: Path
    workloads: Path
    simulator: Path
    scenario: Path


def restore(folder: Path) -> OldState:
    """The whole of it. The batches that were open have ended, and no result is older than 29 days."""
    restore_ledger(folder / "state")
    restore_warehouse(folder / "state")
    shutil.copytree(RECORDED / "state" / "rows", folder / "state" / "rows")
    for name in ("workloads", "simulator"):
        shutil.copytree(RECORDED / name, folder / name)
    for file in (folder / "simulator").rglob("record.json"):
        record = json.loads(file.read_text())
        record["created_at"] += _later().total_seconds()
        file.write_text(json.dumps(record))
    simulator = folder / "simulator"
    return OldState(
        folder / "state", folder / "workloads", simulator / "state", simulator / "scenario.yaml"
    )


def restore_ledger(state: Path) -> Path:
    """The ledger alone."""
    later = _later()
    dump = (RECORDED / "state" / "ledger.sql").read_text()
    state.mkdir(parents=True, exist_ok=True)
    path = state / "ledger.sqlite"
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute("PRAGMA journal_mode=WAL")
        ledger.executescript(_MOMENT.sub(lambda found: _moved(found[0], later), dump))
    return path


def restore_warehouse(state: Path) -> Path:
    """The warehouse alone; its times stay as they are."""
    state.mkdir(parents=True, exist_ok=True)
    path = state / "warehouse.duckdb"
    with duckdb.connect(str(path)) as warehouse:
        warehouse.execute(f"IMPORT DATABASE '{RECORDED / 'state' / 'warehouse'}'")
    return path


def _later() -> timedelta:
    recorded = json.loads((RECORDED / "answers" / "recorded.json").read_text())["recorded_at"]
    return datetime.now(UTC) - timedelta(hours=2) - datetime.fromisoformat(recorded)


def _moved(moment: str, later: timedelta) -> str:
    return (datetime.fromisoformat(moment) + later).isoformat(timespec="microseconds")
