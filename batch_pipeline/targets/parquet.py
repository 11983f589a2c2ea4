"""Promotion into a folder of Parquet files, on a disk or in an object store: one file per load.

    <folder>/2026-11-20.parquet      the rows that the load of that day promoted
    <folder>/_rolled_back/...json    what was promoted once, and taken back: by whom and why

A file is put under its name as a whole, so a reader sees the old rows of a load or the new. Its key-value metadata
(`batch_pipeline.promotions`) is the history of the load's promotions, as JSON. Which load a key belongs to is the
reader's to ask: the newest file that has it (`_load`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.rows.durable import replacing
from batch_pipeline.rows.place import Place
from batch_pipeline.rows.query import quoted
from batch_pipeline.targets.parquet_place import check_writable, folder_at
from batch_pipeline.workload.data_file import literal

if TYPE_CHECKING:
    import duckdb

    from batch_pipeline.settings import Settings
    from batch_pipeline.targets.face import Planned
    from batch_pipeline.warehouse import Promotion, Rollback

HISTORY = "batch_pipeline.promotions"
_LOAD_FILE = re.compile(r"(\d{4}-\d{2}-\d{2})\.parquet")


@dataclass(frozen=True)
class ParquetTarget:
    """The folder at `place`: a path, or a URL of any fsspec filesystem."""

    place: str
    kind: str = "parquet"

    @property
    def name(self) -> str:
        return self.place

    def check(
        self,
        settings: Settings,
        connection: duckdb.DuckDBPyConnection,
        planned: Planned,
        /,
    ) -> None:
        """As Target.check; it writes a small file there and removes it."""
        with folder_at(self.place, settings) as folder:
            check_writable(folder)
            loads = _loads(folder)
            if loads:
                self._check_fit(connection, loads[max(loads)], planned.workload, planned.columns)

    def promote_rows(
        self,
        settings: Settings,
        /,
        *,
        workload: str,
        load: str,
        key: str,
        rows: Place,
        fingerprint: str,
        override_reason: str | None,
    ) -> Promotion:
        """As Target.promote_rows."""
        from batch_pipeline.rows.query import querying
        from batch_pipeline.warehouse import Promotion

        with (
            folder_at(self.place, settings) as folder,
            querying(settings.state / "tmp") as connection,
            self._readable(),
        ):
            loads = _loads(folder)
            new = _file(rows)
            described = connection.execute(f"DESCRIBE FROM {new}").fetchall()
            columns = {row[0]: row[1] for row in described}
            if loads:
                self._check_fit(connection, loads[max(loads)], workload, columns)
            (total,) = connection.execute(f"SELECT count(*) FROM {new}").fetchall()[0]
            history: list[dict[str, Any]] = []
            written, removed = total, 0
            if load in loads:
                self._check_fit(connection, loads[load], workload, columns)
                history = _history(connection, loads[load])
                written, removed = _difference(connection, _file(loads[load]), new, key)
            newer = [loads[other] for other in loads if other > load]
            superseded = _shared(connection, new, newer, key)
            known = any(line["fingerprint"] == fingerprint for line in history)
            if not known:
                history.append(
                    {
                        "workload": workload,
                        "load": load,
                        "fingerprint": fingerprint,
                        "rows": total,
                        "override_reason": override_reason,
                        "promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
                    }
                )
            if load not in loads or written or removed or not known:
                self._write(connection, folder, load, new, history)
        return Promotion(self.name, total, written, removed, superseded)

    def roll_back(
        self, settings: Settings, /, *, workload: str, load: str, key: str, reason: str, by: str
    ) -> Rollback | None:
        """As Target.roll_back: removes the load's file, once it is written down why."""
        from batch_pipeline.rows.query import querying
        from batch_pipeline.warehouse import NotPromotedHereError, Rollback

        with (
            folder_at(self.place, settings) as folder,
            querying(settings.state / "tmp") as connection,
            self._readable(),
        ):
            loads = _loads(folder)
            if load not in loads:
                if any((folder / "_rolled_back").glob(f"{load}-*.json")):
                    return None
                raise NotPromotedHereError(self.name, workload, load, "promote.path")
            history = _history(connection, loads[load])
            self._require_ours(history, workload, loads[load])
            mine = _file(loads[load])
            (rows,) = connection.execute(f"SELECT count(*) FROM {mine}").fetchall()[0]
            newer = [loads[other] for other in loads if other > load]
            older = [loads[other] for other in loads if other < load]
            kept = _shared(connection, mine, newer, key)
            restored = _shared(connection, mine, older, key, but=newer)
            last = history[-1]["fingerprint"] if history else ""
            moment = datetime.now(UTC).isoformat(timespec="seconds")
            note = {"by": by, "reason": reason, "rolled_back_at": moment, "promotions": history}
            # Called again after a crash, it is the same file.
            place = folder / "_rolled_back" / f"{load}-{str(last)[:16]}-{len(history)}.json"
            with replacing(place) as temporary:
                temporary.write_text(json.dumps(note, ensure_ascii=False, indent=1), "utf-8")
            loads[load].unlink(missing_ok=True)
        return Rollback(self.name, rows, rows - kept - restored, restored, kept)

    def _write(
        self,
        connection: duckdb.DuckDBPyConnection,
        folder: Place,
        load: str,
        new: str,
        history: Sequence[Mapping[str, Any]],
    ) -> None:
        told = literal(json.dumps(history, ensure_ascii=False))
        with replacing(folder / f"{load}.parquet") as temporary:
            connection.execute(
                f"COPY (FROM {new}) TO {literal(str(temporary))} (FORMAT parquet, COMPRESSION zstd, "
                f"KV_METADATA {{'{HISTORY}': {told}}})"
            )

    def _check_fit(
        self,
        connection: duckdb.DuckDBPyConnection,
        file: Place,
        workload: str,
        columns: Mapping[str, str],
    ) -> None:
        with self._readable():
            self._require_ours(_history(connection, file), workload, file)
            described = connection.execute(f"DESCRIBE FROM {_file(file)}").fetchall()
        held = {row[0].casefold(): row[1] for row in described}
        for name, kind in columns.items():
            found = held.get(name.casefold(), kind)
            if found != kind:
                raise ConfigurationError(
                    f"{file} holds {name} as {found} and the load now has {kind}, which no reader takes together; "
                    "rename the field, or name another folder in promote.path."
                )

    def _require_ours(
        self, history: Sequence[Mapping[str, Any]], workload: str, file: Place
    ) -> None:
        others = [line["workload"] for line in history if line["workload"] != workload]
        if others or not history:
            whose = (
                f"the workload {others[0]} promoted it" if others else "it was not promoted by us"
            )
            raise ConfigurationError(
                f"promote.path: {file} is there already, and {whose}; give each workload a folder of its own."
            )

    @contextmanager
    def _readable(self) -> Iterator[None]:
        import duckdb

        try:
            yield
        except duckdb.InvalidInputException as error:
            if self.place not in str(error):
                raise
            raise PipelineError(
                f"A file in {self.place} is no Parquet file, or a damaged one; remove or restore it, then call again."
            ) from None


