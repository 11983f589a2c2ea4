"""The queue: the source rows of a settled load that no model could answer, each with an id of its own.

A review id names the workload, the load, its generation and the row, and ends with a checksum over the chunk that
the row was last sent in. So a file of another load, of an earlier sending or of another state is told apart.
"""

import re
from dataclasses import dataclass

import duckdb

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.rows.folder import present
from batch_pipeline.rows.query import read_parquets
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.states import live_chunks
from batch_pipeline.workload.data_file import literal

_REVIEW_ID = re.compile(
    r"([a-z][a-z0-9_]{0,62})\.([0-9]{4}-[0-9]{2}-[0-9]{2})\.g([0-9]{1,9})\.[0-9]{1,18}\.[0-9a-f]{12}"
)


@dataclass(frozen=True)
class LoadName:
    """The load that a review id is of."""

    workload: str
    load: str
    generation: int

    def __str__(self) -> str:
        return f"{self.workload} {self.load} (generation {self.generation})"


def load_of(review_id: str) -> LoadName | None:
    """The load that `review_id` names, or None where it is no such id."""
    found = _REVIEW_ID.fullmatch(review_id)
    return LoadName(found[1], found[2], int(found[3])) if found else None


def require_reviewable(context: LoadContext, record: Load) -> None:
    """Raises ConfigurationError where the load has no queue that people could decide on now."""
    if record.phase is not Phase.SETTLED:
        raise ConfigurationError(
            f"{context} is not finished: its review queue is complete when every row has its disposition; "
            f"call `batch-pipeline run {record.workload} --date {record.load}` first."
        )
    if context.workload.fingerprint() != record.fingerprint:
        raise ConfigurationError(
            f"{context}: the key, the prompt, the output contract or the tiers changed since this load was "
            "begun, so what is decided would not fit its answers; restore them, or send the load again with "
            "--resend."
        )


def open_queue(connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load) -> int:
    """Makes two temporary relations, and returns how many rows the queue has.

    `queue`: row, review_id, key, reason, tier and chunk_id of every row in human review, golden ones left out.
    `last_answers`: row and answer, the text of the model's last answer (null where there was none).
    """
    folder = context.folder(record)
    name = literal(f"{record.workload}.{record.load}.g{record.generation}.")
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE queue AS
        SELECT row, {name} || row || '.' || left(sha256(concat_ws('|', {name}, row, key, chunk_id)), 12)
                   AS review_id, key, reason, tier, chunk_id
        FROM read_parquet(?) WHERE NOT golden AND disposition = 'human_review'
        """,
        [str(folder.dispositions)],
    )
    results = read_parquets(
        present(folder.results(c.chunk_id) for c in live_chunks(context.ledger.chunks(record))),
        {"row": "BIGINT", "chunk_id": "VARCHAR", "answer": "VARCHAR"},
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW last_answers AS SELECT q.row, r.answer FROM queue AS q "
        f"JOIN {results} AS r ON r.row = q.row AND r.chunk_id = q.chunk_id"
    )
    return int(connection.execute("SELECT count(*) FROM queue").fetchall()[0][0])
