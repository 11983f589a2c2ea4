"""The tables of the first release, which wrote no version.

Tables that are there stay: a process of that release may have been killed before it had made them all.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

Time = sa.String(32)


def upgrade() -> None:
    op.create_table(
        "loads",
        sa.Column("workload", sa.String(64), primary_key=True),
        sa.Column("load", sa.String(32), primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("source_rows", sa.Integer, nullable=False),
        sa.Column("golden_rows", sa.Integer, nullable=False),
        sa.Column("phase", sa.String(16), nullable=False),
        sa.Column("requested_by", sa.String(64)),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("settled_at", Time),
        sa.Column("gate", sa.String(16)),
        sa.Column("gate_fingerprint", sa.String(64)),
        sa.Column("graded_at", Time),
        sa.Column("promoted_at", Time),
        sa.Column("promoted_rows", sa.Integer),
        sa.Column("promoted_fingerprint", sa.String(64)),
        if_not_exists=True,
    )
    op.create_table(
        "chunks",
        sa.Column("chunk_id", sa.String(32), primary_key=True),
        sa.Column("workload", sa.String(64), nullable=False),
        sa.Column("load", sa.String(32), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("wave", sa.Integer, nullable=False),
        sa.Column("tier", sa.Integer, nullable=False),
        sa.Column("model", sa.String(64), nullable=False),
        sa.Column("token", sa.String(32), nullable=False),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("bytes", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("intended_at", Time, nullable=False),
        sa.Column("closed_at", Time),
        sa.Column("note", sa.String),
        sa.UniqueConstraint("token"),
        if_not_exists=True,
    )
    op.create_index(
        "chunks_of_load", "chunks", ["workload", "load", "generation"], if_not_exists=True
    )
    op.create_table(
        "batches",
        sa.Column("batch_id", sa.String(128), primary_key=True),
        sa.Column("chunk_id", sa.String(32), nullable=False),
        sa.Column("request_id", sa.String(128)),
        sa.Column("api", sa.String(256)),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("succeeded", sa.Integer, nullable=False),
        sa.Column("errored", sa.Integer, nullable=False),
        sa.Column("canceled", sa.Integer, nullable=False),
        sa.Column("expired", sa.Integer, nullable=False),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("expires_at", Time),
        sa.Column("ended_at", Time),
        sa.Column("missing_since", Time),
        sa.Column("results_gone", sa.Integer, nullable=False),
        sa.Column("collected_at", Time),
        sa.Column("defects", sa.String),
        sa.UniqueConstraint("chunk_id"),
        if_not_exists=True,
    )
    op.create_table(
        "overrides",
        sa.Column("workload", sa.String(64), primary_key=True),
        sa.Column("load", sa.String(32), primary_key=True),
        sa.Column("fingerprint", sa.String(64), primary_key=True),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("requested_by", sa.String(128), nullable=False),
        sa.Column("recorded_at", Time, nullable=False),
        if_not_exists=True,
    )
