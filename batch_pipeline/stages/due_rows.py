"""The rows a chunk is made of: read in order from the source as they are due, and written down as sent."""

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batch_pipeline.rows import LoadFolder, replacing
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.source import ROW

SENT = ("row", "tier", "attempt", "sending", "chunk_id", "of")
_ROWS_AT_A_TIME = 5_000

_DueRow = tuple[int, int, int, dict[str, Any]]


class DueRows:
    """The rows due at a tier, the next of which can be looked at before it is taken: a full chunk leaves it."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        folder: LoadFolder,
        tier: int,
        columns: tuple[str, ...],
    ) -> None:
        """`connection` has the tables `states` and `passengers`, and is not used for anything else meanwhile."""
        self._rows = _due_rows(connection, folder, tier, columns)
        self._next = next(self._rows, None)

    def more(self) -> bool:
        return self._next is not None

    def peek(self) -> _DueRow:
        assert self._next is not None
        return self._next

    def take(self) -> None:
        self._next = next(self._rows, None)


@dataclass
class SentRows:
    """The rows of one chunk, as columns."""

    row: "array[int]" = field(default_factory=partial(array, "q"))
    attempt: "array[int]" = field(default_factory=partial(array, "i"))
    sending: "array[int]" = field(default_factory=partial(array, "i"))

    def add(self, row: int, attempt: int, sending: int) -> None:
        self.row.append(row)
        self.attempt.append(attempt)
        self.sending.append(sending)

    def table(self, tier: int, chunk_id: str) -> Any:
        """As an Arrow table of the columns of `SENT`."""
        return pa.table(
            {
                "row": pa.array(self.row, pa.int64()),
                "tier": pa.repeat(pa.scalar(tier, pa.int32()), len(self.row)),
                "attempt": pa.array(self.attempt, pa.int32()),
                "sending": pa.array(self.sending, pa.int32()),
                "chunk_id": pa.repeat(pa.scalar(chunk_id), len(self.row)),
                "of": pa.nulls(len(self.row), pa.int64()),
            }
        )


def write_sent(table: Any, path: Path) -> None:
    """Writes down which rows a chunk carries; `of` is the row that has the request, null for that row itself."""
    with replacing(path) as temporary:
        pq.write_table(table.select(list(SENT)), temporary)


def _due_rows(
    connection: duckdb.DuckDBPyConnection, folder: LoadFolder, tier: int, columns: tuple[str, ...]
) -> Iterator[_DueRow]:
    """The rows due at `tier` that no other carries, in row order: row, attempt, sending, the prompt's columns."""
    named = ", ".join(f"s.{quoted(column)}" for column in columns)
    reader = connection.sql(
        f"""
        SELECT states.row, states.next_attempt, coalesce(states.sending, 0) + 1, {named}
        FROM states ANTI JOIN passengers USING (row) JOIN read_parquet(?) AS s ON s.{ROW} = states.row
        WHERE states.next_tier = ? ORDER BY states.row
        """,
        params=[str(folder.source), tier],
    ).to_arrow_reader(_ROWS_AT_A_TIME)
    for block in reader:
        values = [column.to_pylist() for column in block.columns]
        for row, attempt, sending, *cells in zip(*values, strict=True):
            yield row, attempt, sending, dict(zip(columns, cells, strict=True))
