"""Small objects in memory, each under the version that the store gave it: none is fetched twice by a process."""

import threading
from collections import OrderedDict
from collections.abc import Callable

_MOST_BYTES = 128 << 20


class ObjectCache:
    """The latest content of the objects that were used last. Safe for threads."""

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most, self._bytes = most_bytes, 0
        self._kept: OrderedDict[str, tuple[str, bytes]] = OrderedDict()
        self._lock = threading.Lock()
        # Whoever wants an object that is on its way waits for it.
        self._fetching: dict[str, threading.Lock] = {}

    def get(self, url: str, version: str | None, fetch: Callable[[], bytes]) -> bytes:
        """The content of that version, fetched now where it is not here; without a version it always is."""
        if version is None:
            return fetch()
        with self._lock:
            turn = self._fetching.setdefault(url, threading.Lock())
        with turn:
            with self._lock:
                kept = self._kept.get(url)
                if kept is not None and kept[0] == version:
                    self._kept.move_to_end(url)
                    return kept[1]
            content = fetch()
            self.put(url, version, content)
        with self._lock:
            self._fetching.pop(url, None)
        return content

    def put(self, url: str, version: str, content: bytes) -> None:
        with self._lock:
            self._drop(url)
            self._kept[url] = version, content
            self._bytes += len(content)
            while self._bytes > self._most:
                self._drop(next(iter(self._kept)))

    def forget(self, url: str) -> None:
        with self._lock:
            self._drop(url)

    def _drop(self, url: str) -> None:
        kept = self._kept.pop(url, None)
        if kept is not None:
            self._bytes -= len(kept[1])
