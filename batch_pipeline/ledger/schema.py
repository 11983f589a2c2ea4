"""The ledger's schema: at which version a ledger is, and how it becomes the newest.

Alembic writes the version into the ledger and runs the steps in `migrations/`. It is imported only where there
is something to migrate, because the sensor opens the ledger at every tick.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from sqlalchemy import Column, Connection, Engine, MetaData, String, Table, insert, inspect, select
from sqlalchemy.exc import DBAPIError

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger.tables import metadata
from batch_pipeline.rows.durable import replacing

# The newest step's number: raise it with every new file in migrations/versions.
VERSION = 5

_versions = Table(
    "alembic_version", MetaData(), Column("version_num", String(32), primary_key=True)
)


def bring_up_to_date(engine: Engine, path: Path) -> None:
    """Creates a new ledger's tables, and migrates those that an older release wrote.

    It is one transaction under the ledger's write lock: a second process waits for the first, and one that is
    killed leaves the old schema or the new one. Before a migration a copy is put beside the ledger, as
    `ledger.v<version>.sqlite`.

    Args:
        engine: opens the ledger.
        path: its file.

    Raises:
        ConfigurationError: the ledger was written by a newer release.
    """
    if _recorded(engine) == _revision(VERSION):
        return
    with _alone(engine) as connection:
        if not inspect(connection).get_table_names():
            _create(connection)
            return
        version = _version(connection, path)
        if version < VERSION:
            _keep_copy(path, version)
            _migrate(connection)


def _recorded(engine: Engine) -> str | None:
    try:
        with engine.connect() as connection:
            return _read(connection)
    except DBAPIError:
        # No such table: what that means, or whatever else is wrong, shows when it is opened to be written.
        return None


def _version(connection: Connection, path: Path) -> int:
    """The first release wrote none, so a ledger without one is at 1."""
    recorded = _read(connection) if inspect(connection).has_table(_versions.name) else None
    if recorded is None:
        return 1
    if recorded not in map(_revision, range(1, VERSION + 1)):
        raise ConfigurationError(
            f"The ledger {path} has schema version {recorded} and this release knows {_revision(VERSION)} at "
            "most, so a newer release wrote it; install that release again, or set BATCH_PIPELINE_STATE to "
            "another folder."
        )
    return int(recorded)


def _read(connection: Connection) -> str | None:
    recorded: str | None = connection.execute(select(_versions.c.version_num)).scalar()
    return recorded


def _revision(version: int) -> str:
    """A version as Alembic's scripts name it."""
    return f"{version:04}"


def _create(connection: Connection) -> None:
    metadata.create_all(connection)
    _versions.create(connection)
    connection.execute(insert(_versions).values(version_num=_revision(VERSION)))


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", "batch_pipeline.ledger:migrations")
    command.upgrade(config, "head")


@contextmanager
def _alone(engine: Engine) -> Iterator[Connection]:
    """A transaction that no other process can write beside, tables' definitions included."""
    with engine.connect() as connection:
        # Begun by us, or Python's sqlite3 would commit each CREATE and ALTER by itself.
        connection.exec_driver_sql("BEGIN IMMEDIATE")
        yield connection
        connection.commit()


def _keep_copy(path: Path, version: int) -> None:
    """Puts a copy beside the ledger, so that a person can go back to the release that wrote it."""
    with replacing(path.with_name(f"{path.stem}.v{version}{path.suffix}")) as temporary:
        temporary.touch(mode=0o600)
        with closing(sqlite3.connect(path)) as ledger, closing(sqlite3.connect(temporary)) as copy:
            ledger.backup(copy)
            # One file, without a log beside it.
            copy.execute("PRAGMA journal_mode=DELETE")