def _loads(folder: Place) -> dict[str, Place]:
    """The files of loads, by load."""
    found = {_LOAD_FILE.fullmatch(file.name): file for file in folder.glob("*.parquet")}
    return {match[1]: file for match, file in found.items() if match}


def _file(place: Place) -> str:
    return f"read_parquet({_address(place)}, hive_partitioning = false)"


def _address(place: Place) -> str:
    # DuckDB takes a local path for a pattern.
    name = re.sub(r"([\[*?])", r"[\1]", str(place)) if isinstance(place, Path) else str(place)
    return literal(name)


def _history(connection: duckdb.DuckDBPyConnection, file: Place) -> list[dict[str, Any]]:
    found = connection.execute(
        f"SELECT decode(value) FROM parquet_kv_metadata({_address(file)}) WHERE decode(key) = '{HISTORY}'"
    ).fetchone()
    history: list[dict[str, Any]] = json.loads(found[0]) if found else []
    return history


def _difference(
    connection: duckdb.DuckDBPyConnection, old: str, new: str, key: str
) -> tuple[int, int]:
    """How many rows are new or other than they were, and how many are no longer there."""
    k = quoted(key)
    names = [
        {row[0] for row in connection.execute(f"DESCRIBE FROM {file}").fetchall()}
        for file in (old, new)
    ]
    # A column that only one of them has is null in the other.
    changed = " OR ".join(
        f"{f'o.{quoted(name)}' if name in names[0] else 'NULL'} IS DISTINCT FROM "
        f"{f'n.{quoted(name)}' if name in names[1] else 'NULL'}"
        for name in sorted(names[0] | names[1])
    )
    written, removed = connection.execute(
        f"SELECT count(*) FILTER (n.{k} IS NOT NULL AND (o.{k} IS NULL OR {changed})), "
        f"count(*) FILTER (n.{k} IS NULL) FROM {old} AS o FULL JOIN {new} AS n ON o.{k} = n.{k}"
    ).fetchall()[0]
    return int(written), int(removed)


def _shared(
    connection: duckdb.DuckDBPyConnection,
    rows: str,
    others: Sequence[Place],
    key: str,
    but: Sequence[Place] = (),
) -> int:
    """How many of the rows have a key that one of `others` has, and none of `but`."""
    if not others:
        return 0
    k = quoted(key)

    def among(files: Sequence[Place]) -> str:
        return " OR ".join(f"{k} IN (SELECT {k} FROM {_file(file)})" for file in files) or "false"

    found = connection.execute(
        f"SELECT count(*) FROM {rows} WHERE ({among(others)}) AND NOT ({among(but)})"
    ).fetchall()
    return int(found[0][0])
