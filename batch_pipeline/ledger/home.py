"""Where a ledger is: the engine that keeps it, and the lock that lets one process at a time change a load.

The embedded one is a SQLite file with a lock file per load beside it. `ledger.postgres` is the shared one.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

from filelock import FileLock, Timeout
from sqlalchemy import Connection, Engine, Table, create_engine, event
from sqlalchemy.dialects.sqlite import insert

from batch_pipeline.ledger.tables import chunks

T = TypeVar("T")


class Home(Protocol):
    """What the ledger needs of the database that it is in."""

    engine: Engine
    place: str
    """The ledger as a person is told of it; without a password."""
    schema: str | None
    """The database's schema that is the ledger's alone; None for what a connection sees anyway."""

    def insert(self, table: Table) -> Any:
        """An INSERT that can say what to do on conflict."""
        ...

    def patiently(self, work: Callable[[], T]) -> T:
        """Does `work`, a transaction that may be done twice; again, for a while, where the database is away."""
        ...

    def only_here(self) -> AbstractContextManager[Connection]:
        """A transaction that no other process can write beside, tables' definitions included."""
        ...

    def keep_writers_out(self, connection: Connection) -> None:
        """From now on, and until the transaction ends, nobody else writes any record."""
        ...

    def keep_copy(self, version: int) -> None:
        """Before a migration: a copy of the ledger, for going back to the release that wrote it."""
        ...

    def up_for(self) -> float:
        """Seconds since the database was started; infinite where there is no server."""
        ...

    def try_hold(
        self, workload: str, load: str, wait_seconds: float
    ) -> AbstractContextManager[bool]:
        """The load, for this process alone; false where another keeps it for longer than `wait_seconds`."""
        ...

    def add_chunk(self, values: dict[str, Any]) -> None:
        """Commits a chunk, but only while this process still holds its load."""
        ...

    def require_hold(self, workload: str, load: str) -> None:
        """Raises LockLostError where this process has held the load, and another may have changed it since."""
        ...


class SqliteHome:
    """A file below the state folder."""

    schema: str | None = None

    def __init__(self, state: Path, wait_seconds: float) -> None:
        self._path = state / "ledger.sqlite"
        self._locks = state / "locks"
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.place = str(self._path)
        self.engine = create_engine(
            f"sqlite:///{self._path}", connect_args={"timeout": wait_seconds}
        )
        event.listen(self.engine, "connect", _configure)

    @staticmethod
    def exists(state: Path) -> bool:
        return (state / "ledger.sqlite").is_file()

    def insert(self, table: Table) -> Any:
        return insert(table)

    def patiently(self, work: Callable[[], T]) -> T:
        return work()  # SQLite itself waits for others

    @contextmanager
    def only_here(self) -> Iterator[Connection]:
        with self.engine.connect() as connection:
            # Begun by us, or Python's sqlite3 would commit each CREATE and ALTER by itself.
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            connection.commit()

    def keep_writers_out(self, connection: Connection) -> None:
        pass  # `only_here` has done that

    def keep_copy(self, version: int) -> None:
        """Puts a copy beside the ledger, as `ledger.v<version>.sqlite`."""
        import sqlite3
        from contextlib import closing

        from batch_pipeline.rows.durable import replacing

        copy_path = self._path.with_name(f"{self._path.stem}.v{version}{self._path.suffix}")
        with replacing(copy_path) as temporary:
            temporary.touch(mode=0o600)
            with (
                closing(sqlite3.connect(self._path)) as ledger,
                closing(sqlite3.connect(temporary)) as copy,
            ):
                ledger.backup(copy)
                # One file, without a log beside it.
                copy.execute("PRAGMA journal_mode=DELETE")

    def up_for(self) -> float:
        return float("inf")

    @contextmanager
    def try_hold(self, workload: str, load: str, wait_seconds: float) -> Iterator[bool]:
        path = self._locks / workload / f"{load}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=wait_seconds)
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    # The lock is the kernel's: it is held for as long as this process lives.

    def add_chunk(self, values: dict[str, Any]) -> None:
        with self.engine.begin() as connection:
            connection.execute(insert(chunks).values(**values))

    def require_hold(self, workload: str, load: str) -> None:
        pass


def _configure(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    # FULL: an intent that was committed must survive a power cut, since money follows it.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()
