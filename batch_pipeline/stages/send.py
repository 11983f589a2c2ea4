"""One chunk through the send protocol: intent, POST, batch id; and what it says when the API does not take it.

A chunk of the synchronous lane is sent request by request instead, and becomes a batch when all are answered.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import datetime

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.errors import LaterError, NotCreatedError, NotNowError, UnresolvedError
from batch_pipeline.claude.messages import MessagesApi
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Chunk, ChunkState, Lane, Load
from batch_pipeline.ledger.transactions import now
from batch_pipeline.rows import LoadFolder
from batch_pipeline.stages.address import require_same_api
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.patience import try_again_at
from batch_pipeline.stages.plan import kept_plan
from batch_pipeline.stages.poll import poll
from batch_pipeline.stages.sync_lane import StoppedError, answer_chunk

# A chunk that is answered one by one waited within its step before: the first wait after it is longer.
_WAITED_BEFORE = 2


class SendingEndsError(Exception):
    """Nothing more of the load can be sent for now. The message says why."""


def check_room(context: LoadContext, record: Load, due: int, api: BatchesApi) -> None:
    """Before each chunk: raises SendingEndsError when the load was cancelled, or too much is in work.

    `due` is the number of rows that remain to be sent.
    """
    if context.record().cancelled:
        raise SendingEndsError("the load was cancelled")
    most = context.settings.max_in_flight
    if most is None or _goes_one_by_one(context, record):
        return
    next_chunk = min(due, context.workload.spec.limits.max_requests)
    if context.ledger.in_flight() + next_chunk > most:
        _look_at_all(context, api)
    out = context.ledger.in_flight()
    # A chunk that is larger than the cap goes out by itself.
    if out and out + next_chunk > most:
        said = f"{out:,} requests are in work and BATCH_PIPELINE_MAX_IN_FLIGHT allows {most:,}."
        raise _leave_for_later(context, record, said, None)


def _goes_one_by_one(context: LoadContext, record: Load) -> bool:
    plan = kept_plan(context.folder(record))
    return plan is not None and plan.lane is Lane.SYNC


def _look_at_all(context: LoadContext, api: BatchesApi) -> None:
    """Other loads' batches take up room, too, and may have ended while nobody looked at them."""
    for other in context.ledger.loads_in_flight():
        # One that cannot be looked at now, or lies at another API, keeps its room.
        with suppress(PipelineError):
            poll(context.ledger, other, api, context.settings.grace_seconds)


def _leave_for_later(
    context: LoadContext, record: Load, why: str, error: LaterError | None
) -> SendingEndsError:
    """Writes down until when, and why, nothing is sent."""
    refused = [
        chunk.state is ChunkState.NOT_CREATED for chunk in reversed(context.ledger.chunks(record))
    ]
    in_vain = refused.index(False) if False in refused else len(refused)
    return _leave_until(
        context, record, why, try_again_at(context.settings, error, max(in_vain - 1, 0))
    )


def _leave_until(
    context: LoadContext, record: Load, why: str, moment: datetime
) -> SendingEndsError:
    context.ledger.update_load(record, not_before=moment, waits_for=why)
    return SendingEndsError(f"{why} The rest is sent from {moment:%Y-%m-%d %H:%M:%S} UTC on.")


def post_chunk(context: LoadContext, record: Load, chunk: Chunk, api: BatchesApi) -> None:
    """POSTs the body of a chunk once, whose intent is committed, and commits what came of it.

    Raises:
        SendingEndsError: nothing more can be sent for now, and the ledger says why.
        PipelineError: the API refused the chunk, and would again.
    """
    folder = context.folder(record)
    ledger = context.ledger
    if chunk.lane is Lane.SYNC:
        _send_one_by_one(context, record, chunk)
        return
    try:
        created = api.create(folder.body(chunk.chunk_id))
    except NotNowError as error:
        _not_created(context, folder, chunk, str(error))
        raise _leave_for_later(context, record, str(error), error) from None
    except NotCreatedError as error:
        _not_created(context, folder, chunk, str(error))
        ledger.update_load(record, stopped=str(error))
        raise PipelineError(
            f"{context}: a batch of {chunk.requests:,} requests was not accepted and nothing was charged "
            f"for it. {error} The rest of the load waits; launch it again when that is mended."
        ) from None
    except UnresolvedError as error:
        ledger.record_lost_answer(chunk.chunk_id, str(error))
        if error.retry_after is not None:
            moment = try_again_at(context.settings, error, 0)
            ledger.update_load(record, not_before=moment, waits_for=f"The API said: {error}.")
        raise SendingEndsError(
            f"a batch of {chunk.requests:,} requests was sent, but {error}; it is looked for before anything "
            "more is sent"
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


def resume_sync(
    context: LoadContext, record: Load, api: Callable[[], BatchesApi], *, asked: bool
) -> str | None:
    """Goes on with the chunks of the synchronous lane that were cut off; call it while holding the load.

    Nothing else of the load may be sent before: what has no answer yet has no verdict either. Of a cancelled
    load they are closed, and nothing is sent.

    Args:
        context: the load.
        record: its record.
        api: makes the client; called only where there is such a chunk.
        asked: whether somebody asked for it, so that a load that was stopped is tried again.

    Returns:
        Why such a chunk remains, or None.

    Raises:
        ConfigurationError: the chunk was sent to another API than the one that is configured now.
        PipelineError: as `post_chunk`.
    """
    cut_off = [
        chunk
        for chunk in context.ledger.chunks(record)
        if chunk.state is ChunkState.INTENT and chunk.lane is Lane.SYNC
    ]
    if not cut_off:
        return None
    if not record.cancelled:
        if record.not_before is not None and record.not_before > now():
            return f"{record.waits_for} Until {record.not_before:%Y-%m-%d %H:%M:%S} UTC nothing is sent."
        if record.stopped is not None and not asked:
            return record.stopped
        address = api().address
        for chunk in cut_off:
            require_same_api(f"A chunk of {context}", chunk.api, address)
        context.ledger.update_load(record, stopped=None)
    try:
        for chunk in cut_off:
            _send_one_by_one(context, record, chunk)
    except SendingEndsError as end:
        return str(end)
    context.ledger.update_load(record, not_before=None, waits_for=None)
    return None


def _send_one_by_one(context: LoadContext, record: Load, chunk: Chunk) -> None:
    try:
        answer_chunk(context, record, chunk, MessagesApi)
    except StoppedError:
        raise SendingEndsError(
            "this process was asked to stop; what was answered is kept, and the rest is sent by the next call"
        ) from None
    except NotNowError as error:
        moment = try_again_at(context.settings, error, _WAITED_BEFORE)
        raise _leave_until(context, record, str(error), moment) from None
    except NotCreatedError as error:
        context.ledger.update_load(record, stopped=str(error))
        raise PipelineError(
            f"{context}: the synchronous API takes no more requests. {error} What was answered is kept, and the "
            "rest of the load waits; launch it again when that is mended."
        ) from None


def _not_created(context: LoadContext, folder: LoadFolder, chunk: Chunk, why: str) -> None:
    context.ledger.record_not_created(chunk.chunk_id, why)
    folder.body(chunk.chunk_id).unlink(missing_ok=True)
    folder.sent(chunk.chunk_id).unlink(missing_ok=True)
