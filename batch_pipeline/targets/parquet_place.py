"""Where a promoted folder of Parquet files is: on a disk, or in an object store."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.rows.place import ObjectPath, Place
from batch_pipeline.settings import Settings
from batch_pipeline.state_folder import as_the_person_has_it

# How long a store that does not answer is tried again, at most; and when a person waits for a look at it.
_MOST_PATIENCE_SECONDS = 90.0
_LOOK_SECONDS = 10.0
# What the stores' sentences are about elsewhere.
_ROWS, _FIELD = "BATCH_PIPELINE_ROWS", "promote.path"


@contextmanager
def folder_at(place: str, settings: Settings) -> Iterator[Place]:
    """The folder, for as long as the block lasts. What is made there has the rights of a person's other files.

    Raises in the block what the store's calls raise, about `promote.path`.
    """
    try:
        with as_the_person_has_it():
            yield _opened(
                place, settings.state, min(settings.grace_seconds, _MOST_PATIENCE_SECONDS)
            )
    except PipelineError as error:
        if _ROWS not in str(error):
            raise
        raise type(error)(str(error).replace(_ROWS, _FIELD)) from None


def check_writable(folder: Place) -> None:
    """Writes a small file and removes it. Raises ConfigurationError, and StoreError where a store does not answer."""
    if isinstance(folder, ObjectPath):
        from batch_pipeline.rows.hurry import in_a_hurry

        probe = f"{folder.url}/_may_be_written"
        with in_a_hurry(_LOOK_SECONDS):
            folder.store.write(probe, b"")
            folder.store.remove(probe)
        return
    there = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"{_FIELD}: {folder} cannot be written ({error.strerror}); mend that, or name another folder."
        ) from None


@lru_cache(maxsize=8)
def _opened(place: str, state: Path, patience: float) -> Place:
    if "://" not in place:
        return Path(place)
    parts = urlsplit(place)
    if parts.scheme in ("file", "local"):
        return Path(url2pathname(parts.path))
    if not parts.netloc and parts.scheme != "memory":
        raise ConfigurationError(f"{_FIELD} names no bucket; write it as s3://bucket/folder.")
    from batch_pipeline.rows.object_store import ObjectStore

    url = place.rstrip("/")
    return ObjectPath(url, ObjectStore(url, state / "tmp", patience))


# What a parent has open, its child must open anew.
os.register_at_fork(after_in_child=_opened.cache_clear)
