"""The warehouse's DuckDB file. DuckDB locks it against every other process, readers too.

So: open late, close soon, wait for others with a bound, and say who to look for when it lasts.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb
from tenacity import Retrying, retry_if_exception_type, stop_after_delay, wait_random_exponential

from batch_pipeline.errors import PipelineError

LOCK_WAIT_SECONDS = 120


class WarehouseLockedError(PipelineError):
    """Another process kept the warehouse's file open for too long."""


def warehouse_path(state: Path) -> Path:
    return state / "warehouse.duckdb"


@contextmanager
def warehouse(state: Path, *, read_only: bool = False) -> Iterator[duckdb.DuckDBPyConnection]:
    """The warehouse, for one short piece of work.

    Raises WarehouseLockedError when others keep it open for LOCK_WAIT_SECONDS.
    """
    path = warehouse_path(state)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        for attempt in Retrying(
            retry=retry_if_exception_type(duckdb.IOException),
            stop=stop_after_delay(LOCK_WAIT_SECONDS),
            wait=wait_random_exponential(multiplier=0.1, max=3),
            reraise=True,
        ):
            with attempt:
                connection = duckdb.connect(str(path), read_only=read_only)
    except duckdb.IOException as error:
        if "lock" not in str(error).lower():
            raise
        raise WarehouseLockedError(
            f"{path} was locked by another process for {LOCK_WAIT_SECONDS} s; close any DuckDB shell or "
            "notebook that has it open, then launch this again."
        ) from None
    try:
        yield connection
    finally:
        connection.close()
