"""One chunk through the send protocol: intent, POST, batch id; and what it says when the API does not take it."""

from contextlib import suppress

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.errors import LaterError, NotCreatedError, NotNowError, UnresolvedError
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Chunk, ChunkState, Load
from batch_pipeline.rows import LoadFolder
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.patience import try_again_at
from batch_pipeline.stages.poll import poll


class SendingEndsError(Exception):
    """Nothing more of the load can be sent for now. The message says why."""


def check_room(context: LoadContext, record: Load, due: int, api: BatchesApi) -> None:
    """Before each chunk: raises SendingEndsError when the load was cancelled, or too much is in work.

    `due` is the number of rows that remain to be sent.
    """
    if context.record().cancelled:
        raise SendingEndsError("the load was cancelled")
    most = context.settings.max_in_flight
    if most is None:
        return
    next_chunk = min(due, context.workload.spec.limits.max_requests)
    if context.ledger.in_flight() + next_chunk > most:
        _look_at_all(context, api)
    out = context.ledger.in_flight()
    # A chunk that is larger than the cap goes out by itself.
    if out and out + next_chunk > most:
        said = f"{out:,} requests are in work and BATCH_PIPELINE_MAX_IN_FLIGHT allows {most:,}."
        raise _leave_for_later(context, record, said, None)


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
    moment = try_again_at(context.settings, error, max(in_vain - 1, 0))
    context.ledger.update_load(record, not_before=moment, waits_for=why)
    return SendingEndsError(f"{why} The rest is sent from {moment:%Y-%m-%d %H:%M:%S} UTC on.")


def send_chunk(context: LoadContext, record: Load, chunk: Chunk, api: BatchesApi) -> None:
    """Commits the intent, POSTs the body once, and commits what came of it.

    Raises:
        SendingEndsError: nothing more can be sent for now, and the ledger says why.
        PipelineError: the API refused the chunk, and would again.
    """
    folder = context.folder(record)
    ledger = context.ledger
    ledger.record_intent(chunk)
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


def _not_created(context: LoadContext, folder: LoadFolder, chunk: Chunk, why: str) -> None:
    context.ledger.record_not_created(chunk.chunk_id, why)
    folder.body(chunk.chunk_id).unlink(missing_ok=True)
    folder.sent(chunk.chunk_id).unlink(missing_ok=True)
