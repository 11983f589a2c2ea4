"""A ledger that many machines share: a schema of its own in a Postgres database.

A load's lock is an advisory lock of a session that is used for nothing else: the server frees it when that
session ends, and it notices within `_GONE_SECONDS` that a machine has vanished. A session may break while its
process lives on (the server was restarted): then another process may get the lock. So each holder leaves a
mark, and nothing that money follows is written but over that very session, or a new one that has the lock and finds
the mark of this process still: nobody has held the load since.
"""

import re
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Table,
    create_engine,
    delete,
    func,
    inspect,
    make_url,
    select,
    text,
)
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger.outages import SCHEMA, VARIABLE, is_away, sentence_for
from batch_pipeline.ledger.tables import chunks, holds, metadata

_CONNECT_SECONDS = 10
# Each side looks after 5 s of silence, three times, 5 s apart; a write that nobody acknowledges fails sooner, so
# that a process knows that it has lost its lock before the server gives it to another.
_GONE_SECONDS = 20
_SESSION = {
    "search_path": SCHEMA,
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
}
_CLIENT = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 12_000,
    "connect_timeout": _CONNECT_SECONDS,
}
_LONGEST_PAUSE = 2.0
_LONGEST_LOOK = 0.5
# Which process of the server a session is: another one has another's locks.
_PID = select(func.pg_backend_pid())

T = TypeVar("T")


class LockLostError(PipelineError):
    """This process held a load, and another may have changed it since."""


@dataclass
class _Held:
    """A load that this process holds: over which session, and by which mark."""

    session: Connection
    pid: int
    holder: str


