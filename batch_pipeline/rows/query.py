"""DuckDB as a query engine over the rows' files: in memory, bounded, and never the warehouse."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path

import duckdb

from batch_pipeline.errors import PipelineError
from batch_pipeline.obstacles import is_no_room
from batch_pipeline.rows.engine import connected, opened, threads
from batch_pipeline.rows.place import Place, arrow_file
from batch_pipeline.rows.store_errors import behind

# A load's working set is streamed, and what a sort or a join needs beyond this goes to disk. Not so the
# vectors in flight: 2,048 texts of 20 kB, some copies of them, and a row group to be written.
_MOST_MEMORY = 4 << 30
# Of these, each thread has its share: what a query needs to be at work at all; and rows and answers in
# flight, copies and a row group included.
_LEAST_MEMORY = 160 << 20
# A file of rows in an error's text.
_PATH = re.compile(r"/[^'\"]*/rows/[^'\"]*?\.parquet")
_URL = re.compile(r"[a-z][a-z0-9+.-]*://[^'\"\s]*/rows/[^'\"\s]*?\.parquet")
_ROWS_IN_FLIGHT, _ANSWERS_IN_FLIGHT = 50_000, 10_000


@contextmanager
def querying(
    scratch: Path, *, ordered: bool = True, memory: int | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that spills into `scratch` and touches nothing else by itself.

    Args:
        scratch: a folder; made where it is missing.
        ordered: unless it is, rows may come in another order where no query asks for one, and fewer are held.
        memory: the most to use, in bytes, as `memory_for` gives it; without it, what the machine allows.
    """
    most = memory or _most_memory()
    database = (
        connected(scratch, most) if ordered else closing(opened(scratch, most, ordered=False))
    )
    with database as connection:
        # It goes to standard output, which may be one JSON object of a command.
        connection.execute("SET enable_progress_bar = false")
        try:
            yield connection
        except duckdb.Error as error:
            if (said := behind(error)) is not None:
                raise said from None
            damaged = _URL.search(str(error)) or _PATH.search(str(error))
            if damaged is None or is_no_room(error):
                raise
            kept = "of its bucket" if "://" in damaged[0] else "of the state folder"
            raise PipelineError(
                f"{damaged[0]} is damaged or missing; restore it from a backup {kept}, or send the "
                "load again with --resend."
            ) from None


def memory_for(row_bytes: float, answer_bytes: float) -> int:
    """The most that queries over a load may use, in bytes, by the size of its rows and answers.

    More would only be filled: a join or a sort takes what it is given before it goes to disk.
    """
    in_flight = _ROWS_IN_FLIGHT * row_bytes + _ANSWERS_IN_FLIGHT * answer_bytes
    # One thread alone reads, sorts and writes as well.
    return min(max(threads(), 2) * (_LEAST_MEMORY + int(in_flight)), _most_memory())


def row_bytes(path: Place) -> float:
    """The mean size of a Parquet file's rows, uncompressed, by its footer. Raises OSError and pyarrow's errors."""
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(arrow_file(path))
    size = sum(metadata.row_group(n).total_byte_size for n in range(metadata.num_row_groups))
    return float(size / max(metadata.num_rows, 1))


def limit_memory(connection: duckdb.DuckDBPyConnection, memory: int) -> None:
    """Lets the connection, and all that share its database, use so many bytes from now on."""
    connection.execute(f"SET memory_limit = '{memory >> 20}MiB'")


def _most_memory() -> int:
    """Bytes: half of what the machine has, up to a bound."""
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
