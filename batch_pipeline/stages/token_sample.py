"""A random sample of a load's requests, drawn by DuckDB and rendered: what their tokens are counted on."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import orjson

from batch_pipeline.ledger import Load
from batch_pipeline.measure.estimate import LongRows, share_of
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.requests import request_maker
from batch_pipeline.stages.source_columns import GOLDEN, ROW
from batch_pipeline.workload.data_file import literal
from batch_pipeline.workload.workload import Workload

SAMPLE_ROWS = 100


@dataclass(frozen=True)
class RowSample:
    """Prompt columns of `rows`, drawn at random from the `requests` of tier 0, golden ones included.

    `duplicates` are the source rows that ask what another one asks, and are not sent. `more_bytes`: by how much a
    request of the whole load is longer, on average, than one of the sample, which misses rare long rows.
    """

    requests: int
    duplicates: int
    rows: Sequence[Mapping[str, Any]]
    more_bytes: float = 0.0


def draw_rows(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load, wanted: int
) -> RowSample:
    """A simple random sample without replacement; the same load draws the same rows."""
    columns = context.workload.prompt.columns
    source = f"read_parquet({literal(str(context.folder(record).source))})"
    every = record.source_rows + record.golden_rows
    named = ", ".join(map(quoted, columns))
    duplicates = 0
    if context.workload.spec.dedupe:
        duplicates = connection.execute(
            f"SELECT count(*) - count(DISTINCT hash({named})) FROM {source} WHERE NOT {GOLDEN}"
        ).fetchall()[0][0]
    requests = every - duplicates
    seed = f"{record.workload}/{record.load}"
    if duplicates:
        chosen = connection.execute(
            f"SELECT row FROM (SELECT min({ROW}) AS row FROM {source} WHERE NOT {GOLDEN} GROUP BY hash({named}) "
            f"UNION ALL SELECT {ROW} FROM {source} WHERE {GOLDEN}) ORDER BY hash(row, $seed), row LIMIT $wanted",
            {"seed": seed, "wanted": wanted},
        ).fetchall()
        positions = [row[0] for row in chosen]
    else:
        positions = random.Random(seed).sample(range(every), min(wanted, every))  # noqa: S311 - no secret
    lines = connection.execute(
        f"SELECT {named} FROM {source} WHERE {ROW} IN ({', '.join(map(str, positions))}) ORDER BY {ROW}"
        if positions
        else f"SELECT {named} FROM {source} LIMIT 0"
    ).fetchall()
    size = bytes_of(columns)
    of_all, of_sample = (
        connection.execute(f"SELECT coalesce(avg(size), 0) FROM ({query})").fetchall()[0][0]
        for query in (
            f"SELECT any_value({size}) AS size FROM {source} WHERE NOT {GOLDEN} GROUP BY hash({named}) "
            f"UNION ALL SELECT {size} FROM {source} WHERE {GOLDEN}"
            if duplicates
            else f"SELECT {size} AS size FROM {source}",
            f"SELECT {size} AS size FROM {source} WHERE {ROW} IN ({', '.join(map(str, positions))})"
            if positions
            else "SELECT 0 AS size",
        )
    )
    return RowSample(
        requests,
        duplicates,
        [dict(zip(columns, line, strict=True)) for line in lines],
        of_all - of_sample,
    )


def bytes_of(columns: Sequence[str]) -> str:
    """SQL of the bytes of a row's prompt columns."""
    return " + ".join(f"coalesce(strlen({quoted(column)}::VARCHAR), 0)" for column in columns)


def params_of(
    workload: Workload, tier: int, rows: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """The API params of each row at a tier; a row that the template cannot take is left out."""
    request = request_maker(workload, tier)
    found: list[dict[str, Any]] = []
    for columns in rows:
        try:
            found.append(orjson.loads(request("sample", columns))["params"])
        except Exception:  # noqa: BLE001, S112 - a template is code, and may raise anything at a row
            continue
    return found


def text_bytes(params: Mapping[str, Any]) -> int:
    """UTF-8 bytes of a request's texts: system prompt and messages."""
    return sum(
        len(block["text"].encode())
        for block in [*params.get("system", ()), *_blocks(params["messages"])]
    )


def _blocks(messages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [
        block
        for message in messages
        for block in (
            [{"text": message["content"]}]
            if isinstance(message["content"], str)
            else message["content"]
        )
    ]


def long_rows(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    record: Load,
    threshold: int,
    tokens: float,
    per_byte: float,
) -> LongRows:
    """The rows whose prompt has more than `threshold` tokens, where requests have `tokens` on average.

    Of all rows, by how much longer than the average their prompt columns are: a sample would miss rare long ones.
    """
    source = f"read_parquet({literal(str(context.folder(record).source))})"
    size = bytes_of(context.workload.prompt.columns)
    rows, long, total, of_long = connection.execute(
        "SELECT count(*), count(*) FILTER (tokens > $threshold), sum(tokens), "
        "coalesce(sum(tokens) FILTER (tokens > $threshold), 0) FROM "
        "(SELECT greatest($tokens + $per_byte * (size - avg(size) OVER ()), 1) AS tokens "
        f"FROM (SELECT {size} AS size FROM {source}))",
        {"tokens": tokens, "threshold": threshold, "per_byte": per_byte},
    ).fetchall()[0]
    return LongRows(share_of(long, rows), share_of(of_long, total))
