"""One transaction on a user's Postgres: rows go in and come out as Arrow, and errors are sentences.

A sentence names the environment variable that holds the connection string, never the string; and it repeats of
the server's words only what is about tables and rights, for the others quote rows.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from batch_pipeline.errors import ConfigurationError, PipelineError

if TYPE_CHECKING:
    import pyarrow as pa
    from adbc_driver_manager.dbapi import Connection, Cursor

_CONNECT_SECONDS = 10
# Another promotion of the same table may take its time.
_LOCK_SECONDS = 300
_DRIVER = re.compile(r"^postgres(?:ql)?(?:\+\w+)?://")
# Classes of SQLSTATE whose words are about statements, names and rights: syntax, rights and missing objects, what a
# transaction that only reads may not do, what the server has no room or no support for.
_ABOUT_OBJECTS = ("42", "25", "0A", "2B", "2F", "3D", "3F", "53", "54", "55", "57", "58")
_REFUSED = re.compile(
    r"authentication failed|no password supplied|no pg_hba.conf entry|role .* does not exist|is not permitted to "
    r"log in|must be superuser|permission denied for database|SSL|certificate",
    re.IGNORECASE,
)
# Of what it says in the middle of a stream, what quotes no row.
_STOPPED = re.compile(
    r"cannot execute [\w ()]+ in a read-only transaction|canceling statement due to [\w ]+|permission denied for \w+ [\w.]+"
)
_LOST = re.compile(
    r"server closed the connection|terminating connection|connection (?:to server|reset|not open|has been closed)|"
    r"no connection to the server|could not (?:receive|send) data|PQgetCopyData|SSL (?:SYSCALL|connection)",
    re.IGNORECASE,
)


class ConnectionLostError(PipelineError):
    """The server cannot be reached, or went away in the middle; what was not committed is not there."""


class PostgresError(PipelineError):
    """The server refused a statement. `sqlstate` is its code, None where it gave none."""

    def __init__(self, sentence: str, sqlstate: str | None) -> None:
        super().__init__(sentence)
        self.sqlstate = sqlstate


class Session:
    """One transaction. `where` is how sentences call the server."""

    def __init__(self, connection: Connection, where: str) -> None:
        self._connection = connection
        self.where = where

    def rows(self, statement: str, parameters: Sequence[str | int | None] = ()) -> list[Any]:
        """The rows of a query that has few. `$1` is the first parameter."""
        with self._cursor() as cursor:
            cursor.execute(statement, tuple(parameters) or None)
            return list(cursor.fetchall())

    def run(self, statement: str, parameters: Sequence[str | int | None] = ()) -> int:
        """Runs a statement; how many rows it wrote or removed, which is not known of one with parameters: 0."""
        with self._cursor() as cursor:
            cursor.execute(statement, tuple(parameters) or None)
            return max(cursor.rowcount, 0)

    def fill(self, temporary: str, batches: pa.RecordBatchReader) -> None:
        """Streams into a temporary table that has these columns."""
        with self._cursor() as cursor:
            cursor.adbc_ingest(temporary, batches, mode="append", temporary=True)

    def described(self, query: str) -> pa.Schema:
        """What a query would return. Its fields' metadata says `POSTGRESQL:type`, and `:typmod` of numbers."""
        with self._cursor() as cursor:
            return cursor.adbc_execute_schema(query)

    @contextmanager
    def streamed(self, query: str) -> Iterator[pa.RecordBatchReader]:
        """What a query returns, a part at a time. Errors while it is read are for `problem_of`."""
        with self._cursor() as cursor:
            cursor.execute(query)
            yield cursor.fetch_record_batch()

    def commit(self) -> None:
        import adbc_driver_manager as adbc

        try:
            self._connection.commit()
        except adbc.Error as error:
            problem = self.problem_of(error)
            if isinstance(problem, ConnectionLostError):
                problem = ConnectionLostError(
                    f"The connection to {self.where} broke while the last step was confirmed, so all of it is done or "
                    "nothing; look at the server, then call again: it is the same either way."
                )
            raise problem from None

    def problem_of(self, error: BaseException) -> PipelineError:
        """The sentence for an error of this session's."""
        text = str(error)
        if isinstance(error, PipelineError):
            return error
        if _LOST.search(text):
            return ConnectionLostError(
                f"The connection to {self.where} broke in the middle, so nothing was changed there; look at the "
                "server, then call again."
            )
        state = getattr(error, "sqlstate", None)
        if state in ("55P03", "40P01"):
            return PostgresError(
                f"Another session kept a lock in {self.where} for too long; wait for it or end it, then call again.",
                state,
            )
        return PostgresError(f"{self.where} says: {_said(error, state)}.", state)

    @contextmanager
    def _cursor(self) -> Iterator[Cursor]:
        import adbc_driver_manager as adbc

        cursor = self._connection.cursor()
        try:
            yield cursor
        except (adbc.Error, OSError) as error:
            if isinstance(error, OSError) and not _is_ours(error):
                raise
            raise self.problem_of(error) from None
        finally:
            with suppress(adbc.Error):
                cursor.close()