class PostgresHome:
    """One ledger, as `Home` describes it. `wait_seconds` is how long an outage, or others' locks, are waited for.

    Raises ConfigurationError for a URL that is none, and where psycopg is missing.
    """

    schema: str | None = SCHEMA

    def __init__(self, url: str, wait_seconds: float) -> None:
        parsed = _parsed(url)
        self.place = f"{parsed.host or 'localhost'}:{parsed.port or 5432}/{parsed.database or ''}"
        self._wait = wait_seconds
        arguments = _arguments(parsed, wait_seconds)
        self.engine = _engine(parsed, arguments)
        # A sensor opens the ledger at every tick: its connections end with it, not when they are next looked for.
        weakref.finalize(self, self.engine.dispose).atexit = False
        # A session per lock: closing it frees the lock, whatever state it is in.
        self._sessions = _engine(
            parsed, arguments, poolclass=NullPool, isolation_level="AUTOCOMMIT"
        )
        self._held: dict[tuple[str, str], _Held] = {}
        self._guard = threading.RLock()

    def insert(self, table: Table) -> Any:
        return insert(table)

    def patiently(self, work: Callable[[], T]) -> T:
        """Raises LedgerAwayError when the database stays away, ConfigurationError where it refuses us."""
        try:
            for attempt in Retrying(
                retry=retry_if_exception(is_away),
                stop=stop_after_delay(self._wait),
                wait=wait_random_exponential(0.05, _LONGEST_PAUSE),
                reraise=True,
            ):
                with attempt:
                    return work()
        except DBAPIError as error:
            if (sentence := sentence_for(error, self.place)) is None:
                raise
            raise sentence from None
        raise AssertionError("unreachable")

    @contextmanager
    def only_here(self) -> Iterator[Connection]:
        with self.engine.begin() as connection:
            connection.execute(select(func.pg_advisory_xact_lock(_key(SCHEMA))))
            if not inspect(connection).has_schema(SCHEMA):
                connection.execute(text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
            yield connection

    def keep_copy(self, version: int) -> None:
        """Postgres has backups of its own; the migration is one transaction."""

    def keep_writers_out(self, connection: Connection) -> None:
        # Of holds alone each holder takes its own line away.
        names = ", ".join(table.name for table in metadata.sorted_tables if table is not holds)
        connection.execute(text(f"LOCK TABLE {names} IN EXCLUSIVE MODE"))

    def up_for(self) -> float:
        def ask() -> float:
            with self.engine.connect() as connection:
                up = "SELECT extract(epoch FROM clock_timestamp() - pg_postmaster_start_time())"
                return float(connection.execute(text(up)).scalar_one())

        return self.patiently(ask)

    @contextmanager
    def try_hold(self, workload: str, load: str, wait_seconds: float) -> Iterator[bool]:
        held = self._locked(workload, load, wait_seconds, _enter)
        if held is None:
            yield False
            return
        with self._guard:
            self._held[workload, load] = held
        try:
            yield True
        finally:
            with self._guard:
                del self._held[workload, load]
                _leave(held, workload, load)
                _close(held.session)

    def add_chunk(self, values: dict[str, Any]) -> None:
        """Commits a chunk over the session of its load's lock; where that has broken, over a new one that has it.

        Raises:
            LockLostError: another process holds the load, or has sent of it meanwhile.
            LedgerAwayError: the database stays away.
        """
        workload, load = values["workload"], values["load"]
        statement = insert(chunks).values(**values)
        # Its commit may have gone through, and the answer been lost.
        again = statement.on_conflict_do_nothing(index_elements=["chunk_id"])
        tried = False

        def attempt() -> None:
            nonlocal tried
            held = self._held.get((workload, load))
            if held is not None:
                self._renew(held, workload, load)
            once, tried = (again if tried else statement), True
            if held is not None:
                held.session.execute(once)  # which commits it
                return
            with self.engine.begin() as connection:
                connection.execute(once)

        with self._guard:
            self.patiently(attempt)

    def require_hold(self, workload: str, load: str) -> None:
        """Raises as `add_chunk` does, where this process has held the load and may hold it no more."""
        with self._guard:
            held = self._held.get((workload, load))
            if held is not None:
                self.patiently(lambda: self._renew(held, workload, load))

    def _renew(self, held: _Held, workload: str, load: str) -> None:
        # SQLAlchemy may replace a session that broke by one without the lock, and say nothing.
        if not (held.session.closed or held.session.invalidated):
            try:
                if held.session.execute(_PID).scalar() == held.pid:
                    return
            except DBAPIError as error:
                if not is_away(error):
                    raise
        _close(held.session)
        # A server that has not noticed yet that the session is gone keeps the lock for it meanwhile.
        renewed = self._locked(workload, load, _GONE_SECONDS, _last_holder)
        if renewed is not None:
            held.session, held.pid = renewed.session, renewed.pid
            if renewed.holder == held.holder:
                return
            _close(held.session)
        raise LockLostError(
            f"The ledger's database ended the session in which this process held {workload} {load}, and another "
            "process holds that load, or has held it since; this one sends no more of it, and nothing is lost."
        )

    def _locked(
        self,
        workload: str,
        load: str,
        wait_seconds: float,
        holder: Callable[[Connection, str, str], str],
    ) -> _Held | None:
        """A session that has the load's lock; with its mark, or the last holder's."""
        until = time.monotonic() + wait_seconds
        pause = 0.02

        def attempt() -> _Held | None:
            session = self._sessions.connect()
            try:
                lock = select(func.pg_try_advisory_lock(_key(f"{workload}/{load}")))
                if session.execute(lock).scalar():
                    pid = session.execute(_PID).scalar_one()
                    return _Held(session, pid, holder(session, workload, load))
            except BaseException:
                _close(session)
                raise
            _close(session)
            return None

        while (held := self.patiently(attempt)) is None:
            left = until - time.monotonic()
            if left <= 0:
                return None
            time.sleep(min(pause, left))
            pause = min(pause * 2, _LONGEST_LOOK)
        return held


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    # A character that was not encoded makes a part of the password pass for the host.
    if parsed is None or not parsed.database or re.search(r"[@/:\s]", parsed.host or ""):
        raise ConfigurationError(
            f"{VARIABLE} cannot be read as an address; write it as "
            "postgresql+psycopg://user:password@host:5432/database, with special characters of the password "
            "percent-encoded."
        )
    return parsed


def _arguments(url: URL, wait_seconds: float) -> dict[str, Any]:
    """libpq's, where the URL does not say otherwise."""
    wait = max(int(wait_seconds * 1000), 1)
    options = " ".join(f"-c {n}={v}" for n, v in {**_SESSION, "lock_timeout": wait}.items())
    own = url.query.get("options")
    arguments: dict[str, Any] = {
        name: value for name, value in _CLIENT.items() if name not in url.query
    }
    return arguments | {"options": f"{options} {own}" if own else options}


def _engine(url: URL, arguments: dict[str, Any], **options: Any) -> Engine:
    try:
        # Parameters are sentences, names and numbers; none is to appear in a traceback.
        return create_engine(url, connect_args=arguments, hide_parameters=True, **options)
    except ImportError:
        raise ConfigurationError(
            f"{VARIABLE} names a Postgres ledger, for which psycopg is missing; install it with "
            "`pip install 'batch-pipeline[postgres]'`."
        ) from None


def _enter(session: Connection, workload: str, load: str) -> str:
    """Leaves a mark in the place of the last holder's."""
    mark = uuid4().hex
    first = insert(holds).values(workload=workload, load=load, holder=mark)
    session.execute(
        first.on_conflict_do_update(index_elements=["workload", "load"], set_={"holder": mark})
    )
    return mark


def _last_holder(session: Connection, workload: str, load: str) -> str:
    """Nobody's, where the last one ended well."""
    query = select(holds.c.holder).where(holds.c.workload == workload, holds.c.load == load)
    return session.execute(query).scalar() or ""


def _leave(held: _Held, workload: str, load: str) -> None:
    with suppress(SQLAlchemyError):
        if not (held.session.closed or held.session.invalidated):
            mine = (holds.c.workload == workload, holds.c.load == load)
            held.session.execute(delete(holds).where(*mine, holds.c.holder == held.holder))


def _key(name: str) -> Any:
    """An advisory lock's number. Two names of one number would only wait for each other."""
    return func.hashtextextended(f"{SCHEMA}:{name}", 0)


def _close(session: Connection) -> None:
    with suppress(SQLAlchemyError):
        session.close()
