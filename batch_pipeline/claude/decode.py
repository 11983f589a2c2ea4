"""Result files, read by DuckDB: one row per request sent, whatever the API's lines are like."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import duckdb

_RESULT_TYPES = ("succeeded", "errored", "canceled", "expired")


@dataclass(frozen=True)
class Defects:
    """What does not add up between a batch's results and what was sent. All zero when complete."""

    unparseable: int = 0
    foreign: int = 0
    duplicate: int = 0
    absent: int = 0
    miscounted: int = 0  # sum of differences, by result type, from the batch's own counts

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    @property
    def harm(self) -> int:
        """Rows whose answer is not there: of several downloads, the one with the least is kept."""
        return self.absent

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Defects":
        return cls(**json.loads(text))

    def __str__(self) -> str:
        words = {
            "unparseable": "unreadable lines",
            "foreign": "lines with a foreign custom_id",
            "duplicate": "duplicate lines",
            "absent": "rows absent",
            "miscounted": "lines off the batch's own counts",
        }
        return ", ".join(f"{n} {words[k]}" for k, n in asdict(self).items() if n) or "none"


def read_results(
    connection: duckdb.DuckDBPyConnection,
    raw: Path,
    sent: Path,
    *,
    token: str,
    chunk_id: str,
    counts: dict[str, int] | None,
) -> Defects:
    """Parses a results file into the temporary table `results`, one line per row of `sent`.

    A row without a line gets the result `absent`. The line is read as text first, so that a broken one
    costs itself only (and one of more than 64 MB is passed over); duplicates keep their first line.

    Args:
        connection: where `results` is made.
        raw: JSON lines as downloaded, valid UTF-8.
        sent: Parquet of row, tier, attempt, sending.
        token: the chunk's; every custom_id must be `<token>-<row>`.
        chunk_id: stored with every row.
        counts: the batch's own numbers by result type, or None where it gave none.
    """
    connection.execute(
        r"""
        CREATE OR REPLACE TEMP TABLE lines AS
        SELECT line, row_number() OVER () AS line_number, json_valid(line) AS readable
        FROM read_csv(?, columns = {'line': 'VARCHAR'}, auto_detect = false, header = false,
                      delim = e'\x01', quote = '', escape = '', comment = '', new_line = '\n',
                      max_line_size = 67108864, buffer_size = 134217728, strict_mode = false,
                      ignore_errors = true)
        WHERE line IS NOT NULL AND trim(line) <> ''
        """,
        [str(raw)],
    )
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE parsed AS
        WITH identified AS (
            SELECT line_number,
                   CASE WHEN json_type(line, '$.custom_id') = 'VARCHAR'
                        THEN line ->> '$.custom_id' END AS custom_id,
                   line -> '$.result' AS result,
                   line -> '$.result.message' AS message
            FROM lines WHERE readable
        )
        SELECT line_number,
               -- A row's number is taken from its own custom_id; anything that is not ours gives NULL.
               CASE WHEN starts_with(custom_id, $prefix)
                     AND regexp_full_match(substr(custom_id, $start), '0|[1-9][0-9]*')
                    THEN try_cast(substr(custom_id, $start) AS BIGINT) END AS row,
               coalesce(result ->> '$.type', 'unknown') AS result,
               message ->> '$.stop_reason' AS stop_reason,
               result ->> '$.error.error.type' AS error_type,
               result ->> '$.error.error.message' AS error_message,
               CASE WHEN json_type(message, '$.content') = 'ARRAY' THEN array_to_string(
                   [block ->> '$.text' FOR block IN CAST(message -> '$.content' AS JSON[])
                    IF block ->> '$.type' = 'text'], '') END AS answer,
               message ->> '$.model' AS model,
               message ->> '$.id' AS message_id,
               coalesce(try_cast(message ->> '$.usage.input_tokens' AS BIGINT), 0) AS input_tokens,
               coalesce(try_cast(message ->> '$.usage.cache_creation_input_tokens' AS BIGINT), 0)
                   AS cache_write_tokens,
               coalesce(try_cast(
                   message ->> '$.usage.cache_creation.ephemeral_1h_input_tokens' AS BIGINT), 0)
                   AS cache_write_1h_tokens,
               coalesce(try_cast(message ->> '$.usage.cache_read_input_tokens' AS BIGINT), 0)
                   AS cache_read_tokens,
               coalesce(try_cast(message ->> '$.usage.output_tokens' AS BIGINT), 0) AS output_tokens,
               message ->> '$.usage.service_tier' AS service_tier,
               message ->> '$.usage.inference_geo' AS inference_geo
        FROM identified
        """,
        {"prefix": f"{token}-", "start": len(token) + 2},
    )
    connection.execute(
        """
        CREATE OR REPLACE TEMP TABLE results AS
        WITH first_lines AS (
            SELECT * FROM parsed WHERE row IS NOT NULL
            QUALIFY row_number() OVER (PARTITION BY row ORDER BY line_number) = 1
        )
        SELECT sent.row, $chunk_id AS chunk_id, sent.tier, sent.attempt, sent.sending,
               coalesce(l.result, 'absent') AS result,
               l.stop_reason, l.error_type, l.error_message, l.answer, l.model, l.message_id,
               coalesce(l.input_tokens, 0) AS input_tokens,
               -- Without the breakdown by lifetime a write is a 5-minute one, the API's default.
               greatest(coalesce(l.cache_write_tokens - l.cache_write_1h_tokens, 0), 0)
                   AS cache_write_5m_tokens,
               coalesce(l.cache_write_1h_tokens, 0) AS cache_write_1h_tokens,
               coalesce(l.cache_read_tokens, 0) AS cache_read_tokens,
               coalesce(l.output_tokens, 0) AS output_tokens,
               l.service_tier, l.inference_geo
        FROM read_parquet($sent) AS sent LEFT JOIN first_lines AS l USING (row)
        ORDER BY sent.row
        """,
        {"chunk_id": chunk_id, "sent": str(sent)},
    )
    return _defects(connection, sent, counts)


def mark_gone(
    connection: duckdb.DuckDBPyConnection, sent: Path, empty: Path, *, token: str, chunk_id: str
) -> None:
    """Makes `results` for a batch whose results the API no longer has: every row is `gone`."""
    empty.write_bytes(b"")
    read_results(connection, empty, sent, token=token, chunk_id=chunk_id, counts=None)
    connection.execute("UPDATE results SET result = 'gone'")


def _defects(
    connection: duckdb.DuckDBPyConnection, sent: Path, counts: dict[str, int] | None
) -> Defects:
    unparseable, foreign, duplicate = _row(
        connection.execute(
            """
            WITH ours AS (SELECT row FROM read_parquet($sent)),
                 known AS (SELECT count(*) AS n, count(DISTINCT row) AS rows
                           FROM parsed SEMI JOIN ours USING (row))
            SELECT (SELECT count(*) FROM lines WHERE NOT readable),
                   (SELECT count(*) FROM parsed) - (SELECT n FROM known),
                   (SELECT n - rows FROM known)
            """,
            {"sent": str(sent)},
        )
    )
    (absent,) = _row(connection.execute("SELECT count(*) FROM results WHERE result = 'absent'"))
    miscounted = 0
    if counts is not None:
        seen = dict(
            connection.execute("SELECT result, count(*) FROM results GROUP BY result").fetchall()
        )
        miscounted = sum(abs(counts.get(kind, 0) - seen.get(kind, 0)) for kind in _RESULT_TYPES)
    return Defects(
        unparseable=unparseable,
        foreign=foreign,
        duplicate=duplicate,
        absent=absent,
        miscounted=miscounted,
    )


def _row(cursor: duckdb.DuckDBPyConnection) -> tuple[int, ...]:
    row = cursor.fetchone()
    assert row is not None
    return row
