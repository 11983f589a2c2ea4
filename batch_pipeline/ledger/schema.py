"""The ledger's schema: at which version a ledger is, and how it becomes the newest.

Alembic writes the version into the ledger and runs the steps in `migrations/`. It is imported only where there
is something to migrate, because the sensor opens the ledger at every tick.
"""

from sqlalchemy import (
    Column,
    Connection,
    MetaData,
    String,
    Table,
    insert,
    inspect,
    select,
    text,
    update,
)
from sqlalchemy.exc import OperationalError, ProgrammingError

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger.home import Home
from batch_pipeline.ledger.tables import metadata

# The newest step's number: raise it with every new file in migrations/versions.
VERSION = 6

# In the place of a version: `batch-pipeline migrate` has moved the ledger.
_MOVED = "moved"
_MOVED_TO = "CREATE TABLE moved_to (place VARCHAR NOT NULL)"

_versions = Table(
    "alembic_version", MetaData(), Column("version_num", String(32), primary_key=True)
)


def bring_up_to_date(home: Home) -> None:
    """Creates a new ledger's tables, and migrates those that an older release wrote.

    It is one transaction beside which nobody writes: a second process waits for the first, and one that is killed
    leaves the old schema or the new one. Before a migration `home` keeps a copy.

    Raises:
        ConfigurationError: the ledger was written by a newer release, or was moved.
    """
    if recorded_version(home) == _revision(VERSION):
        return
    home.patiently(lambda: _bring_up_to_date(home))


def _bring_up_to_date(home: Home) -> None:
    with home.only_here() as connection:
        if not inspect(connection).get_table_names(schema=home.schema):
            _create(connection)
            return
        version = _version(connection, home.place)
        if version < VERSION:
            home.keep_copy(version)
            _migrate(connection)


def recorded_version(home: Home) -> str | None:
    """What the ledger says of itself; None where there is none yet, or only that of the first release."""

    def look() -> str | None:
        try:
            with home.engine.connect() as connection:
                return _read(connection)
        except (ProgrammingError, OperationalError) as error:
            # No such table: what that means shows when it is opened to be written.
            if "no such table" in str(error) or getattr(error.orig, "sqlstate", None) == "42P01":
                return None
            raise

    return home.patiently(look)


def mark_as_moved(connection: Connection, place: str) -> None:
    """From now on whoever opens this ledger is told where it went. `place` names no password.

    Who has it open already can begin nothing more: an intent has no table to go to.
    """
    connection.execute(update(_versions).values(version_num=_MOVED))
    connection.execute(text(_MOVED_TO))
    connection.execute(text("INSERT INTO moved_to (place) VALUES (:place)"), {"place": place})
    connection.execute(text("ALTER TABLE chunks RENAME TO chunks_moved"))


def _version(connection: Connection, place: str) -> int:
    """The first release wrote none, so a ledger without one is at 1."""
    recorded = _read(connection) if inspect(connection).has_table(_versions.name) else None
    if recorded is None:
        return 1
    if recorded == _MOVED:
        to = connection.execute(text("SELECT place FROM moved_to")).scalar()
        raise ConfigurationError(
            f"The ledger {place} was moved to {to}; name it in BATCH_PIPELINE_LEDGER. What went on from here "
            "would send what is sent already. (To move it back here, put this one aside first.)"
        )
    if recorded not in map(_revision, range(1, VERSION + 1)):
        raise ConfigurationError(
            f"The ledger {place} has schema version {recorded} and this release knows {_revision(VERSION)} at "
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
