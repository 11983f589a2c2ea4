"""Baselines, alerts and their deliveries, and review files that were taken in."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

Time = sa.String(32)


def upgrade() -> None:
    op.create_table(
        "baselines",
        sa.Column("baseline_id", sa.String(32), primary_key=True),
        sa.Column("workload", sa.String(64), nullable=False),
        sa.Column("load", sa.String(32), nullable=False),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("golden_fingerprint", sa.String(64), nullable=False),
        sa.Column("correct", sa.Integer, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("reason", sa.String, nullable=False),
        sa.Column("recorded_by", sa.String(128), nullable=False),
        sa.Column("recorded_at", Time, nullable=False),
    )
    op.create_index("baselines_of_workload", "baselines", ["workload", "recorded_at"])
    op.create_table(
        "alerts",
        sa.Column("alert_id", sa.String(32), primary_key=True),
        sa.Column("condition", sa.String(256), nullable=False),
        sa.Column("workload", sa.String(64), nullable=False),
        sa.Column("load", sa.String(32)),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("severity", sa.String(16), nullable=False),
        sa.Column("title", sa.String, nullable=False),
        sa.Column("sentence", sa.String, nullable=False),
        sa.Column("opened_at", Time, nullable=False),
        sa.Column("seen_at", Time, nullable=False),
        sa.Column("resolved_at", Time),
        sa.Column("link", sa.String),
    )
    op.create_index("alerts_by_condition", "alerts", ["condition", "opened_at"])
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.String(32), primary_key=True),
        sa.Column("alert_id", sa.String(32), nullable=False),
        sa.Column("event", sa.String(16), nullable=False),
        sa.Column("channel", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("next_at", Time, nullable=False),
        sa.Column("sent_at", Time),
        sa.Column("error", sa.String),
        sa.Column("created_at", Time, nullable=False),
        sa.Column("unreachable", sa.Integer, nullable=False),
        sa.UniqueConstraint("alert_id", "event", "channel"),
    )
    op.create_table(
        "review_imports",
        sa.Column("workload", sa.String(64), primary_key=True),
        sa.Column("load", sa.String(32), primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True),
        sa.Column("sha256", sa.String(64), primary_key=True),
        sa.Column("accepted", sa.Integer, nullable=False),
        sa.Column("fixed", sa.Integer, nullable=False),
        sa.Column("dropped", sa.Integer, nullable=False),
        sa.Column("imported_by", sa.String(128), nullable=False),
        sa.Column("imported_at", Time, nullable=False),
    )
    op.create_table(
        "review_exports",
        sa.Column("workload", sa.String(64), primary_key=True),
        sa.Column("load", sa.String(32), primary_key=True),
        sa.Column("generation", sa.Integer, primary_key=True),
        sa.Column("exported_at", Time, primary_key=True),
        sa.Column("rows", sa.Integer, nullable=False),
        sa.Column("exported_by", sa.String(128), nullable=False),
    )
