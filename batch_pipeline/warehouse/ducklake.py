"""The warehouse in a DuckLake: a catalogue in Postgres, Parquet files beside the rows, any number of writers.

Nothing is locked: two transactions that touch the same table meet at their commit, where the second fails and is
taken again. DuckDB needs two extensions for it, which are never fetched by us: a night must not wait for a host that
does not answer.
"""

import atexit
import os
import re
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import duckdb

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.rows.engine import opened
from batch_pipeline.rows.place import shared
from batch_pipeline.rows.query import quoted
from batch_pipeline.settings import Settings
from batch_pipeline.workload.data_file import literal

CATALOG = "warehouse"
# The newest DuckDB whose extensions PyPI has.
EXTENSIONS_VERSION = "1.5.5"
_CONNECT_SECONDS = 10
_MEMORY = 1 << 30
# Metrics are a few rows for each load. They stay in the catalogue: a Parquet file for each would be thousands of
# small files after a year, and each look back would read them all.
_METRICS_INLINED = 100_000
# What a second transaction is told at its commit, and whoever creates a catalogue at the same moment as another.
_CONFLICT = re.compile(
    r"transaction conflict|conflict on|could not serialize access|deadlock detected|"
    r"duplicate key value violates unique constraint|Failed to initialize DuckLake.*already exists",
    re.IGNORECASE | re.DOTALL,
)
_AWAY = re.compile(
    r"connection to server|server closed the connection|terminating connection|no connection to the server|"
    r"could not connect|Unable to connect|SSL connection has been closed|connection pointer is NULL|"
    r"the database system is|PQexec|Connection refused|could not receive data|could not send data",
    re.IGNORECASE,
)
_REASON = re.compile(r"(?:FATAL|failed|ERROR):\s+(?!FATAL|ERROR)(?P<reason>[^\n]*)")
_NO_ADDRESS = re.compile(
    r'missing "="|invalid (?:connection option|URI|port|integer)|unterminated quoted'
)


class WarehouseAwayError(PipelineError):
    """The catalogue's server cannot be reached, or went away."""


