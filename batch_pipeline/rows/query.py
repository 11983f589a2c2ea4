"""DuckDB as a query engine over the rows' files: in memory, bounded, and never the warehouse."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import duckdb

from batch_pipeline.errors import PipelineError
from batch_pipeline.obstacles import is_no_room

# A load's working set is streamed, and what a sort or a join needs beyond this goes to disk. Not so the
# vectors in flight: 2,048 texts of 20 kB, some copies of them, and a row group to be written.
_MOST_MEMORY = 4 << 30


@contextmanager
def querying(scratch: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that spills into `scratch` and touches nothing else by itself."""
    scratch.mkdir(parents=True, exist_ok=True)
    connection = duckdb.connect(
        config={
            "memory_limit": f"{_memory() >> 20}MiB",
            "temp_directory": str(scratch),
            "autoinstall_known_extensions": "false",
        }
    )
    # It goes to standard output, which may be one JSON object of a command.
    connection.execute("SET enable_progress_bar = false")
    try:
        yield connection
    except duckdb.Error as error:
        damaged = re.search(r"/[^'\"]*/rows/[^'\"]*?\.parquet", str(error))
        if damaged is None or is_no_room(error):
            raise
        raise PipelineError(
            f"{damaged[0]} is damaged or missing; restore it from a backup of the state folder, or send the "
            "load again with --resend."
        ) from None
    finally:
        connection.close()


def _memory() -> int:
    """Bytes: half of what the machine has, up to a bound. A cap, of which short rows use little."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(physical // 2, _MOST_MEMORY)


def quoted(identifier: str) -> str:
    """`identifier` as an SQL name, whatever characters it has."""
    return '"' + identifier.replace('"', '""') + '"'


def read_parquets(paths: list[str], columns: Mapping[str, str]) -> str:
    """SQL that reads `columns` (name to type) of `paths`, or an empty relation where there are none.

    A column that files of an older version lack is null in their rows.
    """
    typed = ", ".join(f"CAST(NULL AS {kind}) AS {name}" for name, kind in columns.items())
    if paths:
        names = ", ".join(columns)
        files = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
        return (
            f"(SELECT {names} FROM (SELECT {typed} WHERE false UNION ALL BY NAME "
            f"SELECT * FROM read_parquet([{files}], union_by_name = true)))"
        )
    return f"(SELECT {typed} WHERE false)"
