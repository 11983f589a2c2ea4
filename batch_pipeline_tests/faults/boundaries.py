"""Every durable boundary of a process, seen at its edge: nothing here names a function of the product.

`install` makes this process report each step after which something lasts, and die by SIGKILL at one of them.

- Files: Python's audit events of os and open: rename, remove, mkdir, rmdir, link, truncate, and opening to write.
- SQLite: every connection gets a trace: each COMMIT, and each writing statement outside a transaction, is a
  boundary. A connection that is opened another way than by `connect` is reported by its audit event.
- Postgres, where the ledger is there: each COMMIT, and each writing statement outside a transaction, of psycopg.
- DuckDB: every connection to a file: each writing statement, COMMIT and close.
- HTTP: the transport of the SDK, before the call goes out, and when its answer is there but nobody saw it. Any
  other socket that connects to a network address counts too, so that another client is not missed.

Before and after: commits and HTTP calls have a boundary on either side. For files there is one before; what
lies after it is the same as before the next one, since nothing lasts in between, and the last one is the end of
the process. What C++ writes by itself (DuckDB's COPY, Parquet files) has no event: it becomes visible by a rename,
which has; `test_boundaries` compares the files that a run leaves with those whose writing was seen.

Boundaries of Dagster's own storage, everything below its home, are counted apart.
"""

import json
import os
import re
import signal
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

PRODUCT, DAGSTER = "product", "dagster"
# The kind of a SQLite connection whose commits cannot be seen.
UNWATCHED = "sqlite unwatched"

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
# No state: devices (but the file system in memory), this process's own view of itself, and compiled modules.
_NO_STATE = re.compile(r"^/(dev(?!/shm)|proc|sys)/|__pycache__|\.pyc")
_SQL_WRITES = frozenset(
    [
        "INSERT",
        "UPDATE",
        "DELETE",
        "REPLACE",
        "CREATE",
        "ALTER",
        "DROP",
        "VACUUM",
        "REINDEX",
        "ATTACH",
    ]
)


@dataclass(frozen=True)
class Boundary:
    """One boundary: its number among those of the same owner (from 1), its kind, and what was done.

    `repeats`: nothing lasting has happened since the one before, so a death here leaves the same.
    """

    owner: str
    number: int
    kind: str
    label: str
    target: str = ""
    repeats: bool = False


