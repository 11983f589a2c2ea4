"""The rows a chunk is made of: read in order from the source as they are due, and written down as sent."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import duckdb
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from batch_pipeline.rows import LoadFolder, Place, replacing
from batch_pipeline.rows.query import quoted, row_bytes
from batch_pipeline.stages.prompt_sql import user_message_in_sql
from batch_pipeline.stages.requests import TierRequests
from batch_pipeline.stages.source import ROW
from batch_pipeline.workload.prompt import Prompt

# pyarrow ships no types.
arrow: Any = pa
parquet: Any = pq

SENT = ("row", "tier", "attempt", "sending", "chunk_id", "of")
_ROWS_AT_A_TIME = 2_000
_STRETCH_BYTES = 16_000_000
# What is joined at once, and held while the next is made: more than the caches hold is slower. One request may
# be longer.
_PART_BYTES = 1_000_000
# Longer numbers have no rows.
_POWERS_OF_TEN = 10 ** np.arange(1, 18, dtype=np.int64)


@dataclass(frozen=True)
class Part:
    """Some rows on their way into a chunk: an Arrow table of row, attempt, sending; and of each what varies."""

    rows: Any
    varying: list[bytes]

    def __len__(self) -> int:
        return len(self.varying)

    @property
    def positions(self) -> list[int]:
        """The rows' positions in the source."""
        found: list[int] = self.rows["row"].to_pylist()
        return found


@dataclass
class Unsendable:
    """Rows that make no request, as tables of row, attempt, sending and the reason."""

    tables: list[Any] = field(default_factory=list)

    def add(self, rows: Any, reason: str) -> None:
        if len(rows):
            reasons = arrow.repeat(arrow.scalar(reason), len(rows))
            self.tables.append(rows.append_column("reason", reasons))


class DueRows:
    """The rows due at a tier, taken in order: as many at a time as a chunk still has room for."""

    def __init__(
        self,
        connection: duckdb.DuckDBPyConnection,
        folder: LoadFolder,
        tier: int,
        prompt: Prompt,
        requests: TierRequests,
        *,
        id_bytes: int,
        most_bytes: int,
    ) -> None:
        """Opens the stream.

        Args:
            connection: has the tables `states` and `passengers`, and its tables are left as they are.
            folder: the load's.
            tier: its position.
            prompt: the workload's.
            requests: how a row becomes one.
            id_bytes: length of what stands before the row's number in a custom_id.
            most_bytes: a request that is longer is unsendable.
        """
        self.unsendable = Unsendable()
        self._varying = requests.varying
        self._constant = requests.template.constant_bytes + id_bytes
        self._most = most_bytes
        text = None
        if requests.by_user_message:
            text = user_message_in_sql(connection, folder.source, prompt)
        self._columns = None if text is not None else prompt.columns
        self._blocks = _due_rows(connection, folder, tier, text, prompt.columns)
        self._at = 0
        self._next()

    def more(self) -> bool:
        return self._block is not None

    def take(self, most_requests: int, most_bytes: int) -> Part | None:
        """The next rows whose requests have `most_bytes` at most, commas included; None where not one has room.

        Of many, only some: call again until there is none.
        """
        if self._block is None:
            return None
        start, ends = self._at, self._ends
        before = int(ends[start - 1]) if start else 0
        # A comma follows each but the last.
        stop = int(np.searchsorted(ends, before + most_bytes + 1, "right"))
        enough = int(np.searchsorted(ends, before + _PART_BYTES, "right"))
        stop = min(stop, start + most_requests, max(enough, start + 1))
        if stop <= start:
            return None
        rows, varying = self._block.rows, self._block.varying
        part = Part(rows.slice(start, stop - start), varying[start:stop])
        self._at = stop
        if stop == len(varying):
            self._next()
        return part

    def _next(self) -> None:
        """Goes on to the next block that has a row to be sent."""
        self._block: Part | None = None
        for block in self._blocks:
            rows = block.select(["row", "attempt", "sending"])
            varying = self._parts(block)
            made = np.array([part is not None for part in varying], dtype=bool)
            numbers = rows["row"].to_numpy()
            digits = 1 + np.searchsorted(_POWERS_OF_TEN, numbers, "right")
            sizes = self._constant + digits + np.array([len(part or b"") for part in varying])
            fits = sizes <= self._most
            self.unsendable.add(rows.filter(~made), "template_failed")
            self.unsendable.add(rows.filter(made & ~fits), "request_too_large")
            good = made & fits
            if not good.all():
                rows = rows.filter(good)
                kept = np.flatnonzero(good).tolist()
                varying = [varying[n] for n in kept]
            if varying:
                self._block = Part(rows, varying)
                # With the comma behind each.
                self._ends, self._at = np.cumsum(sizes[good] + 1), 0
                return

    def _parts(self, block: Any) -> list[Any]:
        """What varies in each row's request; None where the template failed."""
        if self._columns is None:
            return [orjson.dumps(text) for text in block["text"].to_pylist()]
        values = (block[f"column_{n}"].to_pylist() for n, _ in enumerate(self._columns))
        found: list[bytes | None] = []
        for cells in zip(*values, strict=True):
            try:
                found.append(self._varying(dict(zip(self._columns, cells, strict=True))))
            except Exception:  # noqa: BLE001 - a template is code, and may raise anything at a row
                found.append(None)
        return found


