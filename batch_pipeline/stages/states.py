"""Where every row of a load stands, derived by SQL from its files: what was sent, what the verdicts say.

The policy of what becomes of a row is the table below; nothing else in the project decides it.
"""

from enum import StrEnum
from pathlib import Path

import duckdb

from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Chunk, ChunkState, Load
from batch_pipeline.rows import LoadFolder
from batch_pipeline.rows.folder import present
from batch_pipeline.rows.query import read_parquets
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.source import GOLDEN, KEY, ROW


class Policy(StrEnum):
    """What an outcome asks for. Climb and again end in a disposition when tiers or attempts run out."""

    ACCEPT = "accept"
    CLIMB = "climb"
    AGAIN = "again"
    GIVE_UP = "give_up"


POLICY: dict[str, Policy] = {
    "valid": Policy.ACCEPT,
    "contract_broken": Policy.CLIMB,
    "refusal": Policy.CLIMB,
    "truncated": Policy.CLIMB,
    # Sending the same request again cannot help.
    "invalid_request": Policy.GIVE_UP,
    "unsendable": Policy.GIVE_UP,
    "errored": Policy.AGAIN,
    "expired": Policy.AGAIN,
    "canceled": Policy.AGAIN,
    "absent": Policy.AGAIN,
    # Paid for and deleted: only a person may decide to pay again.
    "results_gone": Policy.GIVE_UP,
}

_LIVE = (ChunkState.INTENT, ChunkState.SUBMITTED, ChunkState.UNSENDABLE, ChunkState.REUSED)
_SENT = {
    "row": "BIGINT",
    "tier": "INTEGER",
    "attempt": "INTEGER",
    "sending": "INTEGER",
    "chunk_id": "VARCHAR",
}
_VERDICTS = {"row": "BIGINT", "chunk_id": "VARCHAR", "outcome": "VARCHAR", "reason": "VARCHAR"}


def live_chunks(chunks: list[Chunk]) -> list[Chunk]:
    """Those whose rows count as sent: accepted by the API, not known not to be, or answered before."""
    return [chunk for chunk in chunks if chunk.state in _LIVE]


def _sent_files(folder: LoadFolder, live: list[Chunk]) -> list[str]:
    # A row that is in none of them is due: one that is lost would have its rows paid for twice.
    paths = [folder.sent(chunk.chunk_id) for chunk in live]
    there = present(paths)
    for path in paths:
        if len(there) < len(paths) and str(path) not in there:
            kept = "of the state folder" if isinstance(path, Path) else "of its bucket"
            raise PipelineError(
                f"{path} is missing: it says which rows a batch carries, and without it they would be "
                f"sent and paid for again; restore it from a backup {kept}."
            )
    return there


def derive_states(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load
) -> None:
    """Makes the temporary table `states`, one line per row of the load, golden rows included.

    Columns: row, golden, key; tier, attempt, sending, chunk_id, outcome, reason of its last sending
    (null before the first); top_tier, the highest it was sent to; disposition and disposition_reason,
    null while it is open; next_tier and next_attempt where it must be sent (again), else null.
    """
    folder = context.folder(record)
    live = live_chunks(context.ledger.chunks(record))
    spec = context.workload.spec
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE policy (outcome VARCHAR PRIMARY KEY, policy VARCHAR)"
    )
    connection.executemany(
        "INSERT INTO policy VALUES (?, ?)", [(k, v.value) for k, v in POLICY.items()]
    )
    sent = read_parquets(_sent_files(folder, live), _SENT)
    verdicts = read_parquets(present(folder.verdicts(chunk.chunk_id) for chunk in live), _VERDICTS)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE states AS
        WITH last_sendings AS (
            SELECT row, max(tier) AS top_tier, max(sending) AS sending,
                   arg_max(tier, sending) AS tier, arg_max(attempt, sending) AS attempt,
                   arg_max(chunk_id, sending) AS chunk_id
            FROM {sent} GROUP BY row
        ),
        judged AS (
            SELECT s.{ROW} AS row, s.{GOLDEN} AS golden, s.{KEY} AS key,
                   l.tier, l.attempt, l.sending, l.top_tier, l.chunk_id, v.outcome, v.reason,
                   CASE WHEN v.outcome IS NOT NULL THEN coalesce(p.policy, 'again') END AS policy,
                   coalesce(v.reason = 'errored:interrupted', false) AS interrupted
            FROM read_parquet($source) AS s
            LEFT JOIN last_sendings AS l ON l.row = s.{ROW}
            LEFT JOIN {verdicts} AS v ON v.row = l.row AND v.chunk_id = l.chunk_id
            LEFT JOIN policy AS p ON p.outcome = v.outcome
        ),
        decided AS (
            SELECT *,
                   CASE WHEN policy = 'accept' THEN 'validated'
                        WHEN policy = 'climb' AND tier + 1 >= $tiers THEN 'human_review'
                        WHEN policy = 'give_up' THEN 'quarantined'
                        WHEN policy = 'again' AND attempt >= $attempts AND NOT interrupted THEN 'quarantined'
                   END AS decided
            FROM judged
        ),
        closed AS (
            -- Nothing is sent any more for a cancelled load: what would be due is closed.
            SELECT * EXCLUDE (decided),
                   decided IS NULL AND $cancelled AND (sending IS NULL OR policy IS NOT NULL) AS cut_off,
                   CASE WHEN cut_off THEN 'quarantined' ELSE decided END AS disposition
            FROM decided
        )
        SELECT * EXCLUDE (policy, cut_off, interrupted),
               CASE WHEN cut_off THEN 'load_cancelled'
                    WHEN disposition <> 'validated' THEN coalesce(reason, outcome) END
                   AS disposition_reason,
               CAST(CASE WHEN disposition IS NOT NULL THEN NULL
                    WHEN sending IS NULL THEN 0
                    WHEN policy = 'climb' THEN tier + 1
                    WHEN policy = 'again' THEN tier
               END AS INTEGER) AS next_tier,
               CAST(CASE WHEN disposition IS NOT NULL THEN NULL
                    WHEN sending IS NULL OR policy = 'climb' THEN 1
                    -- That a process of ours ended is no fault of the API's, and uses up none of its attempts.
                    WHEN policy = 'again' THEN attempt + CASE WHEN interrupted THEN 0 ELSE 1 END
               END AS INTEGER) AS next_attempt
        FROM closed
        """,
        {
            "source": str(folder.source),
            "tiers": len(spec.tiers),
            "attempts": spec.limits.attempts,
            "cancelled": record.cancelled,
        },
    )
