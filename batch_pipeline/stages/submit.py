"""batch_submission: sends every row that is due, each once, by the send protocol.

Body to disk, intent to the ledger, one POST, batch id to the ledger. A crash or a lost answer in between
leaves an intent that nobody can read as "not sent": nothing else of the load is sent until it is resolved.
Whatever else stops the sending is written down with the load, so that whoever comes next knows when to go on.
"""

import secrets
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.encode import ENVELOPE_BYTES, BodyFile, RequestTemplate
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Chunk, ChunkState, Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.ledger.transactions import now
from batch_pipeline.rows import LoadFolder, replacing
from batch_pipeline.rows.query import querying
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.due_rows import DueRows, SentRows
from batch_pipeline.stages.resolve import needs_resolving, resolve_held
from batch_pipeline.stages.send import SendingEndsError, check_room, send_chunk
from batch_pipeline.stages.settle import settle
from batch_pipeline.stages.states import derive_states


@dataclass
class SendSummary:
    """What one call sent: batches and requests by tier, rows that could not be sent, and what it has to say.

    `resolved` is what became of chunks whose answer was lost; `waits_for` is why rows that are due were
    left for later, None where none were.
    """

    batches: int = 0
    requests: int = 0
    requests_by_tier: dict[int, int] = field(default_factory=dict)
    unsendable: int = 0
    resolved: list[str] = field(default_factory=list)
    waits_for: str | None = None


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

    A load that was stopped (a spend limit, a refused key) is tried again: somebody asked for it.

    Args:
        context: the load.
        api: makes the API client; called only when there is something to send or to look for.
        on_batch: called after each batch that the API accepted.

    Raises:
        PipelineError: the API refused for good, or the workload changed meanwhile. What was sent before
            stays recorded; calling again continues.
    """
    with querying(context.scratch) as connection:
        return send_due(connection, context, api, on_batch, asked=True)


def send_due(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    api: Callable[[], BatchesApi],
    on_batch: Callable[[SendSummary], None],
    *,
    asked: bool = False,
) -> SendSummary:
    """As `send_pending`; leaves the table `states` on the connection, as it is when all was sent.

    Unless it is `asked` for, a load that was stopped stays stopped.
    """
    with context.ledger.hold(context.workload.name, context.load):
        record = context.record()
        summary = SendSummary()
        unresolved = _resolve(context, record, api, summary)
        _remove_leftovers(context, record)
        derive_states(connection, context, record)
        due = dict(
            connection.execute(
                "SELECT next_tier, count(*) FROM states WHERE next_tier IS NOT NULL "
                "GROUP BY ALL ORDER BY 1"
            ).fetchall()
        )
        if due:
            summary.waits_for = unresolved or _obstacle(record, asked=asked)
        if due and summary.waits_for is None:
            _stop_at_change(context, record)
            wave = _wave(context, record)
            context.ledger.set_phase(record, Phase.SENDING)
            # Somebody asked for it again: what stopped it is mended, or stops it anew.
            context.ledger.update_load(record, stopped=None)
            try:
                client = api()
                for tier, rows in due.items():
                    _send_tier(
                        context, record, connection, wave, tier, rows, client, summary, on_batch
                    )
                context.ledger.update_load(record, not_before=None, waits_for=None)
            except SendingEndsError as end:
                summary.waits_for = str(end)
            # Anew: it may have been cancelled meanwhile.
            derive_states(connection, context, context.record())
        settle(connection, context, record)
        return summary


def _resolve(
    context: LoadContext, record: Load, api: Callable[[], BatchesApi], summary: SendSummary
) -> str | None:
    """Looks for chunks whose answer was lost; why nothing may be sent, where some stay unresolved."""
    if not needs_resolving(context.ledger, record):
        return None
    resolution = resolve_held(context, record, api())
    summary.resolved = resolution.said
    return "; ".join(resolution.said) if resolution.unresolved else None


def _obstacle(record: Load, *, asked: bool) -> str | None:
    """Why nothing may be sent at the moment."""
    if record.not_before is not None and record.not_before > now():
        return (
            f"{record.waits_for} Until {record.not_before:%Y-%m-%d %H:%M:%S} UTC nothing is sent."
        )
    return None if asked else record.stopped


def _wave(context: LoadContext, record: Load) -> int:
    """The number of the wave that is about to be sent; a wave that was cut off keeps its number."""
    last = max((chunk.wave for chunk in context.ledger.chunks(record)), default=0)
    return max(last, 1) if record.phase is Phase.SENDING else last + 1


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
    # A chunk that was given up for lost may still turn up, and is then read by what it carried.
    kept = {chunk.chunk_id for chunk in chunks if chunk.state is not ChunkState.NOT_CREATED}
    leftovers = [
        *folder.root.rglob(".*.tmp"),
        *(p for p in folder.body("x").parent.glob("*.json") if p.stem not in intents),
        *(p for p in folder.sent("x").parent.glob("*.parquet") if p.stem not in kept),
    ]
    for path in leftovers:
        path.unlink(missing_ok=True)


def _send_tier(
    context: LoadContext,
    record: Load,
    connection: duckdb.DuckDBPyConnection,
    wave: int,
    tier: int,
    due: int,
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
        check_room(context, record, due, api)
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
        due -= body.requests
        chunk = _chunk(
            context, record, chunk_id, token, wave, tier, ChunkState.INTENT, body, api.address
        )
        send_chunk(context, record, chunk, api)
        summary.batches += 1
        summary.requests += chunk.requests
        summary.requests_by_tier[tier] = summary.requests_by_tier.get(tier, 0) + chunk.requests
        on_batch(summary)
    if unsendable.reasons:
        _record_unsendable(context, record, folder, wave, tier, unsendable)
        summary.unsendable += len(unsendable.reasons)


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
    chunk = _chunk(
        context, record, chunk_id, chunk_id, wave, tier, ChunkState.UNSENDABLE, None, None
    )
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
