"""Why the API refused requests, in its own words, where those can be shown."""

import duckdb

from batch_pipeline.errors import printable
from batch_pipeline.ledger import Load
from batch_pipeline.rows.folder import present
from batch_pipeline.rows.query import read_parquets
from batch_pipeline.stages.context import LoadContext

_MOST = 200  # characters


def said_of_several(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load
) -> str | None:
    """The API's reason for most of a load's refusals. One that it gave to several rows quotes none of them."""
    folder = context.folder(record)
    results = read_parquets(
        present(folder.results(chunk.chunk_id) for chunk in context.ledger.chunks(record)),
        {"row": "BIGINT", "error_type": "VARCHAR", "error_message": "VARCHAR"},
    )
    found = connection.execute(
        f"SELECT error_message FROM {results} WHERE error_type = 'invalid_request_error' "
        "AND error_message IS NOT NULL GROUP BY ALL HAVING count(DISTINCT row) > 1 "
        "ORDER BY count(*) DESC, error_message LIMIT 1"
    ).fetchall()
    return printable(found[0][0])[:_MOST].rstrip(".") if found else None
