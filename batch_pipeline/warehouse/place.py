"""Where a warehouse is: in a DuckDB file below the state folder, or in the DuckLake that the settings name."""

from pathlib import Path

from batch_pipeline.settings import Settings

# A state folder alone stands for the DuckDB file in it.
Where = Settings | Path


def state_of(where: Where) -> Path:
    return where.state if isinstance(where, Settings) else where


def lake_of(where: Where) -> Settings | None:
    """The settings, where they name a DuckLake."""
    return where if isinstance(where, Settings) and where.warehouse is not None else None
