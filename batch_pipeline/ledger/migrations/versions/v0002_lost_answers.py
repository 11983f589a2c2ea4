"""What resolving lost answers, waiting, cancelling and purging record."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

Time = sa.String(32)


def upgrade() -> None:
    with op.batch_alter_table("loads") as table:
        table.add_column(sa.Column("not_before", Time))
        table.add_column(sa.Column("waits_for", sa.String))
        table.add_column(sa.Column("stopped", sa.String))
        table.add_column(sa.Column("cancelled_at", Time))
        table.add_column(sa.Column("cancelled_by", sa.String(128)))
        table.add_column(sa.Column("cancel_reason", sa.String))
        table.add_column(sa.Column("purged_at", Time))
    with op.batch_alter_table("chunks") as table:
        table.add_column(sa.Column("api", sa.String(256)))
        table.add_column(sa.Column("looked_for_since", Time))
    # A load was sent to one address, so that is where a chunk without an answer must be looked for.
    op.execute(
        "UPDATE chunks SET api = (SELECT max(b.api) FROM batches AS b JOIN chunks AS c ON c.chunk_id = b.chunk_id "
        "WHERE c.workload = chunks.workload AND c.load = chunks.load AND c.generation = chunks.generation)"
    )
    with op.batch_alter_table("batches") as table:
        table.add_column(sa.Column("adopted", sa.String(16)))
        table.add_column(sa.Column("retry_at", Time))
        # A column that may not be null needs a value for the rows that are there.
        table.add_column(sa.Column("retries", sa.Integer, nullable=False, server_default="0"))
        table.add_column(sa.Column("retry_reason", sa.String))
        table.add_column(sa.Column("doubted_since", Time))
        table.add_column(sa.Column("cancel_requested_at", Time))
        table.add_column(sa.Column("deleted_at", Time))
    op.create_table(
        "foreign_batches",
        sa.Column("batch_id", sa.String(128), primary_key=True),
        sa.Column("recorded_at", Time, nullable=False),
    )
