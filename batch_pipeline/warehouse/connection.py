"""Opens the warehouse: the DuckDB file, or the DuckLake that the settings name.

DuckDB locks its file against every other process, readers too. So: open late, close soon, wait for others with a
bound, and say who to look for when it lasts. A DuckLake locks nothing; there, whoever commits second begins again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import duckdb
from filelock import FileLock
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.obstacles import is_no_room
from batch_pipeline.rows.durable import replacing
from batch_pipeline.rows.engine import register_stores
from batch_pipeline.settings import Settings
from batch_pipeline.warehouse.place import Where, lake_of, state_of
from batch_pipeline.warehouse.schema import bring_up_to_date, is_current

LOCK_WAIT_SECONDS = 120
# A catalogue that is started again is back by then; whoever meets others at each commit has had its turn.
LAKE_WAIT_SECONDS = 120

Done = TypeVar("Done")

# The lakes that this process has found, or made, at this release's schema.
_current: set[str] = set()


class WarehouseLockedError(PipelineError):
    """Another process kept the warehouse's file open for too long."""


def warehouse_path(state: Path) -> Path:
    return state / "warehouse.duckdb"


@contextmanager
def warehouse(
    where: Where, *, read_only: bool = False, wait_seconds: float | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse, for one short piece of work.

    Args:
        where: the settings, or a state folder for the DuckDB file in it.
        read_only: whether nothing will be written; it waits for the file's writers all the same.
        wait_seconds: how long to wait for others, LOCK_WAIT_SECONDS by default.

    Raises:
        WarehouseLockedError: others keep the file open for longer.
        WarehouseAwayError: the lake's catalogue cannot be reached.
        PipelineError: it cannot be opened.
        ConfigurationError: a newer release wrote it, or DuckDB lacks the extensions that it needs.
    """
    wait = LOCK_WAIT_SECONDS if wait_seconds is None else wait_seconds
    settings = lake_of(where)
    opening = (
        _file(warehouse_path(state_of(where)), wait, read_only=read_only)
        if settings is None
        else _lake(settings, read_only=read_only)
    )
    with opening as connection:
        yield connection


def in_transaction(
    where: Where,
    work: Callable[[duckdb.DuckDBPyConnection], Done],
    afterwards: Callable[[duckdb.DuckDBPyConnection], None] | None = None,
) -> Done:
    """Does `work` in one transaction and commits it: all of it, or nothing. Then `afterwards`, while it is open.

    In a DuckLake it is done again, on a new connection, where another transaction came first or the catalogue went
    away; so `work` may keep nothing of an earlier try.

    Raises as `warehouse` does, and what `work` raises; PipelineError where others came first for too long.
    """
    if lake_of(where) is None:
        return _once(where, work, afterwards)
    from batch_pipeline.warehouse.ducklake import WarehouseAwayError, is_conflict

    try:
        for attempt in Retrying(
            retry=retry_if_exception(lambda e: is_conflict(e) or isinstance(e, WarehouseAwayError)),
            stop=stop_after_delay(LAKE_WAIT_SECONDS),
            wait=wait_random_exponential(multiplier=0.1, max=5),
            reraise=True,
        ):
            with attempt:
                return _once(where, work, afterwards)
    except duckdb.Error as error:
        if not is_conflict(error):
            raise
        raise PipelineError(
            f"Other transactions came first for {LAKE_WAIT_SECONDS} s, so nothing was written to the warehouse; "
            "call again."
        ) from None
    raise AssertionError("unreachable")


def check_warehouse(settings: Settings) -> None:
    """Whether a DuckLake can be opened and written, before money is spent. A file shows when it is needed.

    Raises ConfigurationError or WarehouseAwayError.
    """
    if settings.warehouse is not None:
        with warehouse(settings):
            pass


def _once(
    where: Where,
    work: Callable[[duckdb.DuckDBPyConnection], Done],
    afterwards: Callable[[duckdb.DuckDBPyConnection], None] | None,
) -> Done:
    with warehouse(where) as connection:
        connection.execute("BEGIN")
        done = work(connection)
        connection.execute("COMMIT")
        if afterwards is not None:
            afterwards(connection)
        return done


@contextmanager
def _lake(settings: Settings, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    from batch_pipeline.warehouse.ducklake import lake

    _make_current(settings)
    with lake(settings, read_only=read_only) as connection:
        yield connection


def _make_current(settings: Settings) -> None:
    """Makes the lake where there is none, or brings it up to date; once for a process."""
    from batch_pipeline.warehouse.ducklake import is_conflict, keep_metrics_in_catalogue, lake

    assert settings.warehouse is not None
    if settings.warehouse in _current:
        return
    name = "of BATCH_PIPELINE_WAREHOUSE"
    # Whoever does it at the same moment as another finds it done.
    for attempt in Retrying(
        retry=retry_if_exception(is_conflict),
        stop=stop_after_delay(LAKE_WAIT_SECONDS),
        wait=wait_random_exponential(multiplier=0.1, max=3),
        reraise=True,
    ):
        with attempt, lake(settings) as connection:
            if not is_current(connection, name):
                bring_up_to_date(connection, name)
                keep_metrics_in_catalogue(connection)
    _current.add(settings.warehouse)


@contextmanager
def _file(path: Path, wait: float, *, read_only: bool) -> Iterator[duckdb.DuckDBPyConnection]:
    _create(path)
    connection = _open(path, wait, read_only=read_only)
    try:
        connection.execute("SET enable_progress_bar = false")
        register_stores(connection)
        if not read_only:
            bring_up_to_date(connection, str(path))
        elif not is_current(connection, str(path)):
            connection.close()
            with _file(path, wait, read_only=False):
                pass  # only a writer can migrate
            connection = _open(path, wait, read_only=True)
        yield connection
    finally:
        connection.close()


def _create(path: Path) -> None:
    """Makes an empty warehouse where there is none: whole, or not at all.

    DuckDB would write it in place; on a full disk that leaves a file that it cannot open ever again.
    """
    if path.exists():
        return
    locks = path.parent / "locks"
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / "warehouse.lock", timeout=LOCK_WAIT_SECONDS):
        if not path.exists():
            with replacing(path) as temporary:
                duckdb.connect(str(temporary)).close()


def _open(path: Path, wait: float, *, read_only: bool) -> duckdb.DuckDBPyConnection:
    try:
        for attempt in Retrying(
            retry=retry_if_exception(_is_locked),
            stop=stop_after_delay(wait),
            wait=wait_random_exponential(multiplier=0.1, max=3),
            reraise=True,
        ):
            with attempt:
                return duckdb.connect(str(path), read_only=read_only)
    except duckdb.IOException as error:
        if is_no_room(error):
            raise
        if "newer version of DuckDB" in str(error):
            raise ConfigurationError(
                f"A newer DuckDB than the installed {duckdb.__version__} wrote the warehouse {path}; install that "
                "one again, or see docs/scaling.md for how its tables move."
            ) from None
        if not _is_locked(error):
            raise PipelineError(
                f"The warehouse {path} cannot be opened: {str(error).splitlines()[0].rstrip('.')}."
            ) from None
        raise WarehouseLockedError(
            f"{path} was locked by another process for {wait:g} s; close any DuckDB shell or "
            "notebook that has it open, then launch this again."
        ) from None
    raise AssertionError("unreachable")


def _is_locked(error: BaseException) -> bool:
    return isinstance(error, duckdb.IOException) and "lock on file" in str(error)
