"""Pilots, budgets, lanes, and when a list was seen to lag."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

Time = sa.String(32)


def upgrade() -> None:
    with op.batch_alter_table("loads") as table:
        table.add_column(sa.Column("held_by", sa.String(16)))
        table.add_column(sa.Column("pilot_passed_at", Time))
    with op.batch_alter_table("chunks") as table:
        table.add_column(sa.Column("list_lagged_at", Time))
        table.add_column(sa.Column("lane", sa.String(16), nullable=False, server_default="batch"))
        table.add_column(sa.Column("pilot", sa.Integer, nullable=False, server_default="0"))
        table.add_column(sa.Column("bound_usd", sa.Float))
    with op.batch_alter_table("batches") as table:
        table.add_column(sa.Column("cost_usd", sa.Float))
