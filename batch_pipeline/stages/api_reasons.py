"""Why the API refused requests, in its own words, where those can be shown."""

import duckdb

from batch_pipeline.errors import printable
from batch_pipeline.ledger import Load
from batch_pipeline.rows.folder import present
from batch_pipeline.rows.query import quoted, read_parquets
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.source_columns import ROW
from batch_pipeline.workload.data_file import literal

_MOST = 200  # characters


def said_of_several(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load
) -> str | None:
    """The commonest of the API's reasons for a load's refusals that can be shown; None where none can.

    A reason may quote a row. One that rows got which differ in every column that the prompt reads quotes no
    value of any of them. Of a workload that is declared sensitive none is shown.
    """
    workload = context.workload
    if workload.spec.sensitive:
        return None
    folder = context.folder(record)
    results = read_parquets(
        present(folder.results(chunk.chunk_id) for chunk in context.ledger.chunks(record)),
        {"row": "BIGINT", "error_type": "VARCHAR", "error_message": "VARCHAR"},
    )
    # As texts, as a prompt holds them; a null is no value of its own. Least and greatest, not a set of all.
    differ = " AND ".join(
        f"min(s.{column}::VARCHAR) <> max(s.{column}::VARCHAR)"
        for column in map(quoted, workload.prompt.columns)
    )
    found = connection.execute(
        f"SELECT r.error_message FROM {results} AS r "
        f"JOIN read_parquet({literal(str(folder.source))}) AS s ON s.{ROW} = r.row "
        "WHERE r.error_type = 'invalid_request_error' AND r.error_message IS NOT NULL "
        f"GROUP BY r.error_message HAVING {differ} ORDER BY count(*) DESC, r.error_message LIMIT 1"
    ).fetchall()
    return printable(found[0][0])[:_MOST].rstrip(".") if found else None
