"""Cuts the rows that are due into chunks, writes each body to disk, and has it sent."""

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.encode import ENVELOPE_BYTES, BodyFile
from batch_pipeline.ledger import Chunk, ChunkState, Load
from batch_pipeline.ledger.transactions import now
from batch_pipeline.rows import LoadFolder, replacing
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.due_rows import SENT, DueRows, Unsendable, sent_rows, write_sent
from batch_pipeline.stages.plan import LoadPlan
from batch_pipeline.stages.requests import tier_requests
from batch_pipeline.stages.same_prompts import with_passengers
from batch_pipeline.stages.send import check_room
from batch_pipeline.stages.uploads import Uploads

# Of a chunk's token, which its custom_ids begin with in hex.
_TOKEN_BYTES = 6


@dataclass
class SendSummary:
    """What one call sent: batches and requests by tier, rows that could not be sent, and what it has to say.

    `resolved` is what became of chunks whose answer was lost; `waits_for` is why rows that are due were
    left for later, None where none were; `pilot` is what the pilot showed, where it was judged now.
    """

    batches: int = 0
    requests: int = 0
    requests_by_tier: dict[int, int] = field(default_factory=dict)
    unsendable: int = 0
    resolved: list[str] = field(default_factory=list)
    waits_for: str | None = None
    pilot: str | None = None


def send_tier(
    context: LoadContext,
    record: Load,
    connection: duckdb.DuckDBPyConnection,
    wave: int,
    tier: int,
    due: int,
    api: BatchesApi,
    summary: SendSummary,
    on_batch: Callable[[SendSummary], None],
    *,
    plan: LoadPlan,
    pilot: bool = False,
) -> None:
    """Sends the rows that are due at one tier, chunk by chunk; of those that ask the same, the first.

    Args:
        context: the load.
        record: its record.
        connection: has the tables `states` and `passengers`.
        wave: its number.
        tier: its position.
        due: how many requests the tier takes.
        api: the client.
        summary: is added to.
        on_batch: called after each batch that the API accepted.
        plan: what the load follows.
        pilot: whether these are its pilot's rows.

    Raises SendingEndsError and PipelineError as `post_chunk`.
    """
    limits = context.workload.spec.limits
    requests = tier_requests(context.workload, tier, plan)
    folder = context.folder(record)
    rows = DueRows(
        connection,
        folder,
        tier,
        context.workload.prompt,
        requests,
        id_bytes=2 * _TOKEN_BYTES + 1,
        most_bytes=limits.max_bytes - ENVELOPE_BYTES,
    )

    def count(chunk: Chunk) -> None:
        summary.batches += 1
        summary.requests += chunk.requests
        summary.requests_by_tier[tier] = summary.requests_by_tier.get(tier, 0) + chunk.requests
        on_batch(summary)

    with Uploads(context, record, api, count) as uploads:
        while rows.more():
            check_room(context, record, due, api)
            chunk_id, token = uuid.uuid4().hex, secrets.token_hex(_TOKEN_BYTES)
            carried: list[Any] = []
            with replacing(folder.body(chunk_id)) as temporary, BodyFile(temporary) as body:
                while part := rows.take(
                    limits.max_requests - body.requests, body.room(limits.max_bytes)
                ):
                    joined = requests.template.requests(token, part.positions, part.varying)
                    body.add(joined, len(part))
                    carried.append(part.rows)
            sent = with_passengers(connection, sent_rows(carried, tier, chunk_id))
            write_sent(sent, folder.sent(chunk_id))
            due -= body.requests
            chunk = _chunk(
                context, record, chunk_id, token, wave, tier, ChunkState.INTENT, body, api.address
            )
            uploads.send(
                replace(
                    chunk, lane=plan.lane, pilot=pilot, bound_usd=plan.bound(tier, body.requests)
                )
            )
    if rows.unsendable.tables:
        summary.unsendable += _record_unsendable(
            context, record, connection, folder, wave, tier, rows.unsendable
        )


def _record_unsendable(
    context: LoadContext,
    record: Load,
    connection: duckdb.DuckDBPyConnection,
    folder: LoadFolder,
    wave: int,
    tier: int,
    unsendable: Unsendable,
) -> int:
    """Rows that make no request get their verdict at once; the ledger's record makes it count. How many they are."""
    chunk_id = uuid.uuid4().hex
    sent = with_passengers(connection, sent_rows(unsendable.tables, tier, chunk_id))
    write_sent(sent, folder.sent(chunk_id))
    columns = [*SENT, "reason"]
    verdicts = sent.select(columns).append_column(
        "outcome", pa.repeat(pa.scalar("unsendable"), sent.num_rows)
    )
    with replacing(folder.verdicts(chunk_id)) as temporary:
        pq.write_table(verdicts, temporary)
    chunk = _chunk(
        context, record, chunk_id, chunk_id, wave, tier, ChunkState.UNSENDABLE, None, None
    )
    context.ledger.record_intent(chunk)
    return int(sent.num_rows)


def _chunk(
    context: LoadContext,
    record: Load,
    chunk_id: str,
    token: str,
    wave: int,
    tier: int,
    state: ChunkState,
    body: BodyFile | None,
    address: str | None,
) -> Chunk:
    started: datetime = now()
    return Chunk(
        chunk_id=chunk_id,
        workload=record.workload,
        load=record.load,
        generation=record.generation,
        wave=wave,
        tier=tier,
        model=context.workload.spec.tiers[tier].model,
        token=token,
        requests=body.requests if body else 0,
        bytes=body.bytes if body else 0,
        sha256=body.sha256 if body else "",
        state=state,
        api=address,
        intended_at=started,
        looked_for_since=None,
        closed_at=None if state is ChunkState.INTENT else started,
        note=None,
    )
