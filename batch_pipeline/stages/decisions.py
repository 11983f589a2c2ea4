"""What reviewers decided of a load's rows: one Parquet file beside them, replaced as a whole.

Columns: row; decision (accept, fix or drop); fields, the answer in the contract's types (null when dropped); kept,
the fields in which it is the model's own; note; reviewer; decided_at (UTC).
"""

import duckdb

from batch_pipeline.ledger import Load
from batch_pipeline.rows import LoadFolder
from batch_pipeline.rows.query import quoted, read_parquets
from batch_pipeline.workload.contract import Contract

# What stands in a promoted row's `_model` when a person answered.
HUMAN = "human"
# Between the fingerprint of a load's rows and that of the people's answers among them.
_MARK = "-h"


def decisions(folder: LoadFolder, contract: Contract) -> str:
    """SQL that reads the load's decisions; an empty relation where there are none."""
    struct = ", ".join(f"{quoted(f.name)} {contract.duckdb_type(f)}" for f in contract.fields)
    columns = {
        "row": "BIGINT",
        "decision": "VARCHAR",
        "fields": f"STRUCT({struct})",
        "kept": "VARCHAR[]",
        "note": "VARCHAR",
        "reviewer": "VARCHAR",
        "decided_at": "TIMESTAMP",
    }
    return read_parquets([str(folder.decisions)] if folder.decisions.is_file() else [], columns)


def human_answers(folder: LoadFolder, contract: Contract) -> str:
    """SQL that reads the rows that a person answered, and may be promoted: row and fields."""
    return f"(SELECT row, fields FROM {decisions(folder, contract)} WHERE decision <> 'drop')"


def fingerprint_of_people(connection: duckdb.DuckDBPyConnection, folder: LoadFolder) -> str:
    """Names the exact answers of people, to follow the fingerprint of a load's rows; '' where there are none."""
    if not folder.decisions.is_file():
        return ""
    rows, digest = connection.execute(
        "SELECT count(*), bit_xor(md5_number(concat_ws('|', row, to_json(fields)))) "
        "FROM read_parquet(?) WHERE decision <> 'drop'",
        [str(folder.decisions)],
    ).fetchall()[0]
    return f"{_MARK}{(digest or 0) & 0xFFFFFFFFFFFF:012x}" if rows else ""


def promoted_as_decided(
    connection: duckdb.DuckDBPyConnection, record: Load, folder: LoadFolder
) -> bool:
    """Whether what the load promoted holds the answers of people as they are decided now."""
    _, mark, people = (record.promoted_fingerprint or "").partition(_MARK)
    return f"{mark}{people}" == fingerprint_of_people(connection, folder)
