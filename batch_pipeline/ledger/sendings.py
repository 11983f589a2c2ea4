"""Chunks, batches, and how one became the other."""

from datetime import datetime
from typing import Any

from sqlalchemy import (
    LABEL_STYLE_TABLENAME_PLUS_COL,
    delete,
    func,
    insert,
    select,
    update,
)

from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger.records import Adopted, Batch, Chunk, ChunkState, Lane, Load
from batch_pipeline.ledger.tables import batches, chunks, foreign_batches
from batch_pipeline.ledger.transactions import Transactions, now


class Sendings(Transactions):
    """The half of the ledger that the send protocol writes."""

    def record_intent(self, chunk: Chunk) -> None:
        """Before the POST: from here on, somebody may have been charged for this chunk."""
        values = {**vars(chunk), "state": chunk.state.value, "lane": chunk.lane.value}
        self._home.add_chunk(values)

    def require_hold(self, workload: str, load: str) -> None:
        """Raises LockLostError where this process held the load, and another has it now."""
        self._home.require_hold(workload, load)

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
        adopted: Adopted | None = None,
        state: ChunkState = ChunkState.SUBMITTED,
    ) -> None:
        """A chunk whose sending was open, or given up for lost, has become a batch.

        Raises PipelineError where the chunk is in no such state: the batch would be lost sight of.
        """
        changed = self._write(
            update(chunks)
            .where(
                chunks.c.chunk_id == chunk_id,
                chunks.c.state.in_([ChunkState.INTENT.value, ChunkState.NOT_FOUND.value]),
            )
            .values(state=state.value, closed_at=now()),
            insert(batches).values(
                batch_id=batch_id,
                chunk_id=chunk_id,
                request_id=request_id,
                api=api,
                status=status,
                created_at=created_at,
                expires_at=expires_at,
                adopted=adopted and adopted.value,
            ),
        )
        if not changed and batch_id not in self._batches_of(chunk_id):
            raise PipelineError(
                f"Batch {batch_id} is chunk {chunk_id}'s, but that is not open in the ledger; was the ledger "
                "restored or edited while the batch was sent?"
            )

    def _batches_of(self, chunk_id: str) -> set[str]:
        """Its batch, if it has one already: an outage may hide that it was written down."""
        query = select(batches.c.batch_id).where(batches.c.chunk_id == chunk_id)
        return {row["batch_id"] for row in self._all(query)}

    def record_not_created(self, chunk_id: str, note: str) -> None:
        self._close(chunk_id, ChunkState.NOT_CREATED, note)

    def record_not_found(self, chunk_id: str, note: str) -> None:
        """Its rows are due again; that the batch appears all the same is still watched for."""
        self._close(chunk_id, ChunkState.NOT_FOUND, note)

    def record_lost_answer(self, chunk_id: str, note: str) -> None:
        """From now on the chunk's batch is looked for; the first moment and its reason stand."""
        self._write(
            update(chunks)
            .where(chunks.c.chunk_id == chunk_id, chunks.c.looked_for_since.is_(None))
            .values(looked_for_since=now(), note=note)
        )

    def record_list_lag(self, chunk_id: str) -> None:
        """The API's list was just seen without a batch that is known to exist."""
        self._write(
            update(chunks).where(chunks.c.chunk_id == chunk_id).values(list_lagged_at=now())
        )

    def disown(self, batch: Batch, *, foreign: bool, note: str) -> None:
        """Takes back an adoption: the chunk's batch is looked for again. `foreign` ones never come back."""
        statements = [
            delete(batches).where(batches.c.batch_id == batch.batch_id),
            update(chunks)
            .where(chunks.c.chunk_id == batch.chunk_id)
            .values(state=ChunkState.INTENT.value, closed_at=None, note=note),
        ]
        self._write(*statements, *([self._foreign(batch.batch_id)] if foreign else []))

    def record_foreign(self, batch_id: str) -> None:
        """A batch of the workspace that is proven to be somebody else's."""
        self._write(self._foreign(batch_id))

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
        return [_chunk(row) for row in self._all(query)]

    def chunk_of(self, token: str) -> Chunk | None:
        """The chunk of any load whose custom_ids begin with `token`."""
        row = self._first(select(chunks).where(chunks.c.token == token))
        return _chunk(row) if row else None

    def intents(self) -> list[Chunk]:
        """All chunks, of any load, whose fate is open."""
        query = select(chunks).where(chunks.c.state == ChunkState.INTENT.value)
        return [_chunk(row) for row in self._all(query)]

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
        return [_batch(row) for row in self._all(query)]

    def batches_since(self, moment: datetime) -> list[Batch]:
        """Those of any load that the API created since."""
        return [
            _batch(row) for row in self._all(select(batches).where(batches.c.created_at >= moment))
        ]

    def known(self, batch_ids: list[str]) -> set[str]:
        """Those of `batch_ids` that are ours, or are known not to be."""
        found: set[str] = set()
        for column in (batches.c.batch_id, foreign_batches.c.batch_id):
            # SQLite takes some ten thousand parameters, and an unresolved intent lists hours, not years.
            found |= {r["batch_id"] for r in self._all(select(column).where(column.in_(batch_ids)))}
        return found

    def in_flight(self) -> int:
        """Requests, over all loads, that the API may be working on."""
        requests = func.coalesce(func.sum(chunks.c.requests), 0).label("requests")
        # What is sent one by one takes no room among the batches.
        batched = chunks.c.lane == Lane.BATCH.value
        intended = chunks.c.state == ChunkState.INTENT.value
        running = (
            select(requests)
            .join(batches, batches.c.chunk_id == chunks.c.chunk_id)
            .where(
                batched,
                ~intended,
                batches.c.collected_at.is_(None),
                batches.c.status != "ended",
                batches.c.results_gone == 0,
            )
        )
        sums = [
            self._first(query) for query in (select(requests).where(batched, intended), running)
        ]
        return sum(int(row["requests"]) for row in sums if row)

    def unpriced(self, workload: str) -> list[tuple[Chunk, Batch]]:
        """Batches of any load of the workload that were read back, and whose cost is not written down."""
        query = (
            select(chunks, batches)
            .join(batches, batches.c.chunk_id == chunks.c.chunk_id)
            .where(
                chunks.c.workload == workload,
                batches.c.collected_at.is_not(None),
                batches.c.results_gone == 0,
                batches.c.cost_usd.is_(None),
            )
            .set_label_style(LABEL_STYLE_TABLENAME_PLUS_COL)
        )
        return [
            (_chunk(_of_table("chunks", row)), _batch(_of_table("batches", row)))
            for row in self._all(query)
        ]

    def committed_usd(
        self, workload: str, *, load: str | None = None, since: datetime | None = None
    ) -> float:
        """What the workload's chunks cost, or should cost at most where that is not known yet, in US dollars.

        Args:
            workload: its name.
            load: of this load alone, in all its generations.
            since: of chunks that were sent since.
        """
        accepted = (ChunkState.INTENT, ChunkState.SUBMITTED, ChunkState.DUPLICATE)
        usd = func.coalesce(batches.c.cost_usd, chunks.c.bound_usd, 0.0)
        query = (
            select(func.coalesce(func.sum(usd), 0.0).label("usd"))
            .select_from(chunks)
            .join(batches, batches.c.chunk_id == chunks.c.chunk_id, isouter=True)
            .where(
                chunks.c.workload == workload, chunks.c.state.in_([one.value for one in accepted])
            )
        )
        if load is not None:
            query = query.where(chunks.c.load == load)
        if since is not None:
            query = query.where(chunks.c.intended_at >= since)
        row = self._first(query)
        return float(row["usd"]) if row else 0.0

    def update_batch(self, batch_id: str, **changes: Any) -> None:
        """Sets columns of one batch: what the API now says of it, or what was made of its results."""
        self._write(update(batches).where(batches.c.batch_id == batch_id).values(**changes))

    def _foreign(self, batch_id: str) -> Any:
        return (
            self._upsert(foreign_batches)
            .values(batch_id=batch_id, recorded_at=now())
            .on_conflict_do_nothing()
        )

    def _close(self, chunk_id: str, state: ChunkState, note: str) -> None:
        self._write(
            update(chunks)
            .where(chunks.c.chunk_id == chunk_id)
            .values(state=state.value, closed_at=now(), note=note)
        )


def _of_table(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """The columns of one table, of a row that joins two."""
    return {key[len(name) + 1 :]: value for key, value in row.items() if key.startswith(f"{name}_")}


def _chunk(row: dict[str, Any]) -> Chunk:
    return Chunk(
        **{
            **row,
            "state": ChunkState(row["state"]),
            "lane": Lane(row["lane"]),
            "pilot": bool(row["pilot"]),
        }
    )


def _batch(row: dict[str, Any]) -> Batch:
    return Batch(
        **{
            **row,
            "results_gone": bool(row["results_gone"]),
            "adopted": Adopted(row["adopted"]) if row["adopted"] else None,
        }
    )
