"""What became of the chunks whose create call was never answered: they are looked for before anything is sent.

A batch has no name, and the API takes no idempotency key. What can be seen of one is its time, its number of
requests and, once it has ended, its custom_ids, which carry our chunk's token. So: a token decides; where
there is none yet, the only batch that can be ours is taken for ours until its results confirm it; where
several can be, or several of our chunks could claim it, we wait for them to end; and where there is none for
the whole grace period, the chunk counts as never created.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from batch_pipeline.claude.client import BatchesApi, BatchStatus
from batch_pipeline.claude.decode import token_of
from batch_pipeline.claude.errors import UnreachableError
from batch_pipeline.ledger import Chunk, ChunkState, Lane, Ledger, Load
from batch_pipeline.ledger.records import Adopted
from batch_pipeline.ledger.store import LATE_ARRIVALS
from batch_pipeline.ledger.transactions import now
from batch_pipeline.stages.address import require_same_api
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.lanes import is_sync

# The intent's time is this machine's, a batch's is the API's: their clocks may differ by minutes.
CLOCK_SKEW = timedelta(minutes=5)
# A list that does not show batches we know of lags; a grace period is then waited for this often.
_LAGGING_GRACES = 10


@dataclass
class Resolution:
    """What one look decided: sentences for people, and how many chunks it still knows nothing of."""

    said: list[str] = field(default_factory=list)
    unresolved: int = 0


def resolve(context: LoadContext, api: BatchesApi, wait_seconds: float = 0.0) -> Resolution | None:
    """Looks for the lost chunks of a load; None where another process works on it just now.

    Raises:
        UnreachableError: the API gave no usable answer; look again later.
        ConfigurationError: the chunks were sent to another API than the one that is configured now.
    """
    record = context.record()
    if not needs_resolving(context.ledger, record):
        return Resolution()
    hold = context.ledger.try_hold(context.workload.name, context.load, wait_seconds)
    with hold as held:
        return resolve_held(context, context.record(), api) if held else None


def needs_resolving(ledger: Ledger, record: Load) -> bool:
    return any(_wanted(chunk) for chunk in ledger.chunks(record))


def resolve_held(context: LoadContext, record: Load, api: BatchesApi) -> Resolution:
    """As `resolve`, for a caller that holds the load."""
    ledger, done = context.ledger, Resolution()
    wanted = [chunk for chunk in ledger.chunks(record) if _wanted(chunk)]
    if not wanted:
        return done
    for chunk in wanted:
        require_same_api(f"A chunk of {context}", chunk.api, api.address)
    # A clock that runs ahead would have every batch look older than its intent, and be overlooked.
    skew = CLOCK_SKEW + max(api.clock_ahead(), timedelta())
    since = min(chunk.intended_at for chunk in wanted) - skew
    # First the API, then the ledger: whatever the list shows, its intent was committed before.
    listed = api.created_since(since, lambda _: False)
    search = _Search(ledger, api, listed, since, wanted, skew)
    for chunk in wanted:
        batch = search.proven(chunk)
        if chunk.state is ChunkState.NOT_FOUND:
            if batch is not None and not _sent_again(ledger, record, chunk):
                _record(ledger, chunk, batch, api, Adopted.CONFIRMED)
                done.said.append(f"batch {batch.batch_id} appeared late, and is adopted")
            elif batch is not None:
                _record(ledger, chunk, batch, api, Adopted.CONFIRMED, ChunkState.DUPLICATE)
                done.said.append(
                    f"batch {batch.batch_id} of {chunk.requests:,} requests appeared after its rows had been "
                    "sent again: they are paid twice, and its cost counts"
                )
            continue
        if batch is not None:
            _record(ledger, chunk, batch, api, Adopted.CONFIRMED)
            done.said.append(f"batch {batch.batch_id} is a chunk's whose answer was lost: adopted")
            continue
        candidates = search.candidates(chunk)
        if len(candidates) == 1 and search.only_claimant(chunk, candidates[0]):
            _record(ledger, chunk, candidates[0], api, Adopted.PROVISIONAL)
            done.said.append(
                f"batch {candidates[0].batch_id} is the only one that the chunk whose answer was lost can be: "
                "adopted until its results confirm it"
            )
        elif candidates:
            done.unresolved += 1
            done.said.append(
                f"{len(candidates)} batch(es) of {chunk.requests:,} requests may be the chunk whose answer was "
                "lost; their results will tell, so nothing more is sent until they end"
            )
            ledger.record_lost_answer(chunk.chunk_id, chunk.note or "its answer never came")
        else:
            _nowhere(context, chunk, done, lagging=search.lagging)
    return done


def _sent_again(ledger: Ledger, record: Load, chunk: Chunk) -> bool:
    """Whether the rows of a chunk that was given up for lost may have been sent since."""
    assert chunk.closed_at is not None
    return any(
        other.intended_at > chunk.closed_at and other.state is not ChunkState.NOT_CREATED
        for other in ledger.chunks(record)
    )


def _wanted(chunk: Chunk) -> bool:
    # What is sent one by one is no batch of the API's: there is nothing to be found.
    if chunk.lane is Lane.SYNC:
        return False
    if chunk.state is ChunkState.NOT_FOUND and chunk.closed_at is not None:
        return now() - chunk.closed_at < LATE_ARRIVALS
    return chunk.state is ChunkState.INTENT


def _nowhere(context: LoadContext, chunk: Chunk, done: Resolution, *, lagging: bool) -> None:
    """No batch can be the chunk: for now, or for good when that has lasted long enough."""
    grace = timedelta(seconds=context.settings.grace_seconds)
    moment = now()
    if lagging:
        context.ledger.record_list_lag(chunk.chunk_id)
    looked_for = moment - (chunk.looked_for_since or moment)
    # A list that has caught up with an older batch may not have come to this one: the grace period begins
    # when the list was last seen to lag.
    up_to_date_for = moment - max(
        chunk.looked_for_since or moment, chunk.list_lagged_at or chunk.intended_at
    )
    patience_ends = looked_for >= grace * _LAGGING_GRACES
    if chunk.looked_for_since is not None and (
        patience_ends or (not lagging and up_to_date_for >= grace)
    ):
        context.ledger.record_not_found(
            chunk.chunk_id,
            f"its answer was lost, and no such batch appeared in {looked_for.total_seconds():,.0f} s",
        )
        done.said.append(
            f"the chunk of {chunk.requests:,} requests whose answer was lost was never created: no such batch "
            f"appeared in {looked_for.total_seconds():,.0f} s; its rows are sent again"
        )
        return
    context.ledger.record_lost_answer(chunk.chunk_id, chunk.note or "its answer never came")
    done.unresolved += 1
    done.said.append(
        f"a chunk of {chunk.requests:,} requests was sent and its answer was lost; its batch is looked for "
        f"until {context.settings.grace_seconds:g} s have passed"
        + (", longer since the API's list lags" if lagging else "")
    )


def _record(
    ledger: Ledger,
    chunk: Chunk,
    batch: BatchStatus,
    api: BatchesApi,
    adopted: Adopted,
    state: ChunkState = ChunkState.SUBMITTED,
) -> None:
    ledger.record_submitted(
        chunk.chunk_id,
        batch_id=batch.batch_id,
        request_id=None,
        api=api.address,
        status="in_progress",  # the next look brings status and counts
        created_at=batch.created_at,
        expires_at=batch.expires_at,
        adopted=adopted,
        state=state,
    )


class _Search:
    """The batches of the workspace that the ledger does not know, and whose they may be."""

    def __init__(
        self,
        ledger: Ledger,
        api: BatchesApi,
        listed: list[BatchStatus],
        since: datetime,
        wanted: list[Chunk],
        skew: timedelta,
    ) -> None:
        self._skew = skew
        self._intents = [chunk for chunk in ledger.intents() if chunk.lane is Lane.BATCH]
        known = ledger.known([batch.batch_id for batch in listed])
        shown = {batch.batch_id for batch in listed}
        self.lagging = any(
            batch.batch_id not in shown
            for batch in ledger.batches_since(since)
            if batch.api == api.address
            and not is_sync(batch)
            and not (batch.missing_since or batch.results_gone or batch.deleted_at)
        )
        self._unknown: list[BatchStatus] = []
        self._proven: dict[str, BatchStatus] = {}
        # Others write in the workspace too: what cannot be one of these is none of our business.
        sizes = {chunk.requests for chunk in wanted}
        for batch in listed:
            if batch.batch_id in known or batch.requests not in sizes:
                continue
            tokens = _tokens(api, batch) if batch.ended else None
            if tokens is None:
                self._unknown.append(batch)
                continue
            # Any one of ours proves it: a results file may hold a foreign line, too.
            owners = [chunk for token in tokens if (chunk := ledger.chunk_of(token))]
            if owners:
                self._proven[owners[0].chunk_id] = batch
            else:
                ledger.record_foreign(batch.batch_id)

    def proven(self, chunk: Chunk) -> BatchStatus | None:
        """The batch whose custom_ids carry the chunk's token."""
        return self._proven.get(chunk.chunk_id)

    def candidates(self, chunk: Chunk) -> list[BatchStatus]:
        """Batches of the chunk's size and time that do not show yet whose they are."""
        return [batch for batch in self._unknown if self._fits(chunk, batch)]

    def only_claimant(self, chunk: Chunk, batch: BatchStatus) -> bool:
        """No other open intent of any load could be this batch."""
        claimants = [
            intent
            for intent in self._intents
            if self._fits(intent, batch) and intent.chunk_id not in self._proven
        ]
        return [claimant.chunk_id for claimant in claimants] == [chunk.chunk_id]

    def _fits(self, chunk: Chunk, batch: BatchStatus) -> bool:
        return (
            batch.requests == chunk.requests and batch.created_at >= chunk.intended_at - self._skew
        )


def _tokens(api: BatchesApi, batch: BatchStatus) -> set[str] | None:
    """The tokens, of our form, in the custom_ids of a batch that has ended.

    None where no custom_id can be seen just now, or ever.
    """
    try:
        custom_ids = api.first_custom_ids(batch.batch_id)
    except UnreachableError:
        return None
    tokens = {token_of(custom_id) for custom_id in custom_ids}
    return {token for token in tokens if token} if custom_ids else None
