"""The golden rows as a bake-off asks them: in a file of their own, with the right answers in another.

A row's columns have the source's types and its key is the one that every load gives it, so that prompts are the
same to the letter and a recorded baseline can be compared with.
"""

from dataclasses import dataclass
from pathlib import Path

import duckdb

from batch_pipeline.rows import replacing
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.golden_file import GOLDEN_ROWS, expected_columns
from batch_pipeline.stages.source import ROW
from batch_pipeline.stages.source_check import open_source
from batch_pipeline.workload.data_file import literal
from batch_pipeline.workload.workload import Workload

_ROWS, _ANSWERS = "_bakeoff_rows", "_bakeoff_answers"


@dataclass(frozen=True)
class GoldenRows:
    """The tables of an opened golden set: how many rows, a digest of all that is in them, and the key's column."""

    rows: int
    digest: str
    key: str


def open_golden_rows(
    connection: duckdb.DuckDBPyConnection, workload: Workload, day: str
) -> GoldenRows:
    """Reads the golden file as a load of that day would. Raises ConfigurationError as `open_source`."""
    source = open_source(workload, day, connection, only_keys=True)
    present = [
        row[0] for row in connection.execute(f"DESCRIBE {GOLDEN_ROWS}").fetchall() if row[0] != ROW
    ]
    answers = [name for name in expected_columns(workload) if name in present]
    key = _free_name(source.columns)
    named = f"CAST(g.{quoted(source.key)} AS VARCHAR)" if source.key in present else "NULL"
    cells = ", ".join(
        f"TRY_CAST(g.{quoted(name)} AS {kind}) AS {quoted(name)}"
        if name in present and name not in answers
        else f"CAST(NULL AS {kind}) AS {quoted(name)}"
        for name, kind in source.columns.items()
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_ROWS} AS SELECT "
        f"coalesce({named}, 'golden-' || g.{ROW}) AS {key}, {cells} FROM {GOLDEN_ROWS} AS g ORDER BY g.{ROW}"
    )
    expected = ", ".join(f"g.{quoted(name)}" for name in answers)
    connection.execute(
        f"CREATE OR REPLACE TEMP TABLE {_ANSWERS} AS SELECT "
        f"coalesce({named}, 'golden-' || g.{ROW}) AS _key, {expected} FROM {GOLDEN_ROWS} AS g ORDER BY g.{ROW}"
    )
    rows, digest = connection.execute(
        "SELECT count(*), bit_xor(md5_number(CAST(to_json([to_json(r), to_json(a)]) AS VARCHAR))) "
        f"FROM {_ROWS} AS r JOIN {_ANSWERS} AS a ON a._key = r.{key}"
    ).fetchall()[0]
    return GoldenRows(int(rows), f"{digest:032x}", key)


def write_golden_rows(connection: duckdb.DuckDBPyConnection, rows: Path, answers: Path) -> None:
    """Writes the tables that `open_golden_rows` made; what builds requests reads the first file alone."""
    for table, path in ((_ROWS, rows), (_ANSWERS, answers)):
        with replacing(path) as temporary:
            connection.execute(f"COPY (FROM {table}) TO {literal(str(temporary))} (FORMAT parquet)")


def _free_name(columns: dict[str, str]) -> str:
    taken = {name.casefold() for name in columns}
    name = "golden_key"
    while name in taken:
        name += "_"
    return name
