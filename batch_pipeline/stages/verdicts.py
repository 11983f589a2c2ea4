"""What the contract says of each result: DuckDB opens the answers, Pandera judges what is in them.

Structure and types are settled in SQL (`answer_sql`); what remains (labels, bounds, lengths, patterns,
the user's own checks) is Pandera's, a part of the file at a time. No answer can stop the work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_pipeline.rows import Place, arrow_file, replacing
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.answer_sql import (
    RESULT_COLUMNS,
    opened_answers,
    problem_column,
    value_column,
)
from batch_pipeline.stages.source import KEY, ROW
from batch_pipeline.workload.checks import UserChecks
from batch_pipeline.workload.contract import Contract
from batch_pipeline.workload.failures import failures
from batch_pipeline.workload.field import Field
from batch_pipeline.workload.field_checks import nullable_frame

# A part has this many rows, or fewer when answers are long: a part's memory is some ten times its text.
PART_ROWS = 50_000
PART_BYTES = 16_000_000

_LEADING = ("row", "chunk_id", "tier", "attempt", "sending")

# pyarrow ships no types.
arrow: Any = pa
compute: Any = pc
parquet: Any = pq


def write_verdicts(
    connection: duckdb.DuckDBPyConnection,
    results: Place,
    source: Place,
    contract: Contract,
    checks: UserChecks | None,
    to: Place,
) -> None:
    """Judges every row of a results file, and writes one verdict for each, in the same order.

    Columns written: row, chunk_id, tier, attempt, sending, outcome, reason (NULL when valid; never
    holds row text) and fields, a STRUCT of the contract's types (NULL unless valid). The outcomes are
    valid, contract_broken, refusal, truncated, invalid_request, errored, expired, canceled, absent
    and results_gone. A broken contract's reason is that of the first field, as declared, that has one.

    Args:
        connection: used for reading only.
        results: Parquet in order of `row`, one line per row sent.
        source: the load's source.parquet; read only for the columns that `checks` names.
        contract: what a valid answer is.
        checks: the user's own schema, asked about the rows that meet the contract.
        to: written whole or not at all.

    Raises:
        ConfigurationError: a user's check raised, or failed without naming rows.
    """
    judge = _Judge(contract, checks)
    sql, parameters = opened_answers(contract, "part"), []
    with (
        closing(connection.cursor()) as cursor,
        replacing(to) as temporary,
        parquet.ParquetWriter(temporary, judge.schema, compression="zstd") as writer,
    ):
        if judge.own_columns:
            sql, parameters = _with_source(cursor, sql, source, judge), [str(source)]
        for part in _parts(cursor, results):
            cursor.register("part", part)
            opened = cursor.sql(f"{sql} ORDER BY row", params=parameters).to_arrow_table()
            writer.write_table(judge.verdicts(opened))


def _parts(cursor: duckdb.DuckDBPyConnection, results: Place) -> Iterator[Any]:
    """The results file a part at a time, as Arrow tables."""
    found = cursor.execute("SELECT avg(strlen(answer)) FROM read_parquet(?)", [str(results)])
    length = int(found.fetchall()[0][0] or 0)
    rows = max(1, min(PART_ROWS, PART_BYTES // (1 + length)))
    # Not one streamed query: DuckDB would hold many parts' answers at once, to order and to buffer them.
    with parquet.ParquetFile(arrow_file(results), memory_map=isinstance(results, Path)) as file:
        for batch in file.iter_batches(batch_size=rows, columns=list(RESULT_COLUMNS)):
            part = arrow.Table.from_batches([batch])
            # DuckDB's threads share an Arrow table by its batches.
            yield arrow.Table.from_batches(part.to_batches(max_chunksize=1 + rows // 8))


def _with_source(cursor: duckdb.DuckDBPyConnection, sql: str, source: Place, judge: _Judge) -> str:
    """`sql` with the columns of the source that the user's checks name, as `source_<n>`."""
    assert judge.checks is not None
    described = cursor.execute("DESCRIBE FROM read_parquet(?)", [str(source)]).fetchall()
    judge.checks.require_columns({name for name, *_ in described}.union(judge.contract.names))
    columns = ", ".join(
        f"source.{quoted(name)} AS source_{n}" for n, name in enumerate(judge.own_columns)
    )
    return f"""SELECT opened.*, {columns} FROM ({sql}) AS opened
               LEFT JOIN read_parquet(?) AS source ON source.{ROW} = opened.row"""


