"""An object store, through fsspec: objects that are whole or not there, asked again while it is not well.

Nothing is remembered of what it holds: another host writes there, too. Content alone is kept, under the version
that the store says it has now.
"""

import hashlib
import io
import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fsspec import filesystem, get_filesystem_class  # type: ignore[import-untyped]
from tenacity import Retrying, retry_if_exception, stop_before_delay, wait_random_exponential

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.processes import alive
from batch_pipeline.rows import engine
from batch_pipeline.rows.duckdb_files import DuckDBFiles
from batch_pipeline.rows.hurry import allowed, in_a_hurry
from batch_pipeline.rows.object_cache import ObjectCache
from batch_pipeline.rows.store_errors import is_passing, sentence_for

# Up to this size an object is fetched as a whole: DuckDB opens each file several times and reads many small parts.
_SMALL = 16 << 20
_BLOCK = 4 << 20
_PART, _PARTS_AT_ONCE = 16 << 20, 4
# What is written once, under a name of its own: what was said of it a moment ago still holds.
_CHUNK_FOLDERS = frozenset({"sent", "results", "verdicts"})
_FRESH_SECONDS = 1.0
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 10.0
# A person waits, and the address may be mistyped.
_CHECK_SECONDS = 10.0

# How long a server may take to accept a connection, and to say the next bytes.
_CONNECT_SECONDS, _SILENT_SECONDS = 5, 15
# Bytes a second that a line must carry at least.
_SLOWEST = 250_000


class ObjectStore:
    """The objects below one URL. Its methods take whole URLs, from any thread.

    All of them raise StoreError where the store could not be used for as long as it was tried, and
    ConfigurationError where it refuses; both name the URL and no secret.
    """

    def __init__(self, root: str, scratch: Path, patience: float) -> None:
        """Opens nothing yet.

        Args:
            root: its URL.
            scratch: a folder of this host for what is on its way.
            patience: for how many seconds a call is tried while the store is not well.

        Raises ConfigurationError where its package is not installed.
        """
        self._root, self._patience = root, patience
        self._scratch = scratch / "uploads"
        self._scheme = root.partition("://")[0]
        self._process = 0
        self._opened: Any = None
        _require_package(self._scheme)
        self._cache = ObjectCache()
        self._fresh: dict[str, tuple[float, dict[str, Any]]] = {}
        engine.offer(DuckDBFiles.of(self._scheme, root, self))

    def below(self, url: str) -> dict[str, int]:
        """The URLs of all objects below, in order, and their sizes; by one listing."""
        try:
            found = self._call(lambda fs: fs.find(self._key(url), detail=True))
        except FileNotFoundError:
            return {}
        infos = {self._url(info["name"]): info for info in found.values()}
        # Where there is an object of the very name, it is found, too.
        infos.pop(url, None)
        if url.rpartition("/")[2] in _CHUNK_FOLDERS:
            moment = time.monotonic()
            self._fresh = {each: (moment, info) for each, info in infos.items()}
        return {each: int(infos[each]["size"]) for each in sorted(infos)}

    def version(self, url: str) -> tuple[object, ...] | None:
        """Another one whenever the content is; None where there is no such object."""
        try:
            info = self._info(url)
        except FileNotFoundError:
            return None
        return (info["size"], _version(info) or str(info))

    def size(self, url: str) -> int:
        """In bytes. Raises FileNotFoundError."""
        return int(self._info(url)["size"])

    def open(self, url: str) -> io.BytesIO | io.RawIOBase:
        """For reading. Raises FileNotFoundError."""
        info = self._info(url)
        if info["size"] <= _SMALL:
            version = _version(info)
            return io.BytesIO(self._cache.get(url, version, lambda: self._whole(url)))
        options = {"block_size": _BLOCK, "cache_type": "readahead"}
        return _LargeObject(self._call(lambda fs: fs.open(self._key(url), "rb", **options)), self)

    def open_new(self, url: str) -> Any:
        """For writing, in parts where it is large; the object is there when it is closed."""
        self._forget(url)
        return self._call(lambda fs: fs.open(self._key(url), "wb", block_size=_PART))

    @contextmanager
    def replacing(self, url: str) -> Iterator[Path]:
        """Yields a local file to write; on success its content is what `url` holds.

        The object is put under its own name, whole: until the store has all of it, what was there before stands.
        """
        self._scratch.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(self._scratch)
        temporary = self._scratch / f"{uuid.uuid4().hex}.{os.getpid()}@{socket.gethostname()}.tmp"
        try:
            yield temporary
            self._put(temporary, url)
        finally:
            with suppress(FileNotFoundError):
                temporary.unlink()

    def write(self, url: str, content: bytes) -> None:
        """Puts a small object."""
        self._forget(url)
        self._call(lambda fs: fs.pipe_file(self._key(url), content, **_bound(fs, len(content))))

    def read_all(self, urls: list[str]) -> list[bytes]:
        """The content of each, fetched side by side. Raises FileNotFoundError."""
        keys = [self._key(url) for url in urls]
        found: dict[str, bytes] = self._call(lambda fs: fs.cat(keys)) if keys else {}
        return [found[key] for key in keys]

    def remove(self, url: str) -> None:
        """Removes an object, if there is one."""
        self._forget(url)
        with suppress(FileNotFoundError):
            self._call(lambda fs: fs.rm_file(self._key(url)))

    def remove_below(self, url: str) -> None:
        """Removes all objects below."""
        found = self.below(url)
        for each in found:
            self._forget(each)
        if not found:
            return
        with suppress(FileNotFoundError):
            self._call(lambda fs: fs.rm(self._key(url), recursive=True))

    def check(self) -> None:
        """Writes, lists, reads and removes an object. Raises StoreError and ConfigurationError."""
        probe = f"{self._root}/probe/{uuid.uuid4().hex}"
        with in_a_hurry(_CHECK_SECONDS):
            self.write(probe, b"probe")
            try:
                found = self.below(f"{self._root}/probe")
                if probe not in found or self._whole(probe) != b"probe":
                    raise ConfigurationError(
                        f"BATCH_PIPELINE_ROWS: {self._root} does not give back what was written there; rows need a "
                        "store that lists and reads what was written before."
                    )
            finally:
                self.remove(probe)

    def _put(self, local: Path, url: str) -> None:
        self._forget(url)
        size = local.stat().st_size
        options = (
            {"chunksize": _PART, "max_concurrency": _PARTS_AT_ONCE}
            if self._scheme in ("s3", "s3a")
            else {}
        )
        self._call(
            lambda fs: fs.put_file(str(local), self._key(url), **options, **_bound(fs, size))
        )
        if size <= _SMALL:
            # It is mostly read at once; S3 names a version by this digest.
            content = local.read_bytes()
            digest = hashlib.md5(content, usedforsecurity=False).hexdigest()
            self._cache.put(url, digest, content)

    def _whole(self, url: str) -> bytes:
        content: bytes = self._call(lambda fs: fs.cat_file(self._key(url)))
        return content

    def _info(self, url: str) -> dict[str, Any]:
        moment, known = self._fresh.get(url, (0.0, None))
        if known is not None and time.monotonic() - moment < _FRESH_SECONDS:
            return known
        info: dict[str, Any] = self._call(lambda fs: fs.info(self._key(url)))
        if info.get("type") == "directory":
            raise FileNotFoundError(url)
        return info

    def _forget(self, url: str) -> None:
        self._fresh.pop(url, None)
        self._cache.forget(url)

    def _key(self, url: str) -> str:
        return str(self._filesystem()._strip_protocol(url))  # noqa: SLF001 - fsspec's own way to name it

    def _url(self, key: str) -> str:
        """A key as it is listed, as the URLs that we make."""
        root = self._key(self._root)
        return self._root + key[key.index(root) + len(root) :]

    def _call(self, call: Callable[[Any], Any]) -> Any:
        seconds = allowed(self._patience)
        started = time.monotonic()
        try:
            for attempt in Retrying(
                retry=retry_if_exception(is_passing),
                wait=wait_random_exponential(_FIRST_WAIT, _LONGEST_WAIT),
                stop=stop_before_delay(seconds),
                reraise=True,
            ):
                with attempt:
                    return call(self._filesystem())
        except PipelineError:
            raise
        except Exception as error:
            sentence = sentence_for(error, self._root, time.monotonic() - started)
            if sentence is None:
                raise
            raise sentence from None

    def _filesystem(self) -> Any:
        """This process's own: its connections and threads do not survive a fork."""
        if self._process != os.getpid():
            options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
            if self._scheme in ("s3", "s3a"):
                # Tries are ours to count: here, and nowhere below.
                once = {"max_attempts": 1, "mode": "standard"}
                # botocore would wait a minute for a server that accepts and says nothing.
                waits = {"connect_timeout": _CONNECT_SECONDS, "read_timeout": _SILENT_SECONDS}
                options["config_kwargs"] = {"retries": once, **waits}
            opened = filesystem(self._scheme, **options)
            if hasattr(opened, "retries"):
                opened.retries = 1
            self._process, self._opened = os.getpid(), opened
        return self._opened


