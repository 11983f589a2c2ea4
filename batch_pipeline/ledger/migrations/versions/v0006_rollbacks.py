"""Promotions that were undone: when, by whom and why; and who holds a load."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    with op.batch_alter_table("loads") as loads:
        loads.add_column(sa.Column("rolled_back_at", sa.String(32)))
        loads.add_column(sa.Column("rolled_back_by", sa.String(128)))
        loads.add_column(sa.Column("rollback_reason", sa.String))
    op.create_table(
        "holds",
        sa.Column("workload", sa.String(64), primary_key=True),
        sa.Column("load", sa.String(64), primary_key=True),
        sa.Column("holder", sa.String(32), nullable=False),
    )
