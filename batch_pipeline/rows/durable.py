"""Files that are either whole or not there."""

import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

from batch_pipeline.processes import alive
from batch_pipeline.rows.place import ObjectPath, Place

# Of a folder that several hosts share, each clears away its own leftovers.
_HOST = re.sub("[^A-Za-z0-9-]", "-", socket.gethostname())


@contextmanager
def replacing(path: Place) -> Iterator[Path]:
    """Yields a temporary file of this host to write; on success `path` holds its content, whole.

    On disk it lies beside `path` and is renamed. A crash before leaves a `.tmp` file that nobody reads; it is
    removed when the same file is written again, a load's also when it is next sent from. An object is put
    under its own name, and appears when all of it is there.
    """
    if isinstance(path, ObjectPath):
        with path.store.replacing(path.url) as temporary:
            yield temporary
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}@{_HOST}.tmp")
    try:
        yield temporary
        descriptor = os.open(temporary, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        temporary.replace(path)
        _sync_folder(path.parent)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _remove_leftovers(path: Path) -> None:
    """What processes that are gone left of the same file."""
    for leftover in path.parent.glob(f".{escape(path.name)}.*.tmp"):
        process, _, host = leftover.name.split(".")[-2].partition("@")
        # Another host's processes can't be seen from here; the last release named no host.
        if process.isdigit() and host in ("", _HOST) and not alive(int(process)):
            leftover.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    # Without this a rename may be lost in a power cut although both files are on disk.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
