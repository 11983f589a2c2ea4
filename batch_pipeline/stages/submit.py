"""batch_submission: sends every row that is due, each once, by the send protocol.

Body to disk, intent to the ledger, one POST, batch id to the ledger. A crash or a lost answer in between
leaves an intent that nobody can read as "not sent": it stops the load until it is resolved.
"""

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batch_pipeline.claude.client import BatchesApi, NotCreatedError, UnresolvedError
from batch_pipeline.claude.encode import ENVELOPE_BYTES, BodyFile, RequestTemplate
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Chunk, ChunkState, Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.ledger.store import now
from batch_pipeline.rows import LoadFolder, replacing
from batch_pipeline.rows.query import querying
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.due_rows import DueRows, SentRows
from batch_pipeline.stages.settle import settle
from batch_pipeline.stages.states import derive_states, live_chunks


@dataclass
class SendSummary:
    """What one call sent: batches and requests by tier, and rows that could not be sent at all."""

    batches: int = 0
    requests: int = 0
    requests_by_tier: dict[int, int] = field(default_factory=dict)
    unsendable: int = 0


@dataclass
class _Unsendable:
    rows: SentRows = field(default_factory=SentRows)
    reasons: list[str] = field(default_factory=list)


def send_pending(
    context: LoadContext,
    api: Callable[[], BatchesApi],
    on_batch: Callable[[SendSummary], None] = lambda _: None,
) -> SendSummary:
    """Sends all rows of the load that are due: never sent, to be sent again, or climbing a tier.

    Args:
        context: the load.
        api: makes the API client; called only when there is something to send.
        on_batch: called after each batch that the API accepted.

    Raises:
        PipelineError: an intent is unresolved, the API refused, or the workload changed meanwhile.
            What was sent before stays recorded; calling again continues.
    """
    with querying(context.scratch) as connection:
        return send_due(connection, context, api, on_batch)


def send_due(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    api: Callable[[], BatchesApi],
    on_batch: Callable[[SendSummary], None],
) -> SendSummary:
    """As `send_pending`; leaves the table `states` on the connection, as it is when all was sent."""
    with context.ledger.hold(context.workload.name, context.load):
        record = context.record()
        summary = SendSummary()
        _stop_at_unresolved(context, record)
        _remove_leftovers(context, record)
        derive_states(connection, context, record)
        due = dict(
            connection.execute(
                "SELECT next_tier, count(*) FROM states WHERE next_tier IS NOT NULL "
                "GROUP BY ALL ORDER BY 1"
            ).fetchall()
        )
        if due:
            _stop_at_change(context, record)
            wave = _wave(context, record)
            context.ledger.set_phase(record, Phase.SENDING)
            client = api()
            for tier in due:
                _send_tier(context, record, connection, wave, tier, client, summary, on_batch)
            derive_states(connection, context, record)
        settle(connection, context, record)
        return summary


def _wave(context: LoadContext, record: Load) -> int:
    """The number of the wave that is about to be sent; a wave that was cut off keeps its number."""
    last = max((chunk.wave for chunk in context.ledger.chunks(record)), default=0)
    return max(last, 1) if record.phase is Phase.SENDING else last + 1


def _stop_at_unresolved(context: LoadContext, record: Load) -> None:
    open_intents = [c for c in context.ledger.chunks(record) if c.state is ChunkState.INTENT]
    if open_intents:
        first = open_intents[0]
        raise PipelineError(
            f"{context}: {len(open_intents)} chunk(s) were sent and the answer never came "
            f"(the first with {first.requests:,} requests at {first.intended_at:%Y-%m-%d %H:%M:%S} UTC"
            f"{', ' + first.note if first.note else ''}); nothing more of this load is sent, since it might "
            "be paid twice. Look in the Anthropic Console for a batch created then with as many requests."
        )


def _stop_at_change(context: LoadContext, record: Load) -> None:
    if context.workload.fingerprint() != record.fingerprint:
        raise PipelineError(
            f"{context}: the prompt, the output contract or the tiers changed since this load was begun, "
            "and rows remain to be sent; restore them, or send the whole load again with --resend."
        )


def _remove_leftovers(context: LoadContext, record: Load) -> None:
    """What a crash left: files half written, and those of chunks that are no intent (yet, or any more)."""
    folder = context.folder(record)
    chunks = context.ledger.chunks(record)
    intents = {chunk.chunk_id for chunk in chunks if chunk.state is ChunkState.INTENT}
    live = {chunk.chunk_id for chunk in live_chunks(chunks)}
    leftovers = [
        *folder.root.rglob(".*.tmp"),
        *(p for p in folder.body("x").parent.glob("*.json") if p.stem not in intents),
        *(p for p in folder.sent("x").parent.glob("*.parquet") if p.stem not in live),
    ]
    for path in leftovers:
        path.unlink(missing_ok=True)


