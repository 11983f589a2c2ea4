"""How a DuckLake keeps its Parquet files in the object store of the rows, by the same credentials."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from batch_pipeline.rows.duckdb_files import DuckDBFiles

if TYPE_CHECKING:
    import duckdb

    from batch_pipeline.rows.place import ObjectPath


class LakeFiles(DuckDBFiles):
    """Reads as the rows are read, and writes. A file is there as a whole once it is closed, and never changes."""

    def __init__(self, root: "ObjectPath") -> None:
        super().__init__(root.url.partition("://")[0])
        self._store_of_rows = root.store
        self._stores[root.url] = root.store

    def open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        """Raises FileNotFoundError, and as ObjectStore does."""
        if mode == "rb":
            return super().open(path, mode, **options)
        return self._store_of_rows.open_new(path)

    def exists(self, path: str, **_: Any) -> bool:
        return self._store_of_rows.version(path) is not None

    def isdir(self, _path: str) -> bool:
        """There are no folders, so none has to be made."""
        return True

    def rm(self, path: str, **_: Any) -> None:
        self._store_of_rows.remove(path)


def write_through(connection: "duckdb.DuckDBPyConnection", root: "ObjectPath") -> None:
    """Lets a database of its own, and nobody else's, write below `root`."""
    files = LakeFiles(root)
    unregister: Callable[[str], None] = connection.unregister_filesystem
    if connection.filesystem_is_registered(str(files.protocol)):
        unregister(str(files.protocol))
    connection.register_filesystem(files)
    # httpfs has its own idea of where S3 is and who may enter.
    connection.execute("SET disabled_filesystems = 'S3FileSystem'")
