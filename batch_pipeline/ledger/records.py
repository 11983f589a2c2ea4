"""The ledger's records as the rest of the code sees them."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum


class Phase(StrEnum):
    """Where a load is: rows remain to be sent, batches are awaited, or every row has a disposition."""

    SENDING = "sending"
    WAITING = "waiting"
    SETTLED = "settled"


class ChunkState(StrEnum):
    """What is known of a chunk's sending.

    intent: nobody knows yet whether the API accepted it. submitted: it did. not_created: it refused.
    not_found: its answer was lost, and no such batch appeared while it was looked for. duplicate: one
    appeared after all, when its rows had been sent again: its cost counts, its answers do not.
    unsendable: rows of which no request could be made. reused: rows that were answered by an earlier load,
    with the same prompt, contract and tiers.
    """

    INTENT = "intent"
    SUBMITTED = "submitted"
    NOT_CREATED = "not_created"
    NOT_FOUND = "not_found"
    DUPLICATE = "duplicate"
    UNSENDABLE = "unsendable"
    REUSED = "reused"


class Lane(StrEnum):
    """How requests reach the API: as a Message Batch at half price, or one by one, answered at once."""

    BATCH = "batch"
    SYNC = "sync"


class Adopted(StrEnum):
    """How sure it is that a batch is a chunk's whose create call was never answered.

    provisional: it is the only one that it can be. confirmed: its results carry the chunk's token.
    """

    PROVISIONAL = "provisional"
    CONFIRMED = "confirmed"


@dataclass(frozen=True)
class Load:
    """One generation of one partition of a workload."""

    workload: str
    load: str
    generation: int
    fingerprint: str
    source_rows: int
    golden_rows: int
    phase: Phase
    requested_by: str | None
    created_at: datetime
    settled_at: datetime | None
    gate: str | None
    gate_fingerprint: str | None
    graded_at: datetime | None
    promoted_at: datetime | None
    promoted_rows: int | None
    promoted_fingerprint: str | None
    not_before: datetime | None
    waits_for: str | None
    stopped: str | None
    cancelled_at: datetime | None
    cancelled_by: str | None
    cancel_reason: str | None
    purged_at: datetime | None
    held_by: str | None = None
    pilot_passed_at: datetime | None = None
    rolled_back_at: datetime | None = None
    rolled_back_by: str | None = None
    rollback_reason: str | None = None

    @property
    def cancelled(self) -> bool:
        return self.cancelled_at is not None

    @property
    def rolled_back(self) -> bool:
        """Its promotion was undone, and it was not promoted again since."""
        return self.rolled_back_at is not None and self.promoted_at is None


@dataclass(frozen=True)
class Chunk:
    """A request body that was written and what is known of its sending."""

    chunk_id: str
    workload: str
    load: str
    generation: int
    wave: int
    tier: int
    model: str
    token: str
    requests: int
    bytes: int
    sha256: str
    state: ChunkState
    api: str | None
    intended_at: datetime
    looked_for_since: datetime | None
    closed_at: datetime | None
    note: str | None
    list_lagged_at: datetime | None = None
    lane: Lane = Lane.BATCH
    pilot: bool = False
    bound_usd: float | None = None


@dataclass(frozen=True)
class Batch:
    """What the API made of a chunk. Counts are zero until the batch has ended."""

    batch_id: str
    chunk_id: str
    request_id: str | None
    api: str | None
    status: str
    succeeded: int
    errored: int
    canceled: int
    expired: int
    created_at: datetime
    expires_at: datetime | None
    ended_at: datetime | None
    adopted: Adopted | None
    missing_since: datetime | None
    results_gone: bool
    retry_at: datetime | None
    retries: int
    retry_reason: str | None
    doubted_since: datetime | None
    cancel_requested_at: datetime | None
    collected_at: datetime | None
    deleted_at: datetime | None
    defects: str | None
    cost_usd: float | None = None

    @property
    def ended(self) -> bool:
        """Nothing more will come: its results can be collected, or are known to be gone."""
        return self.status == "ended" or self.results_gone

    @property
    def ready(self) -> bool:
        """Ended, not collected yet, and not to be left alone for a while."""
        due = self.retry_at is None or self.retry_at <= datetime.now(UTC)
        return self.collected_at is None and self.ended and due

    @property
    def open(self) -> bool:
        """The API still works on it."""
        return self.collected_at is None and not self.ended


@dataclass(frozen=True)
class Override:
    """A person's decision to promote past a closed gate, bound to what they saw."""

    workload: str
    load: str
    fingerprint: str
    reason: str
    requested_by: str
    recorded_at: datetime


@dataclass(frozen=True)
class Baseline:
    """The golden outcome of one load, which a person accepted; `correct` of `n` rows were right."""

    baseline_id: str
    workload: str
    load: str
    generation: int
    fingerprint: str
    golden_fingerprint: str
    correct: int
    n: int
    reason: str
    recorded_by: str
    recorded_at: datetime
