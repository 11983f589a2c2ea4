"""A load and its generations: one more each time that a person asks for it to be sent again."""

from typing import Any

from sqlalchemy import select

from batch_pipeline.ledger.records import Load, Phase
from batch_pipeline.ledger.tables import loads


def is_latest() -> Any:
    """The condition that a row of `loads` is its load's latest generation."""
    later = loads.alias("later")
    return ~(
        select(later.c.load)
        .where(
            later.c.workload == loads.c.workload,
            later.c.load == loads.c.load,
            later.c.generation > loads.c.generation,
        )
        .exists()
    )


def load_of(row: dict[str, Any]) -> Load:
    """The record of a row of `loads`."""
    return Load(**{**row, "phase": Phase(row["phase"])})
