"""The ledger's tables. Times are UTC, stored as ISO 8601 text so that any engine sorts them alike."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Dialect,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
    UniqueConstraint,
)


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, as fixed-width ISO 8601 text."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return value and value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return datetime.fromisoformat(value) if value else None


metadata = MetaData()

# A load's generation rises only when a person asks for the load to be sent again.
loads = Table(
    "loads",
    metadata,
    Column("workload", String(64), primary_key=True),
    Column("load", String(32), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("fingerprint", String(64), nullable=False),  # of prompt, contract and tiers
    Column("source_rows", Integer, nullable=False),
    Column("golden_rows", Integer, nullable=False),
    Column("phase", String(16), nullable=False),  # sending | waiting | settled
    Column("requested_by", String(64)),  # the Dagster run that asked for this generation
    Column("created_at", UtcTime, nullable=False),
    Column("settled_at", UtcTime),
    Column("gate", String(16)),  # promote | hold: the last decision recorded
    Column("gate_fingerprint", String(64)),
    Column("graded_at", UtcTime),
    Column("promoted_at", UtcTime),
    Column("promoted_rows", Integer),
    Column("promoted_fingerprint", String(64)),
    Column("not_before", UtcTime),  # nothing is sent until then, and why
    Column("waits_for", String),
    Column("stopped", String),  # why nothing is sent until a person launches it again
    Column("cancelled_at", UtcTime),
    Column("cancelled_by", String(128)),
    Column("cancel_reason", String),
    Column("purged_at", UtcTime),  # its row data was removed
)

chunks = Table(
    "chunks",
    metadata,
    Column("chunk_id", String(32), primary_key=True),
    Column("workload", String(64), nullable=False),
    Column("load", String(32), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("wave", Integer, nullable=False),  # counts the rounds of sending within a generation
    Column("tier", Integer, nullable=False),
    Column("model", String(64), nullable=False),
    Column("token", String(32), nullable=False),  # in every custom_id of the chunk
    Column("requests", Integer, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("state", String(16), nullable=False),  # see records.ChunkState
    Column("api", String(256)),  # the address it was sent to
    Column("intended_at", UtcTime, nullable=False),
    Column(
        "looked_for_since", UtcTime
    ),  # since when its batch is looked for, its answer being lost
    Column("closed_at", UtcTime),
    Column("note", String),
    UniqueConstraint("token"),
    Index("chunks_of_load", "workload", "load", "generation"),
)

batches = Table(
    "batches",
    metadata,
    Column("batch_id", String(128), primary_key=True),
    Column("chunk_id", String(32), nullable=False, unique=True),
    Column("request_id", String(128)),
    Column("api", String(256)),  # the address that accepted it
    Column("status", String(16), nullable=False),  # the API's processing_status
    Column("succeeded", Integer, nullable=False, default=0),
    Column("errored", Integer, nullable=False, default=0),
    Column("canceled", Integer, nullable=False, default=0),
    Column("expired", Integer, nullable=False, default=0),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("ended_at", UtcTime),
    Column(
        "adopted", String(16)
    ),  # provisional | confirmed, where the create call's answer was lost
    Column("missing_since", UtcTime),  # since when the API says that it knows no such batch
    Column("retry_at", UtcTime),  # its results are not asked for before, and why
    Column("retries", Integer, nullable=False, default=0),
    Column("retry_reason", String),
    Column("doubted_since", UtcTime),  # since when its results do not add up
    Column("cancel_requested_at", UtcTime),
    Column("deleted_at", UtcTime),  # deleted at the API, by us
    Column("results_gone", Integer, nullable=False, default=0),
    Column("collected_at", UtcTime),
    Column("defects", String),  # what did not add up in the results that were accepted, as JSON
)

# Batches of the workspace that turned out not to be ours; nothing is known of them but that.
foreign_batches = Table(
    "foreign_batches",
    metadata,
    Column("batch_id", String(128), primary_key=True),
    Column("recorded_at", UtcTime, nullable=False),
)

overrides = Table(
    "overrides",
    metadata,
    Column("workload", String(64), primary_key=True),
    Column("load", String(32), primary_key=True),
    Column("fingerprint", String(64), primary_key=True),
    Column("reason", String, nullable=False),
    Column("requested_by", String(128), nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
)