def _send_tier(
    context: LoadContext,
    record: Load,
    connection: duckdb.DuckDBPyConnection,
    wave: int,
    tier: int,
    api: BatchesApi,
    summary: SendSummary,
    on_batch: Callable[[SendSummary], None],
) -> None:
    spec = context.workload.spec
    prompt = context.workload.prompt
    declared = spec.tiers[tier]
    template = RequestTemplate(
        model=declared.model,
        max_tokens=declared.max_tokens,
        system=prompt.system,
        cache=prompt.cache,
        answer_schema=context.workload.contract.api_schema(),
        effort=declared.effort,
        thinking=declared.thinking,
    )
    folder = context.folder(record)
    unsendable = _Unsendable()
    rows = DueRows(connection, folder, tier, prompt.columns)
    while rows.more():
        chunk_id, token = uuid.uuid4().hex, secrets.token_hex(6)
        carried = SentRows()
        with replacing(folder.body(chunk_id)) as temporary, BodyFile(temporary) as body:
            while rows.more() and body.requests < spec.limits.max_requests:
                row, attempt, sending, columns = rows.peek()
                try:
                    request = template.request(f"{token}-{row}", prompt.render(columns))
                except Exception:  # noqa: BLE001 - a template is code, and may raise anything at a row
                    unsendable.rows.add(row, attempt, sending)
                    unsendable.reasons.append("template_failed")
                    rows.take()
                    continue
                if ENVELOPE_BYTES + len(request) > spec.limits.max_bytes:
                    unsendable.rows.add(row, attempt, sending)
                    unsendable.reasons.append("request_too_large")
                    rows.take()
                    continue
                if body.bytes_with(request) > spec.limits.max_bytes:
                    break
                body.add(request)
                carried.add(row, attempt, sending)
                rows.take()
        if not body.requests:
            folder.body(chunk_id).unlink()
            continue
        carried.write(folder.sent(chunk_id), tier, chunk_id)
        chunk = _chunk(context, record, chunk_id, token, wave, tier, ChunkState.INTENT, body)
        _send(context, folder, chunk, api)
        summary.batches += 1
        summary.requests += chunk.requests
        summary.requests_by_tier[tier] = summary.requests_by_tier.get(tier, 0) + chunk.requests
        on_batch(summary)
    if unsendable.reasons:
        _record_unsendable(context, record, folder, wave, tier, unsendable)
        summary.unsendable += len(unsendable.reasons)


def _send(context: LoadContext, folder: LoadFolder, chunk: Chunk, api: BatchesApi) -> None:
    ledger = context.ledger
    ledger.record_intent(chunk)
    try:
        created = api.create(folder.body(chunk.chunk_id))
    except NotCreatedError as error:
        ledger.record_not_created(chunk.chunk_id, str(error))
        folder.body(chunk.chunk_id).unlink(missing_ok=True)
        folder.sent(chunk.chunk_id).unlink(missing_ok=True)
        raise PipelineError(
            f"{context}: a batch of {chunk.requests:,} requests was not accepted and nothing was charged "
            f"for it. {error} The rest of the load waits; launch it again when that is mended."
        ) from None
    except UnresolvedError as error:
        ledger.note_intent(chunk.chunk_id, str(error))
        raise PipelineError(
            f"{context}: a batch of {chunk.requests:,} requests was sent, but {error}, so it may or may not "
            "exist; nothing more of this load is sent, since it might be paid twice."
        ) from None
    ledger.record_submitted(
        chunk.chunk_id,
        batch_id=created.batch_id,
        request_id=created.request_id,
        api=api.address,
        status=created.status,
        created_at=created.created_at,
        expires_at=created.expires_at,
    )
    folder.body(chunk.chunk_id).unlink(missing_ok=True)


def _record_unsendable(
    context: LoadContext,
    record: Load,
    folder: LoadFolder,
    wave: int,
    tier: int,
    unsendable: _Unsendable,
) -> None:
    """Rows that make no request get their verdict at once; the ledger's record makes it count."""
    chunk_id = uuid.uuid4().hex
    unsendable.rows.write(folder.sent(chunk_id), tier, chunk_id)
    sent = pq.read_table(folder.sent(chunk_id))
    verdicts = sent.append_column(
        "outcome", pa.repeat(pa.scalar("unsendable"), sent.num_rows)
    ).append_column("reason", pa.array(unsendable.reasons, pa.string()))
    with replacing(folder.verdicts(chunk_id)) as temporary:
        pq.write_table(verdicts, temporary)
    chunk = _chunk(context, record, chunk_id, chunk_id, wave, tier, ChunkState.UNSENDABLE, None)
    context.ledger.record_intent(chunk)


def _chunk(
    context: LoadContext,
    record: Load,
    chunk_id: str,
    token: str,
    wave: int,
    tier: int,
    state: ChunkState,
    body: BodyFile | None,
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
        intended_at=started,
        closed_at=None if state is ChunkState.INTENT else started,
        note=None,
    )
