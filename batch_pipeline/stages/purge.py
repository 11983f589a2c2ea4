"""Removes the row data and raw results of old loads. Their measures, ledger and promoted rows stay.

A load is marked as purged before its files go: from then on nobody looks for them, so a crash in between leaves
files that nobody reads, and the next purge removes.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.errors import UnreachableError
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger import Batch, ChunkState, Ledger, Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.ledger.transactions import now
from batch_pipeline.rows import LoadFolder, Place
from batch_pipeline.rows.place import bytes_below, remove_below
from batch_pipeline.stages.address import require_same_api
from batch_pipeline.stages.kept_scorecards import is_kept, keep_scorecard
from batch_pipeline.stages.lanes import is_sync
from batch_pipeline.stages.scorecard import Scorecard

# Whoever works on a load now is not waited for: it is named, and the next purge takes it.
_LOCK_WAIT_SECONDS = 2.0
# After this many failures in a row the API is left alone; an hour of time-outs would help nobody.
_MOST_FAILURES = 3


@dataclass
class Purged:
    """What was removed of one load, or would be; `left_alone` says why nothing was."""

    workload: str
    load: str
    bytes: int = 0
    batches: int = 0
    left_alone: str | None = None
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Purge:
    """A purge of all loads that were settled, and held or promoted, before `before`.

    Attributes:
        state: the state folder.
        ledger: its ledger.
        before: loads that were settled later than this stay.
        measure: the scorecard of a load of which none was kept, or None where it cannot be measured.
        api: makes a client when batches are to be deleted at the API, too; else None.
        dry_run: whether to look and remove nothing.
        shared: where rows and scorecards are, if not in the state folder; as `rows.shared` gives it.
    """

    state: Path
    ledger: Ledger
    before: datetime
    measure: Callable[[Load], Scorecard | None]
    api: Callable[[], BatchesApi] | None = None
    dry_run: bool = False
    shared: Place | None = None

    def run(self, workloads: Collection[str] = ()) -> Iterator[Purged]:
        """Goes through the loads of `workloads`, or of all, the oldest first.

        Calling again completes what was cut off. What fails with one load does not keep the rest.
        """
        deletions = _Deletions(self.ledger, self.api() if self.api and not self.dry_run else None)
        records = self.ledger.generations()
        busy = {
            (record.workload, record.load)
            for name in {record.workload for record in records}
            for record in self.ledger.unfinished_loads(name)
        }
        for (load, workload), _ in groupby(records, lambda r: (r.load, r.workload)):
            if workloads and workload not in workloads:
                continue
            done = self._load(workload, load, deletions, busy=(workload, load) in busy)
            if done is not None:
                yield done

    def _load(
        self, workload: str, load: str, deletions: "_Deletions", *, busy: bool
    ) -> Purged | None:
        if self.dry_run:
            return self._locked(workload, load, deletions, busy=busy)
        generations = self.ledger.generations(workload, load)
        if not self._concerned(generations):
            return None
        try:
            with self.ledger.hold(workload, load, _LOCK_WAIT_SECONDS):
                return self._locked(workload, load, deletions, busy=busy)
        except PipelineError as error:
            return Purged(workload, load, left_alone=str(error))

    def _concerned(self, generations: list[Load]) -> bool:
        """Whether the load is old enough, finished or not, or a purge of it was cut off."""
        latest = generations[-1]
        return (latest.settled_at or latest.created_at) <= self.before or any(
            record.purged_at is not None and self._folder(record).root.exists()
            for record in generations
        )

    def _locked(
        self, workload: str, load: str, deletions: "_Deletions", *, busy: bool
    ) -> Purged | None:
        generations = self.ledger.generations(workload, load)
        if not self._concerned(generations):
            return None
        latest = generations[-1]
        done = Purged(workload, load)
        if latest.purged_at is None and (latest.settled_at or latest.created_at) <= self.before:
            done.left_alone = "it is not finished" if busy else self._unfinished(generations)
            if done.left_alone is None:
                done.left_alone = self._mark(generations)
                generations = self.ledger.generations(workload, load)
        if done.left_alone is None:
            would = self.dry_run and latest.purged_at is None
            purged = [r for r in generations if would or r.purged_at is not None]
            whole = purged[-1:] == generations[-1:]
            done.bytes = self._remove(purged, whole=whole)
            if self.api is not None and whole:
                deletions.of(purged, done, dry_run=self.dry_run)
            if latest.purged_at is not None and not (done.bytes or done.batches or done.failures):
                return None  # it was purged before
        return done

    def _unfinished(self, generations: list[Load]) -> str | None:
        """Why a load must keep its rows; None where nothing can come of them any more."""
        latest = generations[-1]
        if latest.phase is not Phase.SETTLED or not (latest.promoted_at or latest.gate == "hold"):
            return "it is not finished"
        for record in generations:
            if any(batch.collected_at is None for batch in self.ledger.batches(record)):
                return "a batch of it is not read back"
            if any(chunk.state is ChunkState.INTENT for chunk in self.ledger.chunks(record)):
                return "the fate of a batch of it is not known yet"
        return None

    def _mark(self, generations: list[Load]) -> str | None:
        """Keeps the scorecard, then marks; returns why that cannot be."""
        latest = generations[-1]
        if not is_kept(self.shared or self.state, latest):
            card = self.measure(latest)
            if card is None:
                return (
                    "no scorecard of it is kept, and it cannot be measured; declare its workload as it was, "
                    "and purge again"
                )
            if not self.dry_run:
                keep_scorecard(self.shared or self.state, latest, card)
        if not self.dry_run:
            moment = now()
            # The latest comes last: it is the one that says whether the load is purged.
            for record in generations:
                if record.purged_at is None:
                    self.ledger.update_load(record, purged_at=moment)
        return None

    def _remove(self, generations: list[Load], *, whole: bool) -> int:
        """Removes the files of these generations, or all of the load, and returns their bytes."""
        if not generations:
            return 0
        several = [self._folder(record) for record in generations]
        # What is a host's own may be left in the state folder.
        places: list[Place] = [place for each in several for place in (each.root, each.local)]
        places = list(dict.fromkeys(place.parent if whole else place for place in places))
        places += [
            self.state / "tmp" / f"download-{chunk.chunk_id}"
            for record in generations
            for chunk in self.ledger.chunks(record)
        ]
        size = sum(map(bytes_below, places))
        if not self.dry_run:
            for place in places:
                remove_below(place)
        return size

    def _folder(self, record: Load) -> LoadFolder:
        return LoadFolder.of(
            self.state, record.workload, record.load, record.generation, self.shared
        )


class _Deletions:
    """Deletes batches at the API, one by one, until it fails too often."""

    def __init__(self, ledger: Ledger, api: BatchesApi | None) -> None:
        self._ledger = ledger
        self._api = api
        self._failures = 0

    def of(self, generations: list[Load], done: Purged, *, dry_run: bool) -> None:
        """All of these generations that were read back; what fails is noted in `done.failures`."""
        for record in generations:
            for batch in self._ledger.batches(record):
                if is_sync(batch) or batch.collected_at is None or batch.deleted_at is not None:
                    continue
                failure = None if dry_run else self._delete(batch)
                if failure is None:
                    done.batches += 1
                else:
                    done.failures.append(f"{batch.batch_id}: {failure}")

    def _delete(self, batch: Batch) -> str | None:
        assert self._api is not None
        if self._failures >= _MOST_FAILURES:
            return "not tried, since several failed before it."
        try:
            # Another API would say that it knows no such batch, and pass for one that deleted it.
            require_same_api(f"Batch {batch.batch_id}", batch.api, self._api.address)
            self._api.delete(batch.batch_id)
        except ConfigurationError as error:
            return str(error)
        except UnreachableError as error:
            self._failures += 1
            return str(error)
        self._failures = 0
        self._ledger.update_batch(batch.batch_id, deleted_at=now())
        return None