class _Judge:
    """Turns parts of opened answers into verdicts."""

    def __init__(self, contract: Contract, checks: UserChecks | None) -> None:
        self.contract = contract
        self.checks = checks
        named = () if checks is None else checks.columns()
        # Those that the source must have, for the answer has them not.
        self.own_columns = [name for name in named if name not in contract.names]
        self.pandera = contract.pandera_schema()
        types = [arrow.field(each.name, _arrow_type(each)) for each in contract.fields]
        self.schema = arrow.schema(
            [
                ("row", arrow.int64()),
                ("chunk_id", arrow.string()),
                ("tier", arrow.int32()),
                ("attempt", arrow.int32()),
                ("sending", arrow.int32()),
                ("outcome", arrow.string()),
                ("reason", arrow.string()),
                ("fields", arrow.struct(types)),
            ]
        )

    def verdicts(self, part: Any) -> Any:
        """One verdict for each line of `part`, as a table of `self.schema`."""
        values = [
            _labelled(part[value_column(n)].combine_chunks(), field).cast(_arrow_type(field))
            for n, field in enumerate(self.contract.fields)
        ]
        answered = compute.equal(part["outcome"], "valid").combine_chunks()
        positions = np.flatnonzero(answered.to_numpy(zero_copy_only=False))
        found = self._reasons(
            part.take(positions),
            arrow.table(values, names=list(self.contract.names)).take(positions),
        )
        scattered = np.full(part.num_rows, None, dtype=object)
        scattered[positions] = found
        broken = arrow.array(scattered, type=arrow.string())
        valid = compute.and_(answered, broken.is_null())
        struct = self.schema.field("fields").type
        fields = arrow.StructArray.from_arrays(
            values, fields=list(struct), mask=compute.invert(valid)
        )
        outcome = compute.if_else(broken.is_valid(), "contract_broken", part["outcome"])
        reason = compute.coalesce(part["reason"], broken)
        leading = [part[name] for name in _LEADING]
        table = arrow.table([*leading, outcome, reason, fields], names=self.schema.names)
        return table.cast(self.schema)

    def _reasons(self, part: Any, values: Any) -> Any:
        """For each row, why it breaks the contract, or None: first by field, then by the user's checks."""
        frame = nullable_frame(values)
        reasons = _Reasons(len(frame))
        failed = failures(self.pandera, frame) if len(frame) else []
        for n, field in enumerate(self.contract.fields):
            reasons.claim_column(part[problem_column(n)])
            for failure in failed:
                if failure.column == field.name:
                    if not len(failure.rows):
                        raise RuntimeError(f"{failure.name} of the contract {failure.problem}")
                    reasons.claim(failure.rows, f"{failure.check}:{field.name}")
        reasons.claim_column(part["leftover"])
        if self.checks is not None:
            good = reasons.unclaimed()
            source = part.select([f"source_{n}" for n, _ in enumerate(self.own_columns)])
            own = nullable_frame(source.rename_columns(self.own_columns))
            extended = pd.concat([_with_lists(frame), own], axis=1)
            for row, name in self.checks.failures(extended.iloc[good]).items():
                reasons.claim(np.array([row]), f"check:{name}")
        return reasons.texts()


