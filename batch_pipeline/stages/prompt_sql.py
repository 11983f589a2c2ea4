"""A prompt's user message as SQL, where SQL writes it as the prompt does to the letter."""

import duckdb

from batch_pipeline.rows import Place
from batch_pipeline.rows.query import quoted
from batch_pipeline.workload.data_file import literal
from batch_pipeline.workload.prompt import Prompt

# The types of which DuckDB's text is Python's to the letter: of others a number or a date would be written
# in another way than the prompt writes it.
_WRITTEN_ALIKE = {"VARCHAR", "TINYINT", "SMALLINT", "INTEGER", "BIGINT"}


def user_message_in_sql(
    connection: duckdb.DuckDBPyConnection, source: Place, prompt: Prompt
) -> str | None:
    """The user message as SQL over the rows of `source`, or None where SQL might write it otherwise."""
    # DuckDB's parser ends at a null character.
    if prompt.parts is None or "\0" in prompt.user:
        return None
    described = connection.execute("DESCRIBE FROM read_parquet(?)", [str(source)]).fetchall()
    types = {name: kind for name, kind, *_ in described}
    named = {column for _, column in prompt.parts if column is not None}
    if any(types.get(column) not in _WRITTEN_ALIKE for column in named):
        return None
    pieces = [
        literal(text) if column is None else f"coalesce(CAST({quoted(column)} AS VARCHAR), '')"
        for text, column in prompt.parts
    ]
    return " || ".join(pieces)
