"""Dagster's SQLite storage without what it does over and over: a third of what a small run costs it."""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from alembic.script import Script, ScriptDirectory
from dagster._core.storage.event_log.sqlite import sqlite_event_log
from dagster._core.storage.runs.sqlite import sqlite_run_storage
from dagster._core.storage.schedules.sqlite import sqlite_schedule_storage
from sqlalchemy import Engine


def quicken() -> None:
    """Has this process read Dagster's ninety migrations once, and compile its statements once per file.

    Its connections are opened anew each time, as ever. Our own ledger is left alone.
    """
    _read_migrations_once()
    for module in (sqlite_event_log, sqlite_run_storage, sqlite_schedule_storage):
        vars(module)["create_engine"] = _keeping(vars(module)["create_engine"])


def _read_migrations_once() -> None:
    read = ScriptDirectory._load_revisions
    remembered: dict[str, list[Script]] = {}

    def load(self: ScriptDirectory) -> Iterator[Script]:
        if "dagster" not in Path(self.dir).parts:
            return read(self)
        if self.dir not in remembered:
            remembered[self.dir] = list(read(self))
        return iter(remembered[self.dir])

    setattr(ScriptDirectory, "_load_revisions", load)  # noqa: B010


def _keeping(create_engine: Any) -> Any:
    """An engine without a pool holds no connection, only what it has compiled."""

    @lru_cache(maxsize=32)
    def kept(url: str, poolclass: Any, timeout: float | None) -> Engine:
        options = {} if timeout is None else {"connect_args": {"timeout": timeout}}
        engine: Engine = create_engine(url, poolclass=poolclass, **options)
        return engine

    def create(url: str, *, poolclass: Any, connect_args: dict[str, float] | None = None) -> Engine:
        return kept(url, poolclass, (connect_args or {}).get("timeout"))

    return create