def read_log(path: Path) -> list[Boundary]:
    """The boundaries that a process has met, in order."""
    if not path.is_file():
        return []
    return [Boundary(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]


class Boundaries:
    """Counts the boundaries of this process.

    Args:
        log: a file that gets a line of JSON for each; the last one is that of the death.
        dagster_home: what lies below it belongs to Dagster.
        fatal: owner and number of the boundary at which the process dies; None: it lives.
        watched: a folder that is compared at each boundary, to tell those that repeat; None: none is said to.
    """

    def __init__(
        self,
        log: Path,
        dagster_home: Path,
        fatal: tuple[str, int] | None = None,
        watched: Path | None = None,
    ) -> None:
        self._watched = watched
        self._seen: object = None
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._dagster = str(dagster_home)
        self._fatal = fatal
        self._counts = {PRODUCT: 0, DAGSTER: 0}
        self._lock = threading.RLock()
        self.here = threading.local()
        self._process = os.getpid()

    def install(self, *kinds: str) -> None:
        """Hooks the edges named: files, sqlite, postgres, duckdb, http. Lasts as long as the process.

        Without names all of them; postgres only where the ledger is there.
        """
        shared = ("postgres",) if os.environ.get("BATCH_PIPELINE_LEDGER") else ()
        wanted = kinds or ("files", "sqlite", *shared, "duckdb", "http")
        hooks: list[Callable[[str, tuple[Any, ...]], None]] = []
        if "files" in wanted:
            hooks.append(_Files(self))
        if "sqlite" in wanted:
            hooks.append(_Sqlite(self))
        if "postgres" in wanted:
            _hook_postgres(self)
        if "duckdb" in wanted:
            _hook_duckdb(self)
        if "http" in wanted:
            hooks.append(_Network(self))

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            if getattr(self.here, "looking", False):
                return
            self.here.looking = True
            try:
                for each in hooks:
                    each(event, arguments)
            finally:
                self.here.looking = False

        sys.addaudithook(hook)

    def met(self, kind: str, label: str, target: str = "") -> None:
        """One boundary. Does not return from the fatal one."""
        if os.getpid() != self._process or _NO_STATE.search(target):
            return
        owner = DAGSTER if target.startswith(self._dagster) else PRODUCT
        with self._lock:
            self._counts[owner] += 1
            repeats = self._repeats(kind)
            met = Boundary(owner, self._counts[owner], kind, label, target, repeats)
            os.write(self._log, json.dumps(asdict(met)).encode() + b"\n")
            if (owner, met.number) == self._fatal:
                os.kill(self._process, signal.SIGKILL)
                signal.pause()

    def _repeats(self, kind: str) -> bool:
        if self._watched is None:
            return False
        # What a call did lies elsewhere.
        seen = frozenset(_look(self._watched))
        before, self._seen = self._seen, seen
        return seen == before and kind not in ("http answer", "postgres committed")


class _Files:
    """Audit events of the file system that change something."""

    def __init__(self, boundaries: Boundaries) -> None:
        self._met = boundaries.met

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            self._open(*arguments)
        elif event in ("os.rename", "os.link", "os.symlink"):
            _source, target, *folders = arguments
            path = _path(target, folders[1] if len(folders) > 1 else -1)
            self._met(event, f"{event[3:]} {_shape(path)}", path)
        elif event in ("os.mkdir", "os.remove", "os.rmdir", "os.truncate", "os.chmod"):
            path = _path(arguments[0], arguments[-1] if event != "os.truncate" else -1)
            # An attempt that changes nothing is none.
            there = os.path.lexists(path)
            possible = not there and os.path.isdir(os.path.dirname(path))  # noqa: PTH112, PTH120
            if possible if event == "os.mkdir" else there:
                self._met(event, f"{event[3:]} {_shape(path)}", path)

    def _open(self, path: Any, _mode: str | None, flags: int) -> None:
        if isinstance(path, int) or not isinstance(flags, int) or not flags & _WRITING:
            return
        name = _path(path, -1)
        if name.endswith(".lock") and os.path.exists(name):  # noqa: PTH110 - an event, not a Path
            return  # a lock has no content: only its creation lasts
        self._met("open", f"open {_shape(name)}", name)


class _Sqlite:
    """Every SQLite connection, whoever opens it."""

    def __init__(self, boundaries: Boundaries) -> None:
        self._boundaries = boundaries
        self._here = boundaries.here
        after = self._after

        class Connection(sqlite3.Connection):
            """One that also says when a commit is done."""

            def commit(self) -> None:
                super().commit()
                after(self)

        original = sqlite3.connect
        self._committed: dict[int, tuple[str, str]] = {}

        @wraps(original)
        def connect(database: Any, *arguments: Any, **options: Any) -> Any:
            self._here.watched = True
            try:
                connection = original(database, *arguments, **{"factory": Connection, **options})
            finally:
                self._here.watched = False
            if _is_file(str(database)):
                connection.set_trace_callback(self._trace(id(connection), str(database)))
            return connection

        sqlite3.connect = sqlite3.dbapi2.connect = connect

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        # At its event a connection takes no trace yet; one that is made past `connect` must not go unnoticed.
        if event == "sqlite3.connect" and not getattr(self._here, "watched", False):
            database = str(arguments[0])
            if _is_file(database):
                self._boundaries.met(UNWATCHED, "connect", database)

    def _trace(self, connection: int, database: str) -> Callable[[str], None]:
        written: list[str] = []
        transaction = [False]

        def seen(statement: str) -> None:
            words = statement.replace('"', "").split(None, 3)[:3]
            first = words[0].upper().rstrip(";") if words else ""
            if first == "BEGIN":
                transaction[0] = True
                written.clear()
            elif first == "ROLLBACK" and "TO" not in (word.upper() for word in words):
                transaction[0] = False
            elif first in ("COMMIT", "END"):
                transaction[0] = False
                if written:
                    self._boundaries.met("sqlite commit", f"commit {written[-1]}", database)
                    self._committed[connection] = written[-1], database
                    written.clear()
            elif first in _SQL_WRITES:
                written.append(" ".join(words))
                if not transaction[0]:
                    self._boundaries.met("sqlite statement", " ".join(words), database)
                    written.clear()

        return seen

    def _after(self, connection: sqlite3.Connection) -> None:
        done = self._committed.pop(id(connection), None)
        if done is not None:
            self._boundaries.met("sqlite committed", f"committed {done[0]}", done[1])


def _is_file(database: str) -> bool:
    return bool(database) and database != ":memory:" and "mode=memory" not in database


def _hook_postgres(boundaries: Boundaries) -> None:
    import psycopg

    execute, commit = psycopg.Cursor.execute, psycopg.Connection.commit
    written: WeakKeyDictionary[Any, list[str]] = WeakKeyDictionary()
    begun: WeakSet[Any] = WeakSet()

    def done(connection: Any, finish: Callable[[], Any]) -> Any:
        labels = written.pop(connection, None)
        begun.discard(connection)
        if labels:
            boundaries.met("postgres commit", f"commit {labels[-1]}", "postgres")
        result = finish()
        if labels:
            boundaries.met("postgres committed", f"committed {labels[-1]}", "postgres")
        return result

    @wraps(execute)
    def watched_execute(cursor: Any, query: Any, *arguments: Any, **options: Any) -> Any:
        words = str(query).replace('"', "").split(None, 3)[:3]
        first = words[0].upper().rstrip(";") if words else ""
        connection = cursor.connection

        def run() -> Any:
            return execute(cursor, query, *arguments, **options)

        if first == "BEGIN":
            begun.add(connection)
        elif first == "ROLLBACK":
            begun.discard(connection)
            written.pop(connection, None)
        elif first == "COMMIT":
            return done(connection, run)
        elif first in _SQL_WRITES:
            written.setdefault(connection, []).append(" ".join(words))
            if connection.autocommit and connection not in begun:
                return done(connection, run)
        return run()

    @wraps(commit)
    def watched_commit(connection: Any) -> None:
        done(connection, lambda: commit(connection))

    classes: Any = psycopg.Cursor, psycopg.Connection
    classes[0].execute, classes[1].commit = watched_execute, watched_commit


def _hook_duckdb(boundaries: Boundaries) -> None:
    import duckdb

    original = duckdb.connect

    @wraps(original)
    def connect(*arguments: Any, **options: Any) -> Any:
        connection = original(*arguments, **options)
        database = str(arguments[0] if arguments else options.get("database", ":memory:"))
        if database.startswith(":memory:") or not database or options.get("read_only"):
            return connection
        return _Duck(connection, database, boundaries)

    vars(duckdb)["connect"] = connect


class _Duck:
    """A DuckDB connection to a file, which says what it is about to write and what it has committed."""

    _RUN = ("execute", "executemany", "sql", "query", "from_query")

    def __init__(self, connection: Any, database: str, boundaries: Boundaries) -> None:
        self._connection = connection
        self._database = database
        self._boundaries = boundaries
        self._transaction = False

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._connection, name)
        if name in self._RUN:
            return lambda query, *arguments, **options: self._run(found, query, arguments, options)
        return found

    def __enter__(self) -> "_Duck":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def cursor(self) -> "_Duck":
        return _Duck(self._connection.cursor(), self._database, self._boundaries)

    def begin(self) -> Any:
        return self.execute("BEGIN")

    def commit(self) -> Any:
        return self.execute("COMMIT")

    def append(self, table: str, *arguments: Any, **options: Any) -> Any:
        self._met("statement", f"APPEND {table}")
        return self._same(self._connection.append(table, *arguments, **options))

    def close(self) -> None:
        self._met("close", "close")
        self._connection.close()
        self._met("closed", "closed")

    def _run(self, found: Any, query: Any, arguments: Any, options: Any) -> Any:
        committed = []
        text = query if isinstance(query, str) else str(getattr(query, "query", query))
        for statement in self._connection.extract_statements(text):
            kind = statement.type.name
            words = " ".join(statement.query.split(None, 3)[:3])
            first = words.split()[0].upper().rstrip(";") if words else ""
            if kind == "TRANSACTION":
                ends = first in ("COMMIT", "END")
                self._transaction = first == "BEGIN"
                if ends:
                    self._met("commit", "COMMIT")
                    committed.append("COMMIT")
            elif kind not in (
                "SELECT",
                "SET",
                "EXPLAIN",
                "RELATION",
                "VARIABLE_SET",
                "PRAGMA",
                "LOAD",
            ):
                if "TEMP" in words.upper().split():
                    continue
                self._met("statement", words)
                if not self._transaction:
                    committed.append(words)
        result = self._same(found(query, *arguments, **options))
        for words in committed:
            self._met("committed", words)
        return result

    def _same(self, result: Any) -> Any:
        return self if result is self._connection else result

    def _met(self, kind: str, label: str) -> None:
        self._boundaries.met(f"duckdb {kind}", label, self._database)


