"""Writes a relation to a file that people open: CSV, harmless in a spreadsheet unless told otherwise, or Parquet.

A spreadsheet runs a cell of CSV that begins with = + - or @ as a formula, which may start programs or send the
sheet away; keys and answers are nobody's to trust. An apostrophe in front makes it text (OWASP, "CSV
Injection", which names these beginnings).
"""

import re
from dataclasses import dataclass
from pathlib import Path

import duckdb

from batch_pipeline.rows import replacing
from batch_pipeline.rows.query import quoted
from batch_pipeline.state_folder import hand_over
from batch_pipeline.workload.data_file import literal

FORMATS = {".csv": "(FORMAT csv, HEADER)", ".parquet": "(FORMAT parquet, COMPRESSION zstd)"}

# Python and RE2 read both alike.
_BEGINNING = r"^[=+\-@\t\r]"
_NUMBER = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"


@dataclass(frozen=True)
class Written:
    """`rows` written, and `defused` cells (headers too) that were given an apostrophe."""

    rows: int
    defused: int


def write_file(
    connection: duckdb.DuckDBPyConnection, relation: str, path: Path, *, exact: bool
) -> Written:
    """Writes `relation` to `path`, whole or not at all, with the rights of the person's other files.

    Args:
        connection: where the relation is known.
        relation: what SQL can select from, in the order to be kept.
        path: ends in one of FORMATS; an existing file is replaced.
        exact: leave the cells of CSV as they are. Parquet always is exact.
    """
    csv = path.suffix == ".csv"
    columns = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    cells, dangers, headers = [], ["0"], 0
    for name, kind, *_ in columns:
        cell, header = quoted(name), name
        if csv and kind.endswith("[]"):
            # A list has no place of its own in CSV: it goes in as JSON, which can be read back.
            cell = f"to_json({cell})"
        if csv and not exact:
            if kind == "VARCHAR":
                danger = (
                    f"(regexp_matches({cell}, {literal(_BEGINNING)}) "
                    f"AND NOT regexp_matches({cell}, {literal(_NUMBER)}))"
                )
                dangers.append(f"count(*) FILTER ({danger})")
                cell = f"CASE WHEN {danger} THEN '''' || {cell} ELSE {cell} END"
            if re.match(_BEGINNING, name):
                header, headers = f"'{name}", headers + 1
        cells.append(f"{cell} AS {quoted(header)}")
    with replacing(path) as temporary:
        rows, defused = connection.execute(
            f"SELECT count(*), {' + '.join(dangers)} FROM {relation}"
        ).fetchall()[0]
        connection.execute(
            f"COPY (SELECT {', '.join(cells)} FROM {relation}) TO {literal(str(temporary))} "
            f"{FORMATS[path.suffix]}"
        )
        hand_over(temporary)
    return Written(int(rows), int(defused) + headers)
