"""The warehouse's schema: at which version the file is, and the steps that bring it up to date."""

import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import duckdb

from batch_pipeline.errors import ConfigurationError

Step = Callable[[duckdb.DuckDBPyConnection], None]


def _record_versions(connection: duckdb.DuckDBPyConnection) -> None:
    """The first release recorded none."""
    connection.execute("CREATE SCHEMA IF NOT EXISTS metrics")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS metrics.schema_version "
        "(version INTEGER NOT NULL, recorded_at TIMESTAMP NOT NULL)"
    )


def _rollbacks(connection: duckdb.DuckDBPyConnection) -> None:
    """Which promotions count still, and what it takes to undo one."""
    for column in (
        "complete BOOLEAN",
        "snapshot BIGINT",
        "rolled_back_at TIMESTAMP",
        "rolled_back_by VARCHAR",
        "rollback_reason VARCHAR",
    ):
        connection.execute(
            f"ALTER TABLE IF EXISTS promoted._promotions ADD COLUMN IF NOT EXISTS {column}"
        )


# The first brings version 1, which the first release wrote, to 2, and so on. Add at the end, never edit what was
# released, and say `IF EXISTS`: what a workload has not written yet is not there.
STEPS: Sequence[Step] = (_record_versions, _rollbacks)

# Connections of one process share a file that they have open, and a transaction that meets another fails.
_lock = threading.Lock()


def is_current(connection: duckdb.DuckDBPyConnection, name: str) -> bool:
    """Whether no step is missing.

    Raises:
        ConfigurationError: a newer release wrote the file.
    """
    return _version(connection, name) == len(STEPS) + 1


def bring_up_to_date(connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Takes the steps that are missing, in one transaction: an error or a kill leaves the file as it was.

    Raises:
        ConfigurationError: a newer release wrote the file.
    """
    with _lock:
        missing = STEPS[_version(connection, name) - 1 :]
        if not missing:
            return
        connection.execute("BEGIN")
        for step in missing:
            step(connection)
        connection.execute(
            "INSERT INTO metrics.schema_version VALUES (?, ?)",
            [len(STEPS) + 1, datetime.now(UTC).replace(tzinfo=None)],
        )
        connection.execute("COMMIT")


def _version(connection: duckdb.DuckDBPyConnection, name: str) -> int:
    """A file without a version has been there since the first release, or is new and has no tables."""
    try:
        found = connection.execute("SELECT max(version) FROM metrics.schema_version").fetchone()
    except duckdb.CatalogException:
        return 1
    version: int = (found and found[0]) or 1
    newest = len(STEPS) + 1
    if version > newest:
        raise ConfigurationError(
            f"The warehouse {name} has schema version {version} and this release knows {newest} at most, so a "
            "newer release wrote it; install that release again, or set BATCH_PIPELINE_STATE to another folder."
        )
    return version