class _Network:
    """The SDK's transport, and every other socket that connects to a network address."""

    def __init__(self, boundaries: Boundaries) -> None:
        import httpx2

        self._boundaries = boundaries
        self._here = boundaries.here
        here, original = self._here, httpx2.HTTPTransport.handle_request

        @wraps(original)
        def handle_request(transport: Any, request: Any) -> Any:
            # An id tells nothing, and differs in every run.
            path = re.sub(r"msgbatch_\w+", "ID", request.url.path)
            boundaries.met("http request", f"{request.method} {path}")
            here.transport = True
            try:
                response = original(transport, request)
            finally:
                here.transport = False
            boundaries.met("http answer", f"{request.method} {path} {response.status_code}")
            return response

        vars_of: Any = httpx2.HTTPTransport
        vars_of.handle_request = handle_request

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event != "socket.connect" or getattr(self._here, "transport", False):
            return
        address = arguments[1]
        if isinstance(address, tuple):
            self._boundaries.met("socket", f"connect to {address[0]}")


def _look(folder: Path) -> Iterator[tuple[str, int, int]]:
    """Every file and folder below, with its size and time. SQLite's shared memory is rebuilt, and left out."""
    with suppress(FileNotFoundError), os.scandir(folder) as entries:
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            if not entry.name.endswith("-shm"):
                yield entry.path, found.st_size, found.st_mtime_ns
            if entry.is_dir(follow_symlinks=False):
                yield from _look(Path(entry.path))


def _path(path: Any, folder: Any) -> str:
    """The absolute path of an audit event, which may be relative to an open folder."""
    name = os.fsdecode(path) if not isinstance(path, int) else f"/proc/self/fd/{path}"
    if isinstance(folder, int) and folder >= 0 and not os.path.isabs(name):  # noqa: PTH117
        name = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)  # noqa: PTH115, PTH118
    return os.path.abspath(name)  # noqa: PTH100


def _shape(path: str) -> str:
    """A path without what differs from run to run: its last two parts, ids and numbers left out."""
    shaped = re.sub(r"[0-9a-f]{8,}|\d+", "N", "/".join(path.split("/")[-2:]))
    return re.sub(r"tmp[\w]{8}(?=/|$)", "tmpN", shaped)
