"""How DuckDB reads and writes objects: as an fsspec filesystem that is asked for nothing twice."""

import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from fsspec import AbstractFileSystem  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from batch_pipeline.rows.object_store import ObjectStore

# What DuckDB asks for of a file; it keeps nothing by it, since its own cache of files is off.
_SOME_TIME = datetime(2000, 1, 1, tzinfo=UTC)


class DuckDBFiles(AbstractFileSystem):  # type: ignore[misc]
    """All stores of one scheme: a database takes one filesystem for each."""

    cachable = False
    _of: ClassVar[dict[str, "DuckDBFiles"]] = {}

    def __init__(self, scheme: str) -> None:
        super().__init__()
        self.protocol = scheme
        self._stores: dict[str, ObjectStore] = {}
        self._opened = threading.local()

    @classmethod
    def of(cls, scheme: str, root: str, store: "ObjectStore") -> "DuckDBFiles":
        """The one of the scheme, which reads from `store` what lies below `root`."""
        files = cls._of.setdefault(scheme, cls(scheme))
        files.add(root, store)
        return files

    def add(self, root: str, store: "ObjectStore") -> None:
        """What lies below `root` is in `store`."""
        self._stores[root] = store

    def open(self, path: str, mode: str = "rb", **_: Any) -> Any:
        """Raises FileNotFoundError, and as ObjectStore does. What is written appears, whole, when it is closed."""
        if "w" in mode:
            return self._store(path).open_new(path)
        if mode != "rb":
            raise NotImplementedError(mode)
        try:
            file = self._store(path).open(path)
        except FileNotFoundError:
            raise FileNotFoundError(path) from None
        # It asks in the same thread, right after; by then another host may have replaced the object.
        self._opened.last = path, file.seek(0, 2)
        file.seek(0)
        return file

    def glob(self, path: str, **_: Any) -> list[str]:
        """Every name stands for itself; whether it is there shows when it is opened."""
        return [path]

    def size(self, path: str) -> int:
        last, size = getattr(self._opened, "last", ("", 0))
        return int(size) if last == path else self._store(path).size(path)

    def exists(self, path: str, **_: Any) -> bool:
        return self._store(path).version(path) is not None

    def isfile(self, path: str) -> bool:
        return self.exists(path)

    def isdir(self, _path: str) -> bool:
        """A folder is as good as there: none is made."""
        return True

    def mkdir(self, path: str, create_parents: bool = True, **_: Any) -> None:
        """Does nothing: objects need no folder."""

    def rm(self, path: str, **_: Any) -> None:
        self._store(path).remove(path)

    def modified(self, _path: str) -> datetime:
        return _SOME_TIME

    def _store(self, path: str) -> "ObjectStore":
        roots = [root for root in self._stores if path.startswith(root + "/")]
        if not roots:
            raise FileNotFoundError(path)
        return self._stores[max(roots, key=len)]
