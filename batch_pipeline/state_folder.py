"""Keeps what the pipeline writes to the account that runs it: folders 0700, files 0600.

Rows, answers and the ledger are private, and many hands write them: our code, SQLite, DuckDB, Dagster. So the
process itself is told, once, that what it makes is its owner's alone. Only files that a person asks for by
name are made as that person's other files are.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from batch_pipeline.errors import ConfigurationError

_PRIVATE = 0o077
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
# What the umask was before this process kept things private.
_persons: int | None = None


def keep_private() -> None:
    """From now on, what this process and its children make is for their owner alone."""
    global _persons  # noqa: PLW0603 - as the umask itself, it belongs to the process
    before = os.umask(_PRIVATE)
    if _persons is None:
        _persons = before


@contextmanager
def private() -> Iterator[None]:
    """As `keep_private`, until the end of the block."""
    global _persons  # noqa: PLW0603
    before, umask = _persons, os.umask(_PRIVATE)
    _persons = umask if before is None else before
    try:
        yield
    finally:
        _persons = before
        os.umask(umask)


@contextmanager
def as_the_person_has_it() -> Iterator[None]:
    """What is made in the block has the rights that the person's other new files have."""
    if _persons is None:
        yield
        return
    inner = os.umask(_persons)
    try:
        yield
    finally:
        os.umask(inner)


def hand_over(path: Path) -> None:
    """Gives a file that was made in private the rights that the person's other new files have."""
    if _persons is not None:
        # A disk without such rights is no reason to fail.
        with suppress(PermissionError):
            path.chmod(0o666 & ~_persons)


def close_to_others(state: Path) -> None:
    """Takes the rights of group and others from a state folder that an older version, or a person, made.

    The folder itself comes last: while it is open, the next opening goes through all of it again. Nothing
    happens where there is no folder yet.

    Raises:
        ConfigurationError: it is shared (/tmp, say), or belongs to another account and is open to others.
    """
    try:
        found = state.stat()
    except OSError:
        return
    if not stat.S_ISDIR(found.st_mode) or not found.st_mode & _OTHERS:
        return
    if found.st_mode & stat.S_ISVTX or found.st_uid != os.geteuid():
        raise ConfigurationError(
            f"The state folder {state} is open to other accounts and not this one's alone to close; set "
            "BATCH_PIPELINE_STATE to a folder of its own, below that one say."
        )
    for folder, folders, files in os.walk(state):
        for name in (*folders, *files):
            _close(Path(folder, name))
    _close(state)


def _close(path: Path) -> None:
    # It may have gone by now, or be another account's; the folder around all will be closed anyway.
    with suppress(FileNotFoundError, PermissionError):
        mode = path.lstat().st_mode
        # A link's own rights mean nothing, and chmod would follow it.
        if mode & _OTHERS and not stat.S_ISLNK(mode):
            path.chmod(mode & stat.S_IRWXU)
