"""What stands in the way from outside: a disk that is full, a database that is away or that somebody keeps locked.

It shows in errors of many libraries. Here they are recognised, so that a person reads a sentence. Nothing is
lost by any: what was committed is whole, and the next call goes on from there.
"""

import errno
import re
import sqlite3
from collections.abc import Iterator

from batch_pipeline.errors import ConfigurationError, OutageError, PipelineError
from batch_pipeline.settings import Settings

# EFBIG: the account may not write files of that size (`ulimit -f`).
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
# DuckDB and Arrow say it in words: with the system's text for the above, or in their own.
_NO_ROOM_WORDS = re.compile(
    r"No space left on device|Disk quota exceeded|File too large|database or disk is full|"
    r"Could not write .*file|Failed to write|failed to offload data block|max_temp_directory_size",
    re.IGNORECASE,
)
# SQLite's extended codes of a write that failed. It hides the reason, and a full disk is the common one.
_NOT_WRITTEN = frozenset(
    {
        sqlite3.SQLITE_IOERR_WRITE,
        sqlite3.SQLITE_IOERR_FSYNC,
        sqlite3.SQLITE_IOERR_DIR_FSYNC,
        sqlite3.SQLITE_IOERR_TRUNCATE,
        sqlite3.SQLITE_IOERR_SHMOPEN,
        sqlite3.SQLITE_IOERR_SHMSIZE,
        sqlite3.SQLITE_IOERR_SHMMAP,
    }
)
# Postgres's SQLSTATE where `lock_timeout` has passed.
_LOCK_NOT_AVAILABLE = "55P03"
_PATH = re.compile(r"[\"'](/[^\"']+)[\"']")


class NoRoomError(PipelineError):
    """The disk is full, or the account may write no more."""


class LockedError(PipelineError):
    """Another process keeps a database locked for too long."""


def obstacle(error: BaseException) -> PipelineError | None:
    """The sentence for what stands in the way; None where `error`, and what led to it, is of another kind."""
    for one in _chain(error):
        if isinstance(one, NoRoomError | LockedError | OutageError):
            return one
        if is_no_room(one):
            return NoRoomError(
                f"There is no room left to write {_place(one)}: the disk is full, or a limit on the size of "
                "files is reached. Free some room and call again; nothing is lost, and it goes on from here."
            )
        if getattr(one, "sqlstate", None) == _LOCK_NOT_AVAILABLE:
            return LockedError(
                "Somebody keeps a table of the ledger's database locked for too long, as a transaction does that "
                "was begun in psql; end that (pg_stat_activity shows it), then call again."
            )
        if _is_locked(one):
            return LockedError(
                f"Another process kept a database below {_state()} locked for too long (ledger.sqlite, or "
                "Dagster's history); close any sqlite3 shell that has it open, then call again."
            )
    return None


def is_no_room(error: BaseException) -> bool:
    """Whether `error` itself says that something could not be written for want of room."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _NO_ROOM
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        return code == sqlite3.SQLITE_FULL or code in _NOT_WRITTEN
    kind = type(error)
    if kind.__module__.partition(".")[0] in ("duckdb", "_duckdb", "pyarrow", "builtins"):
        return bool(_NO_ROOM_WORDS.search(str(error)))
    return False


def _is_locked(error: BaseException) -> bool:
    code = getattr(error, "sqlite_errorcode", None) if isinstance(error, sqlite3.Error) else None
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _place(error: BaseException) -> str:
    """The file, where the error names it; else the state folder."""
    name = getattr(error, "filename", None)
    if isinstance(name, str):
        return name
    found = None if isinstance(error, sqlite3.Error) else _PATH.search(str(error))
    return found[1] if found else f"below {_state()}"


def _state() -> str:
    try:
        return str(Settings.from_environment().state)
    except ConfigurationError:
        return "the state folder"
