"""Results files in which nothing is amiss, read by DuckDB as a whole: several times as fast as line by line.

It never judges a file: one with a line too many, too few, or unlike the others is left to `decode`.
"""

from pathlib import Path

import duckdb

from batch_pipeline.claude.decode import RESULT_TYPES, Defects, Reading
from batch_pipeline.rows import Place

# Of a line; DuckDB holds some of this size per thread. Longer ones are read line by line.
_MOST_LINE_BYTES = 1 << 22

# What a passenger's line has none of: they are paid once.
_TOKENS = ", ".join(
    f"CASE WHEN s.shared THEN 0 ELSE {sql} END AS {name}"
    for name, sql in {
        "input_tokens": "coalesce(l.usage.input_tokens, 0)",
        # Without the breakdown by lifetime a write is a 5-minute one, the API's default.
        "cache_write_5m_tokens": "greatest(l.written - l.hour, 0)",
        "cache_write_1h_tokens": "l.hour",
        "cache_read_tokens": "coalesce(l.usage.cache_read_input_tokens, 0)",
        "output_tokens": "coalesce(l.usage.output_tokens, 0)",
    }.items()
)
# A line of a row that was not sent keeps its place, without a row: what is there too much must show.
_COPY = """
    COPY (
        WITH lines AS (
            SELECT custom_id, result.type AS result, result.message AS message, result.error.error AS error,
                   result.message.usage AS usage, coalesce(result.message.usage.cache_creation_input_tokens, 0) AS written,
                   coalesce(result.message.usage.cache_creation.ephemeral_1h_input_tokens, 0) AS hour
            FROM read_ndjson({raw}, columns = {line}, maximum_object_size = {most})
        )
        SELECT s.row, CASE WHEN s.row IS NOT NULL THEN $chunk_id END AS chunk_id, s.tier, s.attempt, s.sending, l.result,
               l.message.stop_reason AS stop_reason, l.error.type AS error_type, l.error.message AS error_message,
               CASE WHEN l.message.content IS NULL THEN NULL
                    WHEN len(l.message.content) = 1 AND l.message.content[1].type = 'text'
                    THEN coalesce(l.message.content[1].text, '')
                    ELSE coalesce(array_to_string([part.text FOR part IN l.message.content
                         IF part.type = 'text' AND part.text IS NOT NULL], ''), '')
               END AS answer,
               l.message.model AS model, l.message.id AS message_id,
               {tokens},
               l.usage.service_tier AS service_tier, l.usage.inference_geo AS inference_geo,
               coalesce(s.shared, false) AS shared
        FROM lines AS l LEFT JOIN sendings AS s ON l.custom_id = $token || '-' || s.carrier
    ) TO {to} (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 50000)"""

_LINE = """{custom_id: 'VARCHAR', result: 'STRUCT(type VARCHAR,
    error STRUCT(error STRUCT(type VARCHAR, message VARCHAR)),
    message STRUCT(id VARCHAR, model VARCHAR, stop_reason VARCHAR, content STRUCT(type VARCHAR, text VARCHAR)[],
        usage STRUCT(input_tokens BIGINT, output_tokens BIGINT, cache_creation_input_tokens BIGINT,
            cache_read_input_tokens BIGINT, cache_creation STRUCT(ephemeral_1h_input_tokens BIGINT),
            service_tier VARCHAR, inference_geo VARCHAR)))'}"""


def read_whole_results(
    connection: duckdb.DuckDBPyConnection,
    raw: Path,
    sent: Place,
    to: Path,
    *,
    token: str,
    chunk_id: str,
    counts: dict[str, int] | None,
) -> Reading | None:
    """As `decode.read_results`, or None where the file is not complete in every way; `to` is not valid then.

    Args:
        connection: need not keep rows in order.
        raw: JSON lines as downloaded.
        sent: Parquet of row, tier, attempt, sending; and `of`, the row that carries it, else null.
        to: the file to write.
        token: the chunk's; every custom_id must be `<token>-<row>`.
        chunk_id: stored with every row.
        counts: the batch's own numbers by result type, or None where it gave none.
    """
    try:
        requests, passengers = _sendings(connection, sent)
        connection.execute(
            _COPY.format(
                to=_literal(to),
                raw=_literal(raw),
                line=_LINE,
                most=_MOST_LINE_BYTES,
                tokens=_TOKENS,
            ),
            {"token": token, "chunk_id": chunk_id},
        )
        found = connection.execute(
            "SELECT coalesce(result, ''), count(*) FILTER (NOT shared), count(DISTINCT row), "
            "count(*) FILTER (row IS NULL OR least(input_tokens, cache_write_5m_tokens, "
            "cache_write_1h_tokens, cache_read_tokens, output_tokens) < 0) "
            "FROM read_parquet(?) GROUP BY ALL",
            [str(to)],
        ).fetchall()
    except (
        duckdb.InvalidInputException,
        duckdb.ConversionException,
        duckdb.OutOfMemoryException,
    ):
        # A line that is no JSON, too long, or of other types; or lines so long that they need too much memory.
        return None
    results = {result: n for result, n, _, _ in found}
    complete = (
        set(results) <= set(RESULT_TYPES)
        and sum(results.values()) == requests
        # Each row once: none twice, and no passenger without its carrier.
        and sum(distinct for _, _, distinct, _ in found) == requests + passengers
        and not any(odd for *_, odd in found)
    )
    miscounted = counts is not None and any(
        counts.get(kind, 0) != results.get(kind, 0) for kind in RESULT_TYPES
    )
    return Reading(results, Defects()) if complete and not miscounted else None


def _sendings(connection: duckdb.DuckDBPyConnection, sent: Place) -> tuple[int, int]:
    """Makes the table `sendings` with the custom_id that answers each row; how many requests and passengers."""
    described = connection.execute("DESCRIBE FROM read_parquet(?)", [str(sent)]).fetchall()
    of = '"of"' if "of" in {name for name, *_ in described} else "NULL"
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE sendings AS SELECT row, CAST(tier AS INTEGER) AS tier, CAST(attempt AS INTEGER) AS attempt, CAST(sending AS INTEGER) AS sending, {of} IS NOT NULL AS shared, "
        f"coalesce({of}, row) AS carrier FROM read_parquet(?)",
        [str(sent)],
    )
    found = connection.execute(
        "SELECT count(*) FILTER (NOT shared), count(*) FILTER (shared) FROM sendings"
    ).fetchall()
    return found[0]


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
