"""The ledger's face: named transitions, each one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import and_, func, select, union, update

from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger.accepted import Baselines
from batch_pipeline.ledger.alerting import Alerting
from batch_pipeline.ledger.generations import is_latest, load_of
from batch_pipeline.ledger.home import Home, SqliteHome
from batch_pipeline.ledger.records import ChunkState, Load, Override, Phase
from batch_pipeline.ledger.reviewing import Reviewing
from batch_pipeline.ledger.rolling_back import RollingBack
from batch_pipeline.ledger.schema import bring_up_to_date, recorded_version
from batch_pipeline.ledger.sendings import Sendings
from batch_pipeline.ledger.tables import batches, chunks, loads, overrides
from batch_pipeline.ledger.transactions import now
from batch_pipeline.settings import Settings

LOCK_WAIT_SECONDS = 300.0
# For somebody else's transaction: a shell in which a person has begun one, say.
BUSY_WAIT_SECONDS = 120.0
# How long a batch that was given up for lost may still turn up: it has ended by then, and says whose it is.
LATE_ARRIVALS = timedelta(hours=48)
_KEY = (loads.c.workload, loads.c.load, loads.c.generation)
_CHUNKS_KEY = (chunks.c.workload, chunks.c.load, chunks.c.generation)


class Ledger(Sendings, Baselines, Reviewing, RollingBack, Alerting):
    """Opens (and creates) the ledger. Cheap to make; safe in many processes."""

    def __init__(
        self, state: Path, busy_wait_seconds: float | None = None, url: str | None = None
    ) -> None:
        """Below the state folder, or where `url` says; see `Settings.ledger`.

        `busy_wait_seconds` is how long others' transactions, and an outage of a shared database, are waited for.

        Raises:
            LedgerAwayError: the database cannot be reached for that long.
            ConfigurationError: it does not let us in, or a newer release wrote the ledger.
        """
        self._home = _home(state, busy_wait_seconds, url)
        bring_up_to_date(self._home)

    @classmethod
    def of(cls, settings: Settings, busy_wait_seconds: float | None = None) -> "Ledger":
        """The ledger that the settings name."""
        return cls(settings.state, busy_wait_seconds, settings.ledger)

    @classmethod
    def existing(
        cls, settings: Settings, busy_wait_seconds: float | None = None
    ) -> "Ledger | None":
        """The ledger, or None where nothing has been recorded yet: looking must leave no trace.

        Raises as the constructor; of a database that cannot be reached at once.
        """
        if settings.ledger is None:
            there = SqliteHome.exists(settings.state)
        else:
            there = recorded_version(_home(settings.state, 0, settings.ledger)) is not None
        return cls.of(settings, busy_wait_seconds) if there else None

    @contextmanager
    def hold(
        self, workload: str, load: str, wait_seconds: float = LOCK_WAIT_SECONDS
    ) -> Iterator[None]:
        """One process at a time changes a load. The lock ends with its holder, however that ends.

        Raises:
            PipelineError: when another process keeps the load for longer than `wait_seconds`.
        """
        with self.try_hold(workload, load, wait_seconds) as held:
            if not held:
                raise PipelineError(
                    f"Another process is working on {workload} {load}; wait for it to finish, then try again."
                )
            yield

    @contextmanager
    def try_hold(self, workload: str, load: str, wait_seconds: float = 0.0) -> Iterator[bool]:
        """As `hold`, for who can do without: false where another process keeps the load."""
        with self._home.try_hold(workload, load, wait_seconds) as held:
            yield held

    def up_for(self) -> float:
        """Seconds since the ledger's database was started; infinite where no server keeps it."""
        return self._home.up_for()

    # Loads

    def load(self, workload: str, load: str) -> Load | None:
        """The latest generation, or None."""
        query = (
            select(loads)
            .where(loads.c.workload == workload, loads.c.load == load)
            .order_by(loads.c.generation.desc())
            .limit(1)
        )
        row = self._first(query)
        return load_of(row) if row else None

    def generations(self, workload: str | None = None, load: str | None = None) -> list[Load]:
        """Every generation of every load, of any workload or of those given, the oldest first."""
        query = select(loads).order_by(loads.c.load, loads.c.workload, loads.c.generation)
        if workload is not None:
            query = query.where(loads.c.workload == workload)
        if load is not None:
            query = query.where(loads.c.load == load)
        return [load_of(row) for row in self._all(query)]

    def newest_load(self, workload: str) -> str | None:
        """The latest date that was begun."""
        row = self._first(
            select(func.max(loads.c.load).label("load")).where(loads.c.workload == workload)
        )
        return row["load"] if row else None

    def newest_of_each(self) -> list[Load]:
        """The latest generation of each workload's latest load, by the workloads' names."""
        found = []
        # A search of the primary key for each name, where a GROUP BY would read every load.
        name = self._next_workload("")
        while name is not None:
            newest = select(loads).where(loads.c.workload == name)
            newest = newest.order_by(loads.c.load.desc(), loads.c.generation.desc()).limit(1)
            found += [load_of(row) for row in self._all(newest)]
            name = self._next_workload(name)
        return found

    def _next_workload(self, after: str) -> str | None:
        row = self._first(
            select(func.min(loads.c.workload).label("workload")).where(loads.c.workload > after)
        )
        return row["workload"] if row else None

    def load_before(self, workload: str, load: str) -> str | None:
        """The latest date before `load` that was begun."""
        row = self._first(
            select(func.max(loads.c.load).label("load")).where(
                loads.c.workload == workload, loads.c.load < load
            )
        )
        return row["load"] if row else None

    def unfinished_loads(self, workload: str) -> list[Load]:
        """Latest generations that ask for something still.

        Those neither held nor promoted; and any with a batch that is not read back, or a chunk that was
        given up for lost so recently that it may still appear.
        """
        # From what is open, of any workload, to its load: the other way each load that is done is asked for its
        # chunks, and each chunk for its batch.
        asking = union(
            select(*_KEY).where(
                loads.c.workload == workload,
                loads.c.promoted_at.is_(None),
                func.coalesce(loads.c.gate, "") != "hold",
            ),
            select(*_CHUNKS_KEY)
            .join(batches, batches.c.chunk_id == chunks.c.chunk_id)
            .where(batches.c.collected_at.is_(None)),
            select(*_CHUNKS_KEY).where(
                chunks.c.state == ChunkState.NOT_FOUND.value,
                chunks.c.closed_at >= now() - LATE_ARRIVALS,
            ),
        ).subquery()
        query = (
            select(loads)
            .join(asking, _same_load(asking.c))
            .where(is_latest(), asking.c.workload == workload)
            .order_by(loads.c.load)
        )
        return [load_of(row) for row in self._all(query)]

    def loads_in_flight(self) -> list[Load]:
        """Every generation, of any load, with a batch that had not ended when it was last looked at."""
        flying = (
            select(*_CHUNKS_KEY)
            .join(batches, batches.c.chunk_id == chunks.c.chunk_id)
            .where(
                batches.c.collected_at.is_(None),
                batches.c.status != "ended",
                batches.c.results_gone == 0,
            )
            .distinct()
            .subquery()
        )
        query = select(loads).join(flying, _same_load(flying.c)).order_by(*_KEY)
        return [load_of(row) for row in self._all(query)]

    def record_load(
        self,
        workload: str,
        load: str,
        *,
        generation: int,
        fingerprint: str,
        source_rows: int,
        golden_rows: int,
        requested_by: str | None,
    ) -> None:
        """Commits a load's source; again for the same generation, it replaces what was read."""
        values = {
            "fingerprint": fingerprint,
            "source_rows": source_rows,
            "golden_rows": golden_rows,
            "phase": Phase.SENDING.value,
            "created_at": now(),
        }
        # Who asked for the generation stays known, or the same run asking twice would start another.
        statement = self._upsert(loads).values(
            workload=workload,
            load=load,
            generation=generation,
            requested_by=requested_by,
            **values,
        )
        self._write(
            statement.on_conflict_do_update(
                index_elements=["workload", "load", "generation"], set_=values
            )
        )

    def update_load(self, load: Load, **changes: Any) -> None:
        """Sets columns of one load."""
        self._write(update(loads).where(*_is(load)).values(**changes))

    def set_phase(self, load: Load, phase: Phase) -> None:
        """Settling clears what was decided of an earlier state of the rows."""
        values: dict[str, Any] = {"phase": phase.value}
        if phase is Phase.SETTLED:
            values |= {"settled_at": now(), "not_before": None, "waits_for": None}
            values |= {"stopped": None, "held_by": None}
        else:
            values |= {
                "settled_at": None,
                "gate": None,
                "gate_fingerprint": None,
                "graded_at": None,
            }
        self._write(update(loads).where(*_is(load)).values(**values))

    def record_gate(self, load: Load, *, promote: bool, fingerprint: str) -> None:
        self._write(
            update(loads)
            .where(*_is(load))
            .values(
                gate="promote" if promote else "hold", gate_fingerprint=fingerprint, graded_at=now()
            )
        )

    def record_promotion(self, load: Load, *, rows: int, fingerprint: str) -> None:
        self._write(
            update(loads)
            .where(*_is(load))
            .values(
                gate="promote",
                promoted_at=now(),
                promoted_rows=rows,
                promoted_fingerprint=fingerprint,
            )
        )

    # Overrides

    def record_override(
        self, load: Load, *, fingerprint: str, reason: str, requested_by: str
    ) -> None:
        """The first reason given for a fingerprint stands."""
        self._write(
            self._upsert(overrides)
            .values(
                workload=load.workload,
                load=load.load,
                fingerprint=fingerprint,
                reason=reason,
                requested_by=requested_by,
                recorded_at=now(),
            )
            .on_conflict_do_nothing()
        )

    def override(self, workload: str, load: str, fingerprint: str) -> Override | None:
        row = self._first(
            select(overrides).where(
                overrides.c.workload == workload,
                overrides.c.load == load,
                overrides.c.fingerprint == fingerprint,
            )
        )
        return Override(**row) if row else None


def _same_load(columns: Any) -> Any:
    return and_(
        loads.c.workload == columns.workload,
        loads.c.load == columns.load,
        loads.c.generation == columns.generation,
    )


def _is(load: Load) -> tuple[Any, ...]:
    return (
        loads.c.workload == load.workload,
        loads.c.load == load.load,
        loads.c.generation == load.generation,
    )


def _home(state: Path, wait_seconds: float | None, url: str | None) -> Home:
    wait = BUSY_WAIT_SECONDS if wait_seconds is None else wait_seconds
    if url is None:
        return SqliteHome(state, wait)
    from batch_pipeline.ledger.postgres import PostgresHome

    return PostgresHome(url, wait)
