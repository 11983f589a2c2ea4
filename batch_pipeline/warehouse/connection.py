"""The warehouse's DuckDB file. DuckDB locks it against every other process, readers too.

So: open late, close soon, wait for others with a bound, and say who to look for when it lasts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from filelock import FileLock
from tenacity import Retrying, retry_if_exception, stop_after_delay, wait_random_exponential

from batch_pipeline.errors import PipelineError
from batch_pipeline.obstacles import is_no_room
from batch_pipeline.rows.durable import replacing
from batch_pipeline.warehouse.schema import bring_up_to_date, is_current

LOCK_WAIT_SECONDS = 120


class WarehouseLockedError(PipelineError):
    """Another process kept the warehouse's file open for too long."""


def warehouse_path(state: Path) -> Path:
    return state / "warehouse.duckdb"


@contextmanager
def warehouse(
    state: Path, *, read_only: bool = False, wait_seconds: float | None = None
) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse, for one short piece of work.

    Args:
        state: the state folder.
        read_only: whether nothing will be written; it waits for writers all the same.
        wait_seconds: how long to wait for others, LOCK_WAIT_SECONDS by default.

    Raises:
        WarehouseLockedError: others keep it open for longer.
        PipelineError: the file cannot be opened.
        ConfigurationError: a newer release wrote it.
    """
    wait = LOCK_WAIT_SECONDS if wait_seconds is None else wait_seconds
    path = warehouse_path(state)
    _create(path)
    connection = _open(path, wait, read_only=read_only)
    try:
        connection.execute("SET enable_progress_bar = false")
        if not read_only:
            bring_up_to_date(connection, path)
        elif not is_current(connection, path):
            connection.close()
            with warehouse(state, wait_seconds=wait):
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
