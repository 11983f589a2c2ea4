"""A real load once more, on another day, in every store: what a year of nights leaves, without its hours.

Each row is copied as the real load left it, under its new date, ids and times: in the ledger, the warehouse,
Dagster's runs and asset events, and the files. Only the log of each run is left out (a file per run, which
nothing but the run's own page opens).
"""

import shutil
import sqlite3
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from batch_pipeline.rows.query import quoted
from batch_pipeline.warehouse import warehouse
from batch_pipeline.warehouse.metrics import copy_metrics

_METRICS = ("loads", "measures", "slices", "labels", "golden_outcomes", "costs", "gates")
_LEDGER_TIMES = {
    "loads": ("created_at", "settled_at", "graded_at", "promoted_at", "pilot_passed_at"),
    "chunks": ("intended_at", "closed_at"),
    "batches": ("created_at", "expires_at", "ended_at", "collected_at"),
}
_KEPT_FOLDERS = ("rows", "scorecards", "reports")


@dataclass(frozen=True)
class Replay:
    """The load `template` of a workload becomes the load `day`, too."""

    workload: str
    template: date
    day: date

    @property
    def shift(self) -> timedelta:
        return self.day - self.template


def replay(state: Path, replays: Sequence[Replay], key: str) -> None:
    """Adds these loads to a state folder that nobody else has open. `key` is their source's key column."""
    with closing(sqlite3.connect(state / "ledger.sqlite")) as ledger:
        chunk_ids = [replay_ledger(ledger, one) for one in replays]
        ledger.commit()
    for one, renamed in zip(replays, chunk_ids, strict=True):
        _files(state, one, renamed)
    with warehouse(state) as connection:
        connection.execute("BEGIN")
        for one in replays:
            _warehouse(connection, one, key)
        connection.execute("COMMIT")
        copy_metrics(connection, state)
    _dagster(state / "dagster" / "history", replays)


def replay_ledger(ledger: sqlite3.Connection, one: Replay) -> dict[str, str]:
    """Copies loads, chunks and batches in a transaction of the caller's; returns the new chunk ids by the old ones."""
    ledger.row_factory = sqlite3.Row
    here = (one.workload, str(one.template))
    for row in ledger.execute("SELECT * FROM loads WHERE workload = ? AND load = ?", here):
        _insert(ledger, "loads", _moved(dict(row), "loads", one) | {"load": str(one.day)})
    renamed: dict[str, str] = {}
    for row in ledger.execute("SELECT * FROM chunks WHERE workload = ? AND load = ?", here):
        renamed[row["chunk_id"]] = uuid.uuid4().hex
        new = {
            "chunk_id": renamed[row["chunk_id"]],
            "token": uuid.uuid4().hex,
            "load": str(one.day),
        }
        _insert(ledger, "chunks", _moved(dict(row), "chunks", one) | new)
    for old, chunk_id in renamed.items():
        for row in ledger.execute("SELECT * FROM batches WHERE chunk_id = ?", (old,)):
            new = {"batch_id": f"msgbatch_{uuid.uuid4().hex}", "chunk_id": chunk_id}
            _insert(ledger, "batches", _moved(dict(row), "batches", one) | new)
    return renamed


def _moved(row: dict[str, Any], table: str, one: Replay) -> dict[str, Any]:
    times = {
        name: (datetime.fromisoformat(row[name]) + one.shift).isoformat(timespec="microseconds")
        for name in _LEDGER_TIMES[table]
        if row[name]
    }
    return row | times


def _insert(connection: sqlite3.Connection, table: str, row: Mapping[str, Any]) -> int | None:
    names = ", ".join(f'"{name}"' for name in row)
    values = ", ".join("?" * len(row))
    return connection.execute(
        f'INSERT INTO "{table}" ({names}) VALUES ({values})', tuple(row.values())
    ).lastrowid


def _files(state: Path, one: Replay, renamed: Mapping[str, str]) -> None:
    for kept in _KEPT_FOLDERS:
        folder = state / kept / one.workload
        for path in [*folder.glob(f"{one.template}.*"), *folder.glob(f"{one.template}/**/*")]:
            if not path.is_file():
                continue
            name = str(path.relative_to(folder)).replace(str(one.template), str(one.day), 1)
            for old, new in renamed.items():
                name = name.replace(old, new)
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    (state / "locks" / one.workload / f"{one.day}.lock").touch()


def _warehouse(connection: duckdb.DuckDBPyConnection, one: Replay, key: str) -> None:
    at = {"loads": "measured_at", "measures": "measured_at", "gates": "decided_at"}
    for table in _METRICS:
        moved = (
            f", {at[table]} + INTERVAL ({one.shift.days}) DAY AS {at[table]}" if table in at else ""
        )
        connection.execute(
            f"INSERT INTO metrics.{table} SELECT * REPLACE (? AS load{moved}) FROM metrics.{table} "
            "WHERE workload = ? AND load = ?",
            [str(one.day), one.workload, str(one.template)],
        )
    table = f"promoted.{quoted(one.workload)}"
    connection.execute(
        f"INSERT INTO {table} SELECT * REPLACE (? AS _load, {quoted(key)} || ? AS {quoted(key)}) "
        f"FROM {table} WHERE _load = ?",
        [str(one.day), f"-{one.day}", str(one.template)],
    )
    connection.execute(
        "INSERT INTO promoted._promotions SELECT * REPLACE (? AS load) FROM promoted._promotions "
        "WHERE workload = ? AND load = ?",
        [str(one.day), one.workload, str(one.template)],
    )


