"""DuckDB as a query engine over the rows' files: in memory, bounded, and never the warehouse."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb

# A load's working set is streamed; what a sort or a join needs beyond this goes to disk.
_MEMORY = "600MB"


@contextmanager
def querying(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that spills into `scratch` and touches nothing else by itself."""
    scratch.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(
        config={
            "memory_limit": _MEMORY,
            "temp_directory": str(scratch),
            "autoinstall_known_extensions": "false",
        }
    )
    # It goes to standard output, which may be one JSON object of a command.
    connection.execute("SET enable_progress_bar = false")
    try:
        yield connection
    finally:
        connection.close()


def quoted(identifier: str) -> str:
    """`identifier` as an SQL name, whatever characters it has."""
    return '"' + identifier.replace('"', '""') + '"'


def read_parquets(paths: list[str], columns: Mapping[str, str]) -> str:
    """SQL that reads `columns` (name to type) of `paths`, or an empty relation where there are none."""
    if paths:
        names = ", ".join(columns)
        files = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        return f"(SELECT {names} FROM read_parquet([{files}], union_by_name = true))"
    typed = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
    return f"(SELECT {typed} WHERE false)"
