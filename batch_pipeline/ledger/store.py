"""The ledger's face: named transitions, each one transaction."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from sqlalchemy import Engine, create_engine, event, func, insert, select, update
from sqlalchemy.dialects.sqlite import insert as upsert
from sqlalchemy.schema import CreateIndex, CreateTable

from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger.records import Batch, Chunk, ChunkState, Load, Override, Phase
from batch_pipeline.ledger.tables import batches, chunks, loads, metadata, overrides

LOCK_WAIT_SECONDS = 300.0


def now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """Opens (and creates) the ledger below the state folder. Cheap to make; safe in many processes."""

    def __init__(self, state: Path) -> None:
        self._folder = state
        self._engine = _engine(state / "ledger.sqlite")

    @classmethod
    def existing(cls, state: Path) -> "Ledger | None":
        """The ledger, or None where nothing has been recorded yet: looking must leave no trace."""
        return cls(state) if (state / "ledger.sqlite").is_file() else None

    @contextmanager
    def hold(
        self, workload: str, load: str, wait_seconds: float = LOCK_WAIT_SECONDS
    ) -> Iterator[None]:
        """One process at a time changes a load. The lock is the kernel's: it ends with its holder.

        Raises:
            PipelineError: when another process keeps the load for longer than `wait_seconds`.
        """
        path = self._folder / "locks" / workload / f"{load}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path)
        try:
            lock.acquire(timeout=wait_seconds)
        except Timeout:
            raise PipelineError(
                f"Another process is working on {workload} {load}; wait for it to finish, then try again."
            ) from None
        try:
            yield
        finally:
            lock.release()

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
        return _load(row) if row else None

    def newest_load(self, workload: str) -> str | None:
        """The latest date that was begun."""
        row = self._first(
            select(func.max(loads.c.load).label("load")).where(loads.c.workload == workload)
        )
        return row["load"] if row else None

    def unfinished_loads(self, workload: str) -> list[Load]:
        """Latest generations that are not settled, or settled and neither held nor promoted."""
        latest = (
            select(loads.c.workload, loads.c.load, func.max(loads.c.generation).label("generation"))
            .where(loads.c.workload == workload)
            .group_by(loads.c.workload, loads.c.load)
            .subquery()
        )
        query = (
            select(loads)
            .join(
                latest,
                (loads.c.workload == latest.c.workload)
                & (loads.c.load == latest.c.load)
                & (loads.c.generation == latest.c.generation),
            )
            .where(loads.c.promoted_at.is_(None), func.coalesce(loads.c.gate, "") != "hold")
            .order_by(loads.c.load)
        )
        return [_load(row) for row in self._all(query)]

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
        statement = upsert(loads).values(
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

    def set_phase(self, load: Load, phase: Phase) -> None:
        """Settling clears what was decided of an earlier state of the rows."""
        values: dict[str, Any] = {"phase": phase.value}
        if phase is Phase.SETTLED:
            values["settled_at"] = now()
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
            upsert(overrides)
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

    # Chunks and batches

    def record_intent(self, chunk: Chunk) -> None:
        """Before the POST: from here on, somebody may have been charged for this chunk."""
        values = {**vars(chunk), "state": chunk.state.value}
        self._write(insert(chunks).values(**values))

    def record_submitted(
        self,
        chunk_id: str,
        *,
        batch_id: str,
        request_id: str | None,
        api: str,
        status: str,
        created_at: datetime,
        expires_at: datetime | None,
    ) -> None:
        with self._engine.begin() as connection:
            connection.execute(
                update(chunks)
                .where(chunks.c.chunk_id == chunk_id)
                .values(state=ChunkState.SUBMITTED.value, closed_at=now())
            )
            connection.execute(
                insert(batches).values(
                    batch_id=batch_id,
                    chunk_id=chunk_id,
                    request_id=request_id,
                    api=api,
                    status=status,
                    created_at=created_at,
                    expires_at=expires_at,
                )
            )

    def record_not_created(self, chunk_id: str, note: str) -> None:
        self._write(
            update(chunks)
            .where(chunks.c.chunk_id == chunk_id)
            .values(state=ChunkState.NOT_CREATED.value, closed_at=now(), note=note)
        )

    def note_intent(self, chunk_id: str, note: str) -> None:
        self._write(update(chunks).where(chunks.c.chunk_id == chunk_id).values(note=note))

    def chunks(self, load: Load) -> list[Chunk]:
        query = (
            select(chunks)
            .where(
                chunks.c.workload == load.workload,
                chunks.c.load == load.load,
                chunks.c.generation == load.generation,
            )
            .order_by(chunks.c.intended_at, chunks.c.chunk_id)
        )
        return [Chunk(**{**row, "state": ChunkState(row["state"])}) for row in self._all(query)]

    def batches(self, load: Load) -> list[Batch]:
        query = (
            select(batches)
            .join(chunks, chunks.c.chunk_id == batches.c.chunk_id)
            .where(
                chunks.c.workload == load.workload,
                chunks.c.load == load.load,
                chunks.c.generation == load.generation,
            )
            .order_by(batches.c.created_at, batches.c.batch_id)
        )
        return [
            Batch(**{**row, "results_gone": bool(row["results_gone"])}) for row in self._all(query)
        ]

    def update_batch(self, batch_id: str, **changes: Any) -> None:
        """Sets columns of one batch: what the API now says of it, or what was made of its results."""
        self._write(update(batches).where(batches.c.batch_id == batch_id).values(**changes))

    def _write(self, statement: Any) -> None:
        with self._engine.begin() as connection:
            connection.execute(statement)

    def _first(self, query: Any) -> dict[str, Any] | None:
        rows = self._all(query)
        return rows[0] if rows else None

    def _all(self, query: Any) -> list[dict[str, Any]]:
        with self._engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]


def _is(load: Load) -> tuple[Any, ...]:
    return (
        loads.c.workload == load.workload,
        loads.c.load == load.load,
        loads.c.generation == load.generation,
    )


def _load(row: dict[str, Any]) -> Load:
    return Load(**{**row, "phase": Phase(row["phase"])})


def _engine(path: Path) -> Engine:
    path.parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": 60})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode=WAL")
        # FULL: an intent that was committed must survive a power cut, since money follows it.
        cursor.execute("PRAGMA synchronous=FULL")
        cursor.close()

    with engine.begin() as connection:
        for table in metadata.sorted_tables:
            # Two processes may open a new ledger at once: looking first would not be enough.
            connection.execute(CreateTable(table, if_not_exists=True))
            for index in table.indexes:
                connection.execute(CreateIndex(index, if_not_exists=True))
    return engine
