"""The ledger's tables. Times are UTC, stored as ISO 8601 text so that any engine sorts them alike."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    Column,
    Dialect,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class UtcTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, as fixed-width ISO 8601 text."""

    impl = String(32)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return value and value.astimezone(UTC).isoformat(timespec="microseconds")

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        return datetime.fromisoformat(value) if value else None


class PostgresText(TypeDecorator[str]):
    """Text of any length: SQLite holds nobody to one, and a send must not end at a long name.

    Postgres takes no NUL in it; a sentence or a reason may hold one.
    """

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> Any:  # noqa: ARG002
        return value and value.replace("\0", "\N{REPLACEMENT CHARACTER}")


metadata = MetaData()


def _open(name: str, condition: str, *columns: str) -> Index:
    """An index of the rows that are open still, which stay few however many are done."""
    return Index(name, *columns, sqlite_where=text(condition), postgresql_where=text(condition))


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
    Column("held_by", String(16)),  # pilot | budget: the gate that was closed before all was sent
    Column("pilot_passed_at", UtcTime),  # since then the rest may be sent
    Column(
        "rolled_back_at", UtcTime
    ),  # its promotion was undone last; again promoted if promoted_at
    Column("rolled_back_by", String(128)),
    Column("rollback_reason", String),
    _open("loads_not_promoted", "promoted_at IS NULL", "workload", "load"),
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
    Column("list_lagged_at", UtcTime),  # when the API's list was last seen to lag, meanwhile
    Column("lane", String(16), nullable=False, default="batch"),  # batch | sync
    Column("pilot", Integer, nullable=False, default=0),
    Column("bound_usd", Float),  # the most that it should cost, as estimated before it was sent
    UniqueConstraint("token"),
    Index("chunks_of_load", "workload", "load", "generation"),
    Index("chunks_by_state", "state", "closed_at"),
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
    Column("cost_usd", Float),  # what its results cost, once they are read back
    _open("batches_not_collected", "collected_at IS NULL", "chunk_id"),
    Index("batches_by_time", "created_at"),
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

# Golden outcomes that a person accepted; row by row they are a Parquet file below the state folder.
baselines = Table(
    "baselines",
    metadata,
    Column("baseline_id", String(32), primary_key=True),
    Column("workload", String(64), nullable=False),
    Column("load", String(32), nullable=False),  # whose outcomes they are
    Column("generation", Integer, nullable=False),
    Column("fingerprint", String(64), nullable=False),  # of prompt, contract and tiers
    Column("golden_fingerprint", String(64), nullable=False),  # of keys, inputs and right answers
    Column("correct", Integer, nullable=False),
    Column("n", Integer, nullable=False),
    Column("reason", String, nullable=False),
    Column("recorded_by", String(128), nullable=False),
    Column("recorded_at", UtcTime, nullable=False),
    Index("baselines_of_workload", "workload", "recorded_at"),
)

# One row per time that something was wrong: it opens once, and is resolved when its condition has gone.
alerts = Table(
    "alerts",
    metadata,
    Column("alert_id", String(32), primary_key=True),
    Column("condition", String(256), nullable=False),  # what tells alerts apart; never row text
    Column("workload", String(64), nullable=False),
    Column("load", String(32)),
    Column("kind", String(16), nullable=False),  # leading | lagging
    Column("severity", String(16), nullable=False),  # page | log
    Column("title", String, nullable=False),
    Column("sentence", String, nullable=False),
    Column("opened_at", UtcTime, nullable=False),
    Column("seen_at", UtcTime, nullable=False),
    Column("resolved_at", UtcTime),
    Column("link", String),  # a page of Dagster's, without its host
    Index("alerts_by_condition", "condition", "opened_at"),
)

# What is to be said of an alert, to whom, and how far that has come.
deliveries = Table(
    "deliveries",
    metadata,
    Column("delivery_id", String(32), primary_key=True),  # the receiver's idempotency key
    Column("alert_id", String(32), nullable=False),
    Column("event", String(16), nullable=False),  # opened | resolved
    Column("channel", String(64), nullable=False),  # its name in the configuration
    Column("state", String(16), nullable=False),  # pending | sent | given_up
    Column("attempts", Integer, nullable=False, default=0),
    Column("next_at", UtcTime, nullable=False),
    Column("sent_at", UtcTime),
    Column("error", String),
    Column("created_at", UtcTime, nullable=False),
    Column(
        "unreachable", Integer, nullable=False, default=0
    ),  # its channel is left alone until next_at
    UniqueConstraint("alert_id", "event", "channel"),
)

# One row per review file that was taken in; the decisions themselves are beside the load's rows.
review_imports = Table(
    "review_imports",
    metadata,
    Column("workload", String(64), primary_key=True),
    Column("load", String(32), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("sha256", String(64), primary_key=True),  # of the file
    Column("accepted", Integer, nullable=False),
    Column("fixed", Integer, nullable=False),
    Column("dropped", Integer, nullable=False),
    Column("imported_by", String(128), nullable=False),
    Column("imported_at", UtcTime, nullable=False),
)

# One row per review file that was written.
review_exports = Table(
    "review_exports",
    metadata,
    Column("workload", String(64), primary_key=True),
    Column("load", String(32), primary_key=True),
    Column("generation", Integer, primary_key=True),
    Column("exported_at", UtcTime, primary_key=True),
    Column("rows", Integer, nullable=False),
    Column("exported_by", String(128), nullable=False),
)

# Where machines share the ledger: who has held a load last. A holder that ended well takes its line away.
holds = Table(
    "holds",
    metadata,
    Column("workload", String(64), primary_key=True),
    Column("load", String(64), primary_key=True),
    Column("holder", String(32), nullable=False),
)

for _table in metadata.tables.values():
    for _column in _table.columns:
        if type(_column.type) is String:
            _column.type = _column.type.with_variant(PostgresText(), "postgresql")
