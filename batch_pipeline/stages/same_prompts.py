"""Rows of a load that ask the same: found by a digest of the rendered prompt, sent once, answered alike.

Golden rows have no part in it: each is a request of its own.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batch_pipeline.ledger import Load
from batch_pipeline.rows import LoadFolder, Place, replacing
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.prompt_sql import user_message_in_sql
from batch_pipeline.stages.source_columns import GOLDEN, KEY, ROW
from batch_pipeline.workload.data_file import literal
from batch_pipeline.workload.prompt import Prompt

_ROWS_AT_A_TIME = 5_000

# pyarrow ships no types.
arrow: Any = pa
parquet: Any = pq

_SCHEMA = arrow.schema(
    [("row", arrow.int64()), ("key", arrow.string()), ("digest", arrow.binary())]
)


def prompt_digests(
    connection: duckdb.DuckDBPyConnection, folder: LoadFolder, prompt: Prompt
) -> Place:
    """The load's prompts.parquet, made now where it is missing: row, key and digest of each source row.

    The digest is the sha256 of the prompt as it is sent; null where it cannot be rendered. Digests of two
    loads can be compared where their fingerprints are equal.
    """
    if folder.prompts.is_file():
        return folder.prompts
    varying = bool(prompt.system_columns)
    text = None if varying else user_message_in_sql(connection, folder.source, prompt)
    with replacing(folder.prompts) as temporary:
        if text is not None:
            connection.execute(
                f"COPY (SELECT {ROW} AS row, {KEY} AS key, unhex(sha256({text})) AS digest "
                f"FROM read_parquet({literal(str(folder.source))}) WHERE NOT {GOLDEN}) "
                f"TO {literal(str(temporary))} (FORMAT parquet)"
            )
        else:
            with parquet.ParquetWriter(temporary, _SCHEMA) as writer:
                for block in _rendered(connection, folder.source, prompt):
                    writer.write_table(block)
    return folder.prompts


def find_passengers(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load
) -> dict[int, int]:
    """Makes the table `passengers`: tier, row, `of` (the row that carries it), attempt, sending.

    Of the rows that are due at a tier with the same prompt, the first carries the others. Rows that were
    never sent and are withheld for now travel with it, too: that costs nothing. Returns how many requests
    each tier takes, by tier: the rows of `states` that are due there and that no other carries.
    """
    if context.workload.spec.dedupe:
        digests = prompt_digests(connection, context.folder(record), context.workload.prompt)
        _pair_up(connection, digests)
    else:
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE passengers "
            '(tier INTEGER, row BIGINT, "of" BIGINT, attempt INTEGER, sending INTEGER)'
        )
    return dict(
        connection.execute(
            "SELECT next_tier, count(*) FROM states ANTI JOIN passengers USING (row) "
            "WHERE next_tier IS NOT NULL GROUP BY ALL ORDER BY 1"
        ).fetchall()
    )


def _pair_up(connection: duckdb.DuckDBPyConnection, digests: Place) -> None:
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE passengers AS
        WITH wanted AS (
            -- What was never sent and waits would begin at tier 0.
            SELECT row, digest, coalesce(next_tier, 0) AS tier, next_tier IS NOT NULL AS due,
                   coalesce(next_attempt, 1) AS attempt,
                   CAST(coalesce(sending, 0) + 1 AS INTEGER) AS sending
            FROM states JOIN (SELECT row, digest FROM read_parquet($digests)) USING (row)
            WHERE NOT golden AND digest IS NOT NULL
              AND (next_tier IS NOT NULL OR sending IS NULL AND disposition IS NULL)
        ), carriers AS (
            SELECT tier, digest, min(row) FILTER (due) AS "of" FROM wanted
            GROUP BY tier, digest HAVING count(*) > 1 AND bool_or(due)
        )
        SELECT tier, row, "of", attempt, sending FROM wanted JOIN carriers USING (tier, digest)
        WHERE row <> "of"
        """,
        {"digests": str(digests)},
    )


def with_passengers(connection: duckdb.DuckDBPyConnection, carriers: Any) -> Any:
    """`carriers`, an Arrow table of sent rows, followed by a line for each of their passengers.

    It has the columns row, attempt, sending and `of` (null); all others a passenger shares.
    """
    connection.register("carriers", carriers)
    try:
        passengers = connection.sql(
            'SELECT c.* REPLACE (p.row AS row, p.attempt AS attempt, p.sending AS sending, p."of" AS "of") '
            'FROM passengers AS p JOIN carriers AS c ON c.row = p."of" ORDER BY p."of", p.row'
        ).to_arrow_table()
    finally:
        connection.unregister("carriers")
    return arrow.concat_tables([carriers, passengers.cast(carriers.schema)])


def _rendered(
    connection: duckdb.DuckDBPyConnection, source: Place, prompt: Prompt
) -> Iterator[Any]:
    columns = prompt.columns
    named = "".join(f", {quoted(column)}" for column in columns)
    digest = _digest(prompt)
    reader = connection.sql(
        f"SELECT {ROW}, {KEY}{named} FROM read_parquet(?) WHERE NOT {GOLDEN}", params=[str(source)]
    ).to_arrow_reader(_ROWS_AT_A_TIME)
    for block in reader:
        row, key, *cells = block.columns
        values = zip(*(cell.to_pylist() for cell in cells), strict=True)
        digests = [digest(dict(zip(columns, each, strict=True))) for each in values]
        yield arrow.table([row, key, arrow.array(digests, arrow.binary())], schema=_SCHEMA)


def _digest(prompt: Prompt) -> Callable[[Mapping[str, Any]], bytes | None]:
    user, system = prompt.render, prompt.render_system if prompt.system_columns else None

    def digest(columns: Mapping[str, Any]) -> bytes | None:
        try:
            text = user(columns).encode()
            if system is not None:
                # With its length before it, no end of the one can pass for a beginning of the other.
                before = system(columns).encode()
                text = b"%d:%s%s" % (len(before), before, text)
        except Exception:  # noqa: BLE001 - a template is code; the row is told apart when it is to be sent
            return None
        return hashlib.sha256(text).digest()

    return digest