def _bound(filesystem: Any, size: int) -> dict[str, float]:
    """For a call that writes so many bytes: before it sends any, S3's client waits for a word without an end."""
    if not getattr(filesystem, "async_impl", False):
        return {}
    return {"timeout": 2 * _SILENT_SECONDS + size / _SLOWEST}


class _LargeObject(io.RawIOBase):
    """An object that is read in parts, each tried again while the store is not well."""

    def __init__(self, file: Any, store: ObjectStore) -> None:
        self._file, self._store = file, store

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int | None = -1) -> bytes:
        wanted = -1 if size is None else size
        # A read that fails leaves its position as it was.
        content: bytes = self._store._call(lambda _: self._file.read(wanted))  # noqa: SLF001
        return content

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)

    def readall(self) -> bytes:
        return self.read()

    def seek(self, offset: int, whence: int = 0) -> int:
        return int(self._file.seek(offset, whence))

    def tell(self) -> int:
        return int(self._file.tell())

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def _version(info: dict[str, Any]) -> str | None:
    """What names an object's content among all that it had; None where the store has no such thing."""
    for name in ("ETag", "etag", "md5Hash", "generation"):
        if found := info.get(name):
            return str(found).strip('"')
    return None


def _require_package(scheme: str) -> None:
    try:
        get_filesystem_class(scheme)
    except ValueError:
        raise ConfigurationError(
            f"BATCH_PIPELINE_ROWS: {scheme}:// is no filesystem that fsspec knows; write it as s3://bucket/prefix, or "
            "install the package that brings it."
        ) from None
    except ImportError as error:
        package = "'batch-pipeline[s3]'" if scheme in ("s3", "s3a") else "the package that it names"
        said = "" if scheme in ("s3", "s3a") else f" ({error})"
        raise ConfigurationError(
            f"BATCH_PIPELINE_ROWS: {scheme}:// needs a package that is not installed{said}; `pip install` {package}."
        ) from None


def _remove_leftovers(folder: Path) -> None:
    """What processes of this host that are gone left on its way."""
    here = socket.gethostname()
    for leftover in folder.glob("*.tmp"):
        process, _, host = leftover.name.removesuffix(".tmp").partition(".")[2].partition("@")
        if host == here and process.isdigit() and not alive(int(process)):
            leftover.unlink(missing_ok=True)
