"""Indexes for what is open or new: a look at it reads no more for each load that is long done."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    for name, table, columns, where in (
        ("loads_not_promoted", "loads", ["workload", "load"], "promoted_at IS NULL"),
        ("chunks_by_state", "chunks", ["state", "closed_at"], None),
        ("batches_not_collected", "batches", ["chunk_id"], "collected_at IS NULL"),
        ("batches_by_time", "batches", ["created_at"], None),
    ):
        partly = sa.text(where) if where else None
        op.create_index(name, table, columns, sqlite_where=partly, postgresql_where=partly)
