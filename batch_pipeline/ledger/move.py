"""A ledger from one database into another: whole, once, and the old one says where it went."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, func, insert, select, union

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger.home import Home, SqliteHome
from batch_pipeline.ledger.records import ChunkState
from batch_pipeline.ledger.schema import bring_up_to_date, mark_as_moved
from batch_pipeline.ledger.store import BUSY_WAIT_SECONDS
from batch_pipeline.ledger.tables import batches, chunks, holds, loads, metadata

_AT_A_TIME = 5_000
# Who holds a load is nothing to be moved.
_TABLES = [table for table in metadata.sorted_tables if table is not holds]


@dataclass(frozen=True)
class Moved:
    """What was moved: records by table; and whether this call found it done but for the last step."""

    records: dict[str, int]
    resumed: bool


def move_ledger(source: str, target: str) -> Moved:
    """Copies every record of the ledger at `source` to the one at `target`, then marks the former as moved.

    While it copies nobody else writes to either. Killed at any moment, it leaves the old ledger in force, or one
    that says that it was moved; called again, it finishes.

    Args:
        source: `sqlite:PATH` (or `sqlite:///PATH`) of a ledger.sqlite, or `postgresql://…`.
        target: likewise; it must hold no record.

    Raises:
        ConfigurationError: one of them is not what it should be.
        PipelineError: a process is at work on a load of the source.
    """
    to = _home(target)
    from_ = _home(source, there=True)
    if from_.place == to.place:
        raise ConfigurationError(f"--from and --to are the same ledger, {to.place}.")
    bring_up_to_date(from_)
    bring_up_to_date(to)
    with ExitStack() as stack:
        held = _hold_all(from_, stack)
        reading = stack.enter_context(from_.only_here())
        from_.keep_writers_out(reading)
        for begun in _asking(reading) - held:
            raise _busy(*begun)
        records = {table.name: _count(reading, table) for table in _TABLES}
        resumed = to.patiently(lambda: _copy(reading, to, records, from_.place))
        mark_as_moved(reading, to.place)
    return Moved(records, resumed)


def _copy(reading: Connection, to: Home, records: dict[str, int], source: str) -> bool:
    with to.only_here() as writing:
        there = {table.name: _count(writing, table) for table in _TABLES}
        if any(there.values()):
            if there == records and all(_same(reading, writing, table) for table in _TABLES):
                return True
            raise ConfigurationError(
                f"The ledger {to.place} holds records already ({there[loads.name]:,} loads), and they are not those "
                f"of {source}; two ledgers cannot become one. Name an empty database, or drop its schema if "
                "nobody needs it."
            )
        for table in _TABLES:
            for part in _parts(reading, table):
                writing.execute(insert(table), part)
    return False


def _hold_all(home: Home, stack: ExitStack) -> set[tuple[str, str]]:
    """Holds every load that somebody could be sending of or reading back; which they are."""
    with home.engine.connect() as connection:
        found = _asking(connection)
    for workload, load in found:
        if not stack.enter_context(home.try_hold(workload, load, 0.0)):
            raise _busy(workload, load)
    return found


def _asking(connection: Connection) -> set[tuple[str, str]]:
    key = (chunks.c.workload, chunks.c.load)
    query = union(
        select(loads.c.workload, loads.c.load).where(
            loads.c.promoted_at.is_(None), func.coalesce(loads.c.gate, "") != "hold"
        ),
        select(*key).where(chunks.c.state == ChunkState.INTENT.value),
        select(*key)
        .join(batches, batches.c.chunk_id == chunks.c.chunk_id)
        .where(batches.c.collected_at.is_(None)),
    )
    return {(workload, load) for workload, load in connection.execute(query)}


def _busy(workload: str, load: str) -> PipelineError:
    return PipelineError(
        f"A process is working on {workload} {load}; let it end (and stop Dagster's daemon), then call again."
    )


def _parts(connection: Connection, table: Table) -> Iterator[list[dict[str, Any]]]:
    rows = connection.execute(_all(table).execution_options(yield_per=_AT_A_TIME)).mappings()
    for part in rows.partitions():
        yield [dict(row) for row in part]


def _same(one: Connection, other: Connection, table: Table) -> bool:
    return all(a == b for a, b in zip(_parts(one, table), _parts(other, table), strict=True))


def _all(table: Table) -> Any:
    return select(table).order_by(*table.primary_key.columns)


def _count(connection: Connection, table: Table) -> int:
    return connection.execute(select(func.count()).select_from(table)).scalar_one()


def _home(url: str, *, there: bool = False) -> Home:
    scheme, _, rest = url.partition(":")
    if scheme == "sqlite" and rest:
        # As SQLAlchemy writes it: three slashes before a relative path, four before an absolute one.
        path = Path(rest.removeprefix("///") if rest.startswith("///") else rest).absolute()
        if path.name != "ledger.sqlite":
            raise ConfigurationError(
                f"{path} is not named ledger.sqlite, as a ledger below a state folder is; name that file."
            )
        if there and not path.is_file():
            raise ConfigurationError(
                f"There is no ledger {path}; --from names the file ledger.sqlite of a state folder."
            )
        return SqliteHome(path.parent, BUSY_WAIT_SECONDS)
    if scheme in ("postgresql", "postgresql+psycopg"):
        from batch_pipeline.ledger.postgres import PostgresHome

        return PostgresHome(f"postgresql+psycopg:{rest}", BUSY_WAIT_SECONDS)
    raise ConfigurationError(
        "A ledger is named sqlite:PATH/ledger.sqlite or postgresql://user:password@host:5432/database."
    )
