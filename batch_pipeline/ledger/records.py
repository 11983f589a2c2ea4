"""The ledger's records as the rest of the code sees them."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Phase(StrEnum):
    """Where a load is: rows remain to be sent, batches are awaited, or every row has a disposition."""

    SENDING = "sending"
    WAITING = "waiting"
    SETTLED = "settled"


class ChunkState(StrEnum):
    """`intent` means that nobody knows yet whether the API accepted the chunk."""

    INTENT = "intent"
    SUBMITTED = "submitted"
    NOT_CREATED = "not_created"
    UNSENDABLE = "unsendable"


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
    intended_at: datetime
    closed_at: datetime | None
    note: str | None


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
    missing_since: datetime | None
    results_gone: bool
    collected_at: datetime | None
    defects: str | None

    @property
    def ready(self) -> bool:
        """Nothing more will come: its results can be collected, or are known to be gone."""
        return self.collected_at is None and (self.status == "ended" or self.results_gone)

    @property
    def open(self) -> bool:
        return self.collected_at is None and not self.ready


@dataclass(frozen=True)
class Override:
    """A person's decision to promote past a closed gate, bound to what they saw."""

    workload: str
    load: str
    fingerprint: str
    reason: str
    requested_by: str
    recorded_at: datetime