@contextmanager
def session(url_env: str, *, field: str, read_only: bool = False) -> Iterator[Session]:
    """A transaction on the Postgres that an environment variable names; it ends in nothing unless committed.

    Args:
        url_env: the environment variable.
        field: what of the declaration named it, for sentences.
        read_only: whether it sees one snapshot and may write nothing.

    Raises:
        ConfigurationError: the variable is not set, a package is missing, or the server refuses to let us in.
        ConnectionLostError: the server does not answer, or went away.
        PostgresError: it refused a statement.
    """
    where = f"the Postgres of {url_env}"
    try:
        import adbc_driver_manager as adbc
        from adbc_driver_postgresql import dbapi  # type: ignore[import-untyped]
    except ImportError:
        raise ConfigurationError(
            f"{field}: to reach a Postgres, packages are missing; run: pip install 'batch-pipeline[postgres]'."
        ) from None
    url = (os.environ.get(url_env) or "").strip()
    if not url:
        raise ConfigurationError(
            f"{field}: the environment variable {url_env} is not set; let it hold a connection string such as "
            "postgresql://user@host:5432/database."
        )
    try:
        connection = dbapi.connect(_prepared(url))
    except adbc.Error as error:
        raise _not_let_in(field, where, str(error)) from None
    try:
        one = Session(connection, where)
        kind = "REPEATABLE READ, READ ONLY" if read_only else "READ COMMITTED"
        one.run(f"SET TRANSACTION ISOLATION LEVEL {kind}")
        # What depends on a server's or an account's habits, values as text above all.
        one.run("SET LOCAL client_encoding = 'UTF8'")
        one.run("SET LOCAL DateStyle = 'ISO'")
        one.run("SET LOCAL IntervalStyle = 'postgres'")
        one.run("SET LOCAL TimeZone = 'UTC'")
        one.run("SET LOCAL extra_float_digits = 1")
        one.run("SET LOCAL standard_conforming_strings = on")
        one.run(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
        yield one
    finally:
        with suppress(adbc.Error):
            connection.rollback()
        with suppress(adbc.Error, RuntimeError):
            connection.close()


def _prepared(url: str) -> str:
    """As libpq takes it. A server that does not answer is not waited for without an end."""
    text = _DRIVER.sub("postgresql://", url)
    if "connect_timeout" in text or "PGCONNECT_TIMEOUT" in os.environ:
        return text
    if not text.startswith("postgresql://"):
        return f"{text} connect_timeout={_CONNECT_SECONDS}"
    return f"{text}{'&' if '?' in text else '?'}connect_timeout={_CONNECT_SECONDS}"


def _not_let_in(field: str, where: str, said: str) -> PipelineError:
    """What libpq says of a string that it cannot read repeats parts of it, so little of it is said again."""
    if "database" in said and "does not exist" in said:
        return ConfigurationError(
            f"{field}: {where} has no database of that name; mend the string."
        )
    if _REFUSED.search(said):
        return ConfigurationError(
            f"{field}: {where} refuses the account (its name, its password, SSL or the server's pg_hba.conf); mend "
            "the connection string or the server's settings."
        )
    if "could not translate host name" in said:
        return ConnectionLostError(f"{field}: the host of {where} is not known; mend the string.")
    if "refused" in said or "timeout" in said or "server" in said:
        return ConnectionLostError(
            f"{field}: {where} does not answer; see whether it runs and lets this host in, then call again."
        )
    return ConfigurationError(
        f"{field}: what the variable of {where.removeprefix('the Postgres of ')} holds is no connection string; write "
        "it as postgresql://user@host:5432/database, with special characters of a password percent-encoded."
    )


def _said(error: BaseException, state: str | None) -> str:
    details = dict(getattr(error, "details", None) or ())
    primary = details.get(b"PG_DIAG_MESSAGE_PRIMARY") or details.get("PG_DIAG_MESSAGE_PRIMARY")
    if state and state.startswith(_ABOUT_OBJECTS) and primary:
        text = primary.decode(errors="replace") if isinstance(primary, bytes) else str(primary)
        return text.strip().rstrip(".")
    if found := _STOPPED.search(str(error)):
        return found[0]
    if state:
        return f"a value cannot be taken or converted (SQLSTATE {state})"
    return "a row makes the query fail, such as a division by zero or a text that is no number"


def _is_ours(error: OSError) -> bool:
    """Arrow makes an OSError of what the driver says in the middle of a stream."""
    return "[libpq]" in str(error)