@contextmanager
def lake(settings: Settings, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection of its own, with the lake as its default catalogue, for one short piece of work.

    Raises:
        ConfigurationError: DuckDB cannot load the extensions, or the catalogue refuses us or is another's.
        WarehouseAwayError: the catalogue cannot be reached, or went away meanwhile.
        duckdb.Error: whatever else the work meets; see `is_conflict`.
    """
    url = settings.warehouse
    assert url is not None
    connection = opened(settings.state / "tmp", _MEMORY)
    try:
        connection.execute("SET enable_progress_bar = false")
        load_extensions(connection, settings)
        _attach(connection, settings, url, read_only=read_only)
        connection.execute(f"USE {CATALOG}")
        try:
            yield connection
        except duckdb.Error as error:
            if _AWAY.search(str(error)) and not is_conflict(error):
                raise _away(error) from None
            raise
    finally:
        connection.close()


def read(settings: Settings, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    """The rows of a query on a connection that this process keeps: opening one takes a tenth of a second.

    A table that nobody has written yet has none.

    Raises as `lake` does.
    """
    with _kept.lock:
        for fresh in (False, True):
            try:
                return _kept.connection(settings).execute(query, values).fetchall()
            except duckdb.CatalogException:
                return []
            except duckdb.Error as error:
                # The catalogue may have been started again since it was kept.
                _kept.close()
                if fresh:
                    raise _away(error) if _AWAY.search(str(error)) else error from None
    raise AssertionError("unreachable")


class _Kept:
    """The connection that reads, while there is one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._stack = ExitStack()
        self._of: str | None = None
        self._connection: duckdb.DuckDBPyConnection | None = None

    def connection(self, settings: Settings) -> duckdb.DuckDBPyConnection:
        if self._connection is None or self._of != settings.warehouse:
            self.close()
            self._connection = self._stack.enter_context(lake(settings, read_only=True))
            self._of = settings.warehouse
        return self._connection

    def close(self) -> None:
        self._connection = None
        self._stack.close()


_kept = _Kept()
# Of a process that this one was forked from: its threads are not here, so it can't be closed either.
_parents: list[_Kept] = []


def _after_fork() -> None:
    global _kept  # noqa: PLW0603 - the parent's, with its lock as it was
    _parents.append(_kept)
    _kept = _Kept()


os.register_at_fork(after_in_child=_after_fork)
atexit.register(lambda: _kept.close())  # noqa: PLW0108 - the one there is then


def is_conflict(error: BaseException) -> bool:
    """Whether another transaction came first, so that the same work may be done again."""
    return isinstance(error, duckdb.Error) and bool(_CONFLICT.search(str(error)))


def snapshot(connection: duckdb.DuckDBPyConnection) -> int | None:
    """The number of the snapshot that the connection sees; `AT (VERSION => n)` reads it again."""
    found = connection.execute("FROM ducklake_current_snapshot(?)", [CATALOG]).fetchone()
    return None if found is None else int(found[0])


def load_extensions(connection: duckdb.DuckDBPyConnection, settings: Settings) -> None:
    """Loads what the lake needs: as pip's packages brought it, or as a person installed it in DuckDB.

    Raises ConfigurationError where there is none for this DuckDB.
    """
    names = _extensions(settings)
    for name in names:
        try:
            path = _packaged(name)
            connection.execute(f"LOAD {literal(str(path)) if path else quoted(name)}")
        except duckdb.Error:
            raise ConfigurationError(_no_extension(name, names)) from None


def data_path(settings: Settings) -> str:
    """The folder of the lake's Parquet files, beside the rows, with a slash at its end."""
    return f"{shared(settings)}/warehouse/"


def _extensions(settings: Settings) -> list[str]:
    catalogue = (settings.warehouse or "").removeprefix("ducklake:").partition(":")[0]
    known = {"postgres": "postgres_scanner", "sqlite": "sqlite_scanner"}
    found = ["ducklake", *([known[catalogue]] if catalogue in known else [])]
    # DuckLake wants it for such addresses, whoever reads and writes there.
    if data_path(settings).startswith(("s3://", "gs://", "gcs://", "r2://")):
        found.append("httpfs")
    return found


def _packaged(name: str) -> Path | None:
    """The file of PyPI's package, looked for without importing it: that would take the first DuckDB it finds."""
    found = find_spec(f"duckdb_extension_{name}")
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "extensions" / f"v{duckdb.__version__}"
    path = folder / f"{name}.duckdb_extension"
    return path if path.is_file() else None


def _no_extension(name: str, names: list[str]) -> str:
    packages = " ".join(
        f"duckdb-extension-{each.replace('_', '-')}=={EXTENSIONS_VERSION}" for each in names
    )
    return (
        f"BATCH_PIPELINE_WAREHOUSE names a DuckLake, and DuckDB {duckdb.__version__}, which is installed, has no "
        f"extension {name} that it can load; run `pip install duckdb=={EXTENSIONS_VERSION} {packages}`, or, where "
        f'extensions.duckdb.org answers, `{Path(sys.executable).name} -c "import duckdb; '
        f"duckdb.sql('INSTALL {name}')\"`."
    )


def _attach(
    connection: duckdb.DuckDBPyConnection, settings: Settings, url: str, *, read_only: bool
) -> None:
    path, root = data_path(settings), shared(settings)
    if isinstance(root, Path):
        Path(path).mkdir(mode=0o700, parents=True, exist_ok=True)
    else:
        from batch_pipeline.warehouse.lake_files import write_through

        write_through(connection, root)
    options = [f"DATA_PATH {literal(path)}", *(["READ_ONLY"] if read_only else [])]
    try:
        connection.execute(
            f"ATTACH {literal(_with_timeout(url))} AS {CATALOG} ({', '.join(options)})"
        )
    except duckdb.Error as error:
        if is_conflict(error):
            raise
        raise _refused(error, path) from None


def _with_timeout(url: str) -> str:
    """A host that swallows packets must not hold a run for minutes, as it would by the system's own patience."""
    if not url.startswith("ducklake:postgres:") or "connect_timeout" in url:
        return url
    rest = url.removeprefix("ducklake:postgres:")
    if rest.startswith(("postgres://", "postgresql://")):
        return f"{url}{'&' if '?' in rest else '?'}connect_timeout={_CONNECT_SECONDS}"
    return f"{url} connect_timeout={_CONNECT_SECONDS}"


def _refused(error: duckdb.Error, path: str) -> PipelineError:
    """The sentence for a catalogue that cannot be opened. DuckDB's own quotes the URL, and so the password."""
    text = str(error)
    if "does not match existing data path" in text:
        return ConfigurationError(
            f"The DuckLake of BATCH_PIPELINE_WAREHOUSE keeps its files in another folder than {path}; set "
            "BATCH_PIPELINE_ROWS as it was when the lake was made, the same on every host."
        )
    if "read-only" in text.casefold() and "initialize" in text.casefold():
        return WarehouseAwayError(
            "The DuckLake of BATCH_PIPELINE_WAREHOUSE is empty; it is made when a load is graded."
        )
    reason = _reason(text)
    if reason and re.search(r"authentication|does not exist|permission denied|pg_hba", reason):
        return ConfigurationError(
            f"The catalogue of BATCH_PIPELINE_WAREHOUSE refuses the connection: {reason}; mend the address, or "
            "let PGPASSWORD or ~/.pgpass say the password."
        )
    if _AWAY.search(text) and not _NO_ADDRESS.search(text):
        return _away(error)
    return ConfigurationError(
        "The DuckLake of BATCH_PIPELINE_WAREHOUSE cannot be opened; write its address as "
        "ducklake:postgres:dbname=... host=... user=..., and see that the database is there and is this account's "
        "to create tables in."
    )


def _away(error: duckdb.Error) -> WarehouseAwayError:
    reason = _reason(str(error))
    return WarehouseAwayError(
        f"The catalogue of BATCH_PIPELINE_WAREHOUSE cannot be reached{f' ({reason})' if reason else ''}; start it or "
        "mend the address, then call again: nothing is lost, and it goes on from here."
    )


def _reason(text: str) -> str | None:
    """What the server or the system said, without the address."""
    found = [match["reason"].strip().rstrip(".") for match in _REASON.finditer(text)]
    plain = [reason for reason in found if reason and "=" not in reason and "://" not in reason]
    return plain[-1] if plain else None


def keep_metrics_in_catalogue(connection: duckdb.DuckDBPyConnection) -> None:
    """Once the schema of the metrics is there."""
    connection.execute(
        f"CALL {CATALOG}.set_option('data_inlining_row_limit', {_METRICS_INLINED}, schema => 'metrics')"
    )