class _Reasons:
    """One reason for each row of a part: the first that claims it."""

    def __init__(self, rows: int) -> None:
        self._codes = np.full(rows, -1, dtype=np.int32)
        self._names: dict[str, int] = {}

    def claim(self, rows: Any, name: str) -> None:
        code = self._names.setdefault(name, len(self._names))
        self._codes[rows[self._codes[rows] < 0]] = code

    def claim_column(self, column: Any) -> None:
        """Claims each row of a column of reasons that is not null."""
        if column.null_count == len(column):
            return
        encoded = column.combine_chunks().dictionary_encode()
        indices = encoded.indices.fill_null(-1).to_numpy()
        for index, name in enumerate(encoded.dictionary.to_pylist()):
            self.claim(np.flatnonzero(indices == index), name)

    def unclaimed(self) -> Any:
        return np.flatnonzero(self._codes < 0)

    def texts(self) -> Any:
        # The last entry is what the code -1 stands for.
        return np.array([*self._names, None], dtype=object)[self._codes]


def _arrow_type(field: Field) -> Any:
    if field.items is not None:
        return arrow.list_(_arrow_type(field.items))
    return {
        "string": arrow.string(),
        "integer": arrow.int64(),
        "number": arrow.float64(),
        "boolean": arrow.bool_(),
    }[field.kind]


def _labelled(column: Any, field: Field) -> Any:
    """The column with each text that stands for a declared value replaced by that value."""
    if field.items is not None:
        lengths = compute.list_value_length(column).fill_null(0).to_numpy()
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        items = _labelled(compute.list_flatten(column), field.items)
        return arrow.ListArray.from_arrays(offsets, items, mask=column.is_null())
    if field.kind != "string" or field.allowed is None:
        return column
    encoded = column.dictionary_encode()
    texts = encoded.dictionary.to_pylist()
    labels = [field.label(text) for text in texts]
    kept = [text if label is None else label for text, label in zip(texts, labels, strict=True)]
    return arrow.array(kept, type=column.type).take(encoded.indices)


def _with_lists(frame: pd.DataFrame) -> pd.DataFrame:
    """Arrays as plain Python lists, which is what a user's check expects to meet."""
    changes = {
        name: pd.Series(column.array.tolist(), index=column.index, dtype=object)
        for name, column in frame.items()
        if isinstance(column.dtype, pd.ArrowDtype)
    }
    return frame.assign(**{str(name): column for name, column in changes.items()})


def count_reasons(
    connection: duckdb.DuckDBPyConnection, verdicts: Sequence[Place]
) -> list[tuple[str, str, int]]:
    """How many verdicts there are of each (outcome, reason), most frequent first; valid has no reason ('')."""
    if not verdicts:
        return []
    return connection.execute(
        """SELECT outcome, coalesce(reason, '') AS reason, count(*) AS n FROM read_parquet(?)
           GROUP BY ALL ORDER BY n DESC, outcome, reason""",
        [[str(path) for path in verdicts]],
    ).fetchall()


def example_failures(
    connection: duckdb.DuckDBPyConnection,
    verdicts: Sequence[Place],
    source: Place,
    key_column: str = KEY,
    limit: int = 5,
) -> list[dict[str, Any]]:
    """Up to `limit` rows that are not valid, of as many different reasons as there are.

    Each has the keys `key` (as text), `tier`, `outcome` and `reason`; no row text.
    """
    if not verdicts:
        return []
    found = connection.execute(
        f"""
        WITH ranked AS (
            SELECT row, tier, outcome, reason, attempt, row_number() OVER (
                PARTITION BY outcome, reason ORDER BY row, tier, attempt, sending) AS rank
            FROM read_parquet($verdicts) WHERE outcome <> 'valid'
        ), chosen AS (
            FROM ranked ORDER BY rank, outcome, reason LIMIT $limit
        )
        SELECT CAST(source.{quoted(key_column)} AS VARCHAR), chosen.tier, chosen.outcome, chosen.reason
        FROM chosen LEFT JOIN read_parquet($source) AS source ON source.{ROW} = chosen.row
        ORDER BY chosen.rank, chosen.outcome, chosen.reason
        """,
        {"verdicts": [str(path) for path in verdicts], "limit": limit, "source": str(source)},
    ).fetchall()
    names = ("key", "tier", "outcome", "reason")
    return [dict(zip(names, each, strict=True)) for each in found]