def _dagster(history: Path, replays: Sequence[Replay]) -> None:
    """Runs with their tags, and the events and check evaluations of assets that they left."""
    with (
        closing(sqlite3.connect(history / "runs.db")) as runs,
        closing(sqlite3.connect(history / "runs" / "index.db")) as index,
    ):
        runs.row_factory = index.row_factory = sqlite3.Row
        for one in replays:
            for run in _runs_of(runs, one):
                run_id = str(uuid.uuid4())
                _run(runs, one, run, run_id)
                _events(index, one, run["run_id"], run_id)
        runs.commit()
        index.commit()


def _runs_of(runs: sqlite3.Connection, one: Replay) -> list[sqlite3.Row]:
    return runs.execute(
        "SELECT runs.* FROM runs JOIN run_tags AS t ON t.run_id = runs.run_id "
        "AND t.key = 'batch_pipeline/workload' AND t.value = ? WHERE partition = ? ORDER BY runs.id",
        (one.workload, str(one.template)),
    ).fetchall()


def _run(runs: sqlite3.Connection, one: Replay, run: sqlite3.Row, run_id: str) -> None:
    row = dict(run) | {
        "id": None,
        "run_id": run_id,
        "run_body": _renamed(run["run_body"], one, run["run_id"], run_id),
        "partition": str(one.day),
        "create_timestamp": _later(run["create_timestamp"], one),
        "update_timestamp": _later(run["update_timestamp"], one),
        "start_time": run["start_time"] and run["start_time"] + one.shift.total_seconds(),
        "end_time": run["end_time"] and run["end_time"] + one.shift.total_seconds(),
    }
    _insert(runs, "runs", row)
    for tag in runs.execute("SELECT * FROM run_tags WHERE run_id = ?", (run["run_id"],)).fetchall():
        value = tag["value"].replace(str(one.template), str(one.day))
        _insert(runs, "run_tags", dict(tag) | {"id": None, "run_id": run_id, "value": value})


def _events(index: sqlite3.Connection, one: Replay, old: str, new: str) -> None:
    ids: dict[int, int | None] = {}
    events = "SELECT * FROM event_logs WHERE run_id = ? ORDER BY id"
    for event in index.execute(events, (old,)).fetchall():
        row = dict(event) | {
            "id": None,
            "run_id": new,
            "event": _renamed(event["event"], one, old, new),
            "timestamp": _later(event["timestamp"], one),
            "partition": event["partition"] and str(one.day),
        }
        ids[event["id"]] = _insert(index, "event_logs", row)
    for old_id, new_id in ids.items():
        tags = "SELECT * FROM asset_event_tags WHERE event_id = ?"
        for tag in index.execute(tags, (old_id,)).fetchall():
            value = tag["value"].replace(str(one.template), str(one.day))
            _insert(
                index,
                "asset_event_tags",
                dict(tag) | {"id": None, "event_id": new_id, "value": value},
            )
    checks = "SELECT * FROM asset_check_executions WHERE run_id = ? ORDER BY id"
    for check in index.execute(checks, (old,)).fetchall():
        row = dict(check) | {
            "id": None,
            "run_id": new,
            "partition": check["partition"] and str(one.day),
            "evaluation_event": _renamed(check["evaluation_event"] or "", one, old, new) or None,
            "evaluation_event_storage_id": ids.get(check["evaluation_event_storage_id"]),
            "materialization_event_storage_id": ids.get(check["materialization_event_storage_id"]),
        }
        _insert(index, "asset_check_executions", row)


def _renamed(body: str, one: Replay, old: str, new: str) -> str:
    return body.replace(old, new).replace(str(one.template), str(one.day))


def _later(moment: str | None, one: Replay) -> str | None:
    return moment and str(datetime.fromisoformat(moment) + one.shift)


def backdate(state: Path, workload: str, day: date, today: date) -> None:
    """Lets a load that was run now have been run on its own day."""
    one = Replay(workload, today, day)
    with closing(sqlite3.connect(state / "ledger.sqlite")) as ledger:
        ledger.row_factory = sqlite3.Row
        of_load = "SELECT {0} FROM {1} WHERE workload = ? AND load = ?"
        batches = "SELECT rowid, * FROM batches WHERE chunk_id IN (" + of_load.format(
            "chunk_id", "chunks"
        )
        for table, query in (
            ("loads", of_load.format("rowid, *", "loads")),
            ("chunks", of_load.format("rowid, *", "chunks")),
            ("batches", f"{batches})"),
        ):
            for row in ledger.execute(query, (workload, str(day))).fetchall():
                moved = _moved(dict(row), table, one)
                for name in _LEDGER_TIMES[table]:
                    ledger.execute(
                        f"UPDATE {table} SET {name} = ? WHERE rowid = ?",
                        (moved[name], row["rowid"]),
                    )
        ledger.commit()
    with closing(sqlite3.connect(state / "dagster" / "history" / "runs.db")) as runs:
        runs.row_factory = sqlite3.Row
        for run in runs.execute("SELECT * FROM runs WHERE partition = ?", (str(day),)).fetchall():
            if datetime.fromisoformat(run["create_timestamp"]).date() < today - timedelta(days=1):
                continue
            runs.execute(
                "UPDATE runs SET create_timestamp = ?, update_timestamp = ? WHERE id = ?",
                (
                    _later(run["create_timestamp"], one),
                    _later(run["update_timestamp"], one),
                    run["id"],
                ),
            )
        runs.commit()
