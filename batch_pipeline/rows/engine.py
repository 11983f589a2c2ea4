"""DuckDB in memory, one database for a process: making one takes some 20 ms, and a step asks dozens of times.

Whoever borrows it gets a connection with temporary tables, views, variables and settings of its own; the
memory is everybody's. Nothing but temporary things may be made on it: all else would be everybody's, too.
"""

import atexit
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb

_MOST_THREADS = 8
# What DuckDB reads the objects of shared stores through; none while all rows are local.
_filesystems: dict[str, Any] = {}


class _Database:
    """The one of this process, while there is one; `users` are the connections that are open to it."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.scratch: Path | None = None
        self.connection: duckdb.DuckDBPyConnection | None = None
        self.users = self.memory = 0

    def connect(self, scratch: Path, memory: int) -> duckdb.DuckDBPyConnection | None:
        """A connection to it; None where it spills into another folder and somebody uses it."""
        with self.lock:
            if scratch != self.scratch:
                if self.users:
                    return None
                self.close()
                self.connection, self.scratch = opened(scratch, memory), scratch
            assert self.connection is not None
            # What somebody else holds is not taken away.
            self.memory = max(memory, self.memory) if self.users else memory
            self.connection.execute(f"SET memory_limit = '{self.memory >> 20}MiB'")
            self.users += 1
            return self.connection.cursor()

    def leave(self) -> None:
        with self.lock:
            self.users -= 1

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = self.scratch = None


_database = _Database()
# Those of a process that this one was forked from: their threads are not here, so they can't be closed either.
_parents: list[_Database] = []


@contextmanager
def connected(scratch: Path, memory: int) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to this process's database, which may use so many bytes from now on."""
    database = _database
    shared = database.connect(scratch, memory)
    connection = opened(scratch, memory) if shared is None else shared
    try:
        # Somebody may have removed it since.
        scratch.mkdir(parents=True, exist_ok=True)
        yield connection
    finally:
        connection.close()
        if shared is not None:
            database.leave()


def offer(filesystem: Any) -> None:
    """Lets every connection of this module read through an fsspec filesystem from now on, the open ones included."""
    _filesystems[str(filesystem.protocol)] = filesystem
    with _database.lock:
        if _database.connection is not None:
            register_stores(_database.connection)


def register_stores(connection: duckdb.DuckDBPyConnection) -> None:
    """Lets a connection's database read what lies in object stores; nothing where none is configured."""
    if not _filesystems:
        return
    for protocol, filesystem in _filesystems.items():
        if not connection.filesystem_is_registered(protocol):
            connection.register_filesystem(filesystem)
    # It would go by a time that means nothing; what is worth keeping, the store keeps.
    connection.execute("SET enable_external_file_cache = false")


def threads() -> int:
    """How many threads a query may use: each needs memory of its own."""
    return min(os.cpu_count() or 1, _MOST_THREADS)


def opened(scratch: Path, memory: int, *, ordered: bool = True) -> duckdb.DuckDBPyConnection:
    """A database of its own, which spills into `scratch` and may use so many bytes.

    Unless `ordered`, it need not keep the order of rows that no query asks for, and holds fewer at a time.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(
        config={
            "memory_limit": f"{memory >> 20}MiB",
            "temp_directory": str(scratch),
            "autoinstall_known_extensions": "false",
            "preserve_insertion_order": "true" if ordered else "false",
            "threads": str(threads()),
        }
    )
    register_stores(connection)
    return connection


def _after_fork() -> None:
    global _database  # noqa: PLW0603 - the parent's, with its lock as it was
    _parents.append(_database)
    _database = _Database()


os.register_at_fork(after_in_child=_after_fork)
# DuckDB complains on standard error of what is still open when the interpreter ends.
atexit.register(lambda: _database.close())  # noqa: PLW0108 - the one there is then
