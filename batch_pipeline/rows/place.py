"""Where a file of rows is: in a folder of this host, or in an object store that several hosts share."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast
from urllib.parse import unquote, urlsplit

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import Settings

if TYPE_CHECKING:
    # It brings fsspec, which only who has an object store needs.
    from batch_pipeline.rows.object_store import ObjectStore

# How long a store that does not answer is tried again, at most.
_MOST_PATIENCE_SECONDS = 90.0


@dataclass(frozen=True, order=True)
class ObjectPath:
    """An object's address, with what is used of `Path`. It is written by `replacing` alone, as a whole.

    What asks the store raises StoreError where that cannot be reached, ConfigurationError where it refuses.
    There are no folders: `parent` and `glob` go by the names.
    """

    url: str
    store: "ObjectStore" = field(compare=False, repr=False)

    def __truediv__(self, name: str) -> "ObjectPath":
        return ObjectPath(f"{self.url}/{name}", self.store)

    def __str__(self) -> str:
        return self.url

    @property
    def parent(self) -> "ObjectPath":
        return ObjectPath(self.url.rpartition("/")[0], self.store)

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]

    @property
    def stem(self) -> str:
        return self.name.rpartition(".")[0] or self.name

    @property
    def suffix(self) -> str:
        _, dot, ending = self.name.rpartition(".")
        return dot + ending if dot else ""

    def is_file(self) -> bool:
        return self.store.version(self.url) is not None

    def exists(self) -> bool:
        """Whether there is such an object, or one below."""
        return bool(self.store.below(self.url)) or self.is_file()

    def glob(self, pattern: str) -> Iterator["ObjectPath"]:
        """Those directly below whose name fits, by one listing."""
        prefix = self.url + "/"
        for url in self.store.below(self.url):
            name = url.removeprefix(prefix)
            if "/" not in name and fnmatchcase(name, pattern):
                yield ObjectPath(url, self.store)

    def open(self, mode: str = "rb") -> BinaryIO:
        """Raises FileNotFoundError."""
        if mode != "rb":
            raise ValueError(mode)
        return cast(BinaryIO, self.store.open(self.url))

    def read_bytes(self) -> bytes:
        """Raises FileNotFoundError."""
        with self.open() as file:
            return file.read()

    def read_text(self, encoding: str = "utf-8") -> str:
        return self.read_bytes().decode(encoding)

    def unlink(self, *, missing_ok: bool = False) -> None:
        if not missing_ok and not self.is_file():
            raise FileNotFoundError(self.url)
        self.store.remove(self.url)


Place = Path | ObjectPath


def shared(settings: Settings) -> Place:
    """What all hosts of a project share: `rows/`, `scorecards/`, `baselines/`, `metrics/` lie below.

    The state folder, unless BATCH_PIPELINE_ROWS names another place.

    Raises ConfigurationError where that is no address, or needs a package that is not installed.
    """
    if settings.rows is None:
        return settings.state
    patience = min(settings.grace_seconds, _MOST_PATIENCE_SECONDS)
    return _opened(settings.rows, settings.state, patience)


@lru_cache(maxsize=8)
def _opened(url: str, state: Path, patience: float) -> Place:
    parts = urlsplit(url)
    if parts.scheme in ("file", "local"):
        if parts.netloc not in ("", "localhost") or not parts.path.startswith("/"):
            raise ConfigurationError(
                "BATCH_PIPELINE_ROWS names no folder of this host; write it as file:///folder."
            )
        return Path(unquote(parts.path))
    if parts.password is not None:
        raise ConfigurationError(
            "BATCH_PIPELINE_ROWS holds a password; take it out, and let the filesystem's own settings say it "
            "(for s3: AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)."
        )
    if not parts.netloc and parts.scheme != "memory":
        raise ConfigurationError(
            "BATCH_PIPELINE_ROWS names no bucket; write it as s3://bucket/prefix."
        )
    from batch_pipeline.rows.object_store import ObjectStore

    return ObjectPath(url, ObjectStore(url, state / "tmp", patience))


def arrow_file(place: Place) -> Any:
    """What pyarrow opens: the path, or the open object."""
    return place if isinstance(place, Path) else place.open()


def version_of(place: Place) -> tuple[object, ...] | None:
    """Another one whenever the content is; None where there is no such file."""
    if isinstance(place, ObjectPath):
        return place.store.version(place.url)
    try:
        found = place.stat()
    except FileNotFoundError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino)


def bytes_below(place: Place) -> int:
    """Of all files below."""
    if isinstance(place, ObjectPath):
        return sum(place.store.below(place.url).values())
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def remove_below(place: Place) -> None:
    """Removes a folder with all that is in it, if there is one."""
    if isinstance(place, ObjectPath):
        place.store.remove_below(place.url)
    elif place.exists():
        from shutil import rmtree

        rmtree(place)


# What a parent has open, its child must open anew.
os.register_at_fork(after_in_child=_opened.cache_clear)