def sent_rows(rows: list[Any], tier: int, chunk_id: str) -> Any:
    """Tables of row, attempt and sending as one of the columns of `SENT`, and what else they have."""
    table = arrow.concat_tables(rows)
    for name, value in (
        ("tier", arrow.scalar(tier, arrow.int32())),
        ("chunk_id", arrow.scalar(chunk_id)),
        ("of", arrow.scalar(None, arrow.int64())),
    ):
        table = table.append_column(name, arrow.repeat(value, len(table)))
    return table


def write_sent(table: Any, path: Place) -> None:
    """Writes down which rows a chunk carries; `of` is the row that has the request, null for that row itself."""
    with replacing(path) as temporary:
        parquet.write_table(table.select(list(SENT)), temporary)


def _due_rows(
    connection: duckdb.DuckDBPyConnection,
    folder: LoadFolder,
    tier: int,
    text: str | None,
    columns: tuple[str, ...],
) -> Iterator[Any]:
    """The rows due at `tier` that no other carries, in row order, a block at a time.

    Arrow tables of row, attempt, sending; and text, the user message, or the prompt's columns as column_<n>.
    """
    named = [f"s.{quoted(column)} AS column_{n}" for n, column in enumerate(columns)]
    prompt = ", ".join(named) if text is None else "s.text"
    source = "read_parquet($source)"
    if text is not None:
        source = f"(SELECT {ROW}, {text} AS text FROM {source})"
    due = "FROM states ANTI JOIN passengers USING (row) WHERE next_tier = $tier"
    first, last = connection.execute(f"SELECT min(row), max(row) {due}", {"tier": tier}).fetchall()[
        0
    ]
    if first is None:
        return
    step = _step(folder.source)
    # A stretch of rows after the other: all of them sorted would be the whole source's text in memory. Parquet's
    # statistics leave out what lies elsewhere.
    for start in range(first, last + 1, step):
        found = connection.sql(
            f"""
            SELECT due.row, due.attempt, due.sending, {prompt}
            FROM (
                SELECT row, CAST(next_attempt AS INTEGER) AS attempt,
                       CAST(coalesce(sending, 0) + 1 AS INTEGER) AS sending
                {due} AND row BETWEEN $start AND $end
            ) AS due
            JOIN {source} AS s ON s.{ROW} = due.row WHERE s.{ROW} BETWEEN $start AND $end ORDER BY due.row
            """,
            params={
                "source": str(folder.source),
                "tier": tier,
                "start": start,
                "end": start + step - 1,
            },
        ).to_arrow_table()
        for batch in found.to_batches(max_chunksize=_ROWS_AT_A_TIME):
            yield arrow.Table.from_batches([batch])


def _step(source: Place) -> int:
    """How many rows of the source are some 16 MB."""
    return max(_ROWS_AT_A_TIME, int(_STRETCH_BYTES / max(row_bytes(source), 1)))
