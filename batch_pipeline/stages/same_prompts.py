"""Rows of a load that ask the same: found by a digest of the rendered prompt, sent once, answered alike.

Golden rows have no part in it: each is a request of its own.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batch_pipeline.ledger import Load
from batch_pipeline.rows import LoadFolder, replacing
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.source_columns import GOLDEN, KEY, ROW
from batch_pipeline.workload.data_file import literal
from batch_pipeline.workload.prompt import Prompt

_ROWS_AT_A_TIME = 5_000
# The types of which DuckDB's text is Python's to the letter: of others a number or a date would be written
# in another way than the prompt writes it, and two prompts that differ might not differ here.
_WRITTEN_ALIKE = {"VARCHAR", "TINYINT", "SMALLINT", "INTEGER", "BIGINT"}

# pyarrow ships no types.
arrow: Any = pa
parquet: Any = pq

_SCHEMA = arrow.schema(
    [("row", arrow.int64()), ("key", arrow.string()), ("digest", arrow.binary())]
)


def prompt_digests(
    connection: duckdb.DuckDBPyConnection, folder: LoadFolder, prompt: Prompt
) -> Path:
    """The load's prompts.parquet, made now where it is missing: row, key and digest of each source row.

    The digest is the sha256 of the prompt as it is sent; null where it cannot be rendered. Digests of two
    loads can be compared where their fingerprints are equal.
    """
    if folder.prompts.is_file():
        return folder.prompts
    text = _in_sql(connection, folder.source, prompt)
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
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load, tier: int
) -> int:
    """Makes the table `passengers`: row, `of` (the row that carries it), attempt, sending.

    Of the rows that are due at `tier` with the same prompt, the first carries the others. Rows that were
    never sent and are withheld for now travel with it, too: that costs nothing. Returns how many requests
    the tier takes: those rows of `states` that are due there and that no other carries.
    """
    if context.workload.spec.dedupe:
        digests = prompt_digests(connection, context.folder(record), context.workload.prompt)
        _pair_up(connection, tier, digests)
    else:
        connection.execute(
            'CREATE OR REPLACE TABLE passengers (row BIGINT, "of" BIGINT, attempt INTEGER, sending INTEGER)'
        )
    (requests,) = connection.execute(
        "SELECT count(*) FROM states ANTI JOIN passengers USING (row) WHERE next_tier = ?", [tier]
    ).fetchall()[0]
    return int(requests)


def _pair_up(connection: duckdb.DuckDBPyConnection, tier: int, digests: Path) -> None:
    # Not a temporary table: those of one cursor are not seen by another, and rows are streamed meanwhile.
    connection.execute(
        """
        CREATE OR REPLACE TABLE passengers AS
        WITH wanted AS (
            SELECT row, digest, next_tier IS NOT NULL AS due, coalesce(next_attempt, 1) AS attempt,
                   CAST(coalesce(sending, 0) + 1 AS INTEGER) AS sending
            FROM states JOIN (SELECT row, digest FROM read_parquet($digests)) USING (row)
            WHERE NOT golden AND digest IS NOT NULL AND coalesce(
                next_tier = $tier, $tier = 0 AND sending IS NULL AND disposition IS NULL)
        ), carriers AS (
            SELECT digest, min(row) FILTER (due) AS "of" FROM wanted
            GROUP BY digest HAVING count(*) > 1 AND bool_or(due)
        )
        SELECT row, "of", attempt, sending FROM wanted JOIN carriers USING (digest) WHERE row <> "of"
        """,
        {"digests": str(digests), "tier": tier},
    )


def with_passengers(connection: duckdb.DuckDBPyConnection, carriers: Any) -> Any:
    """`carriers`, an Arrow table of sent rows, followed by a line for each of their passengers.

    It has the columns row, attempt, sending and `of` (null); all others a passenger shares.
    """
    with connection.cursor() as cursor:
        cursor.register("carriers", carriers)
        passengers = cursor.sql(
            'SELECT c.* REPLACE (p.row AS row, p.attempt AS attempt, p.sending AS sending, p."of" AS "of") '
            'FROM passengers AS p JOIN carriers AS c ON c.row = p."of" ORDER BY p."of", p.row'
        ).to_arrow_table()
    return arrow.concat_tables([carriers, passengers.cast(carriers.schema)])


def _in_sql(connection: duckdb.DuckDBPyConnection, source: Path, prompt: Prompt) -> str | None:
    """The user message as SQL over the source, or None where SQL might write it otherwise than the prompt."""
    # DuckDB's parser ends at a null character.
    if prompt.parts is None or prompt.system_columns or "\0" in prompt.user:
        return None
    described = connection.execute("DESCRIBE FROM read_parquet(?)", [str(source)]).fetchall()
    types = {name: kind for name, kind, *_ in described}
    if any(types.get(column) not in _WRITTEN_ALIKE for column in prompt.columns):
        return None
    pieces = [
        literal(text) if column is None else f"coalesce(CAST({quoted(column)} AS VARCHAR), '')"
        for text, column in prompt.parts
    ]
    return " || ".join(pieces)


def _rendered(connection: duckdb.DuckDBPyConnection, source: Path, prompt: Prompt) -> Iterator[Any]:
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
