"""The life of batches: accepted, worked through in turn, canceled, ended, archived, deleted."""

from __future__ import annotations

import logging
import secrets
import threading
import time
from array import array
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .answer_key import AnswerKey
from .api_errors import ApiError
from .body import read_requests
from .draws import draws
from .responder import Call, Responder
from .responder import Outcome as RequestOutcome
from .results import RESULT_TYPES, AbandonedError, add_tokens, work_through
from .row_rules import RowRules
from .scenario import Scenario
from .store import Outcome, Record, Store, Tokens

_log = logging.getLogger(__name__)
_PATIENCE_SECONDS = 1.0  # how long a poll waits for a batch that is due but not worked through yet


@dataclass(slots=True, eq=False)
class Batch:
    """A batch in memory: its record, and its outcome once it is worked through."""

    record: Record
    outcome: Outcome | None = None
    work: Future[None] | None = None

    def ended(self, now: float) -> bool:
        return self.outcome is not None and now >= self.record.ends_at

    def archived(self, now: float) -> bool:
        return self.ended(now) and now >= self.record.created_at + self.record.kept

    def describe(self, now: float, base_url: str) -> dict[str, Any]:
        """The API's MessageBatch object."""
        record, ended, archived = self.record, self.ended(now), self.archived(now)
        counts = {"processing": 0 if ended else record.requests, **dict.fromkeys(RESULT_TYPES, 0)}
        if ended and self.outcome is not None:
            counts.update(self.outcome.counts)
        canceling = record.cancel_initiated_at is not None
        status = "ended" if ended else "canceling" if canceling else "in_progress"
        results = f"{base_url}/v1/messages/batches/{record.id}/results"
        return {
            "id": record.id,
            "type": "message_batch",
            "processing_status": status,
            "request_counts": counts,
            "created_at": _stamp(record.created_at),
            "expires_at": _stamp(record.created_at + record.expires_after),
            "ended_at": _stamp(record.ends_at) if ended else None,
            "cancel_initiated_at": _stamp(record.cancel_initiated_at),
            "archived_at": _stamp(record.created_at + record.kept) if archived else None,
            "results_url": results if ended and not archived else None,
        }


class Batches:
    """All batches of one simulator. Its methods may block: call them off the event loop."""

    def __init__(self, scenario: Scenario, store: Store) -> None:
        self._scenario = scenario
        self._store = store
        key = AnswerKey(scenario.answers) if scenario.answers is not None else None
        self._responder = Responder(scenario, key)
        # Single messages have a cache of their own: batches do not read what they write.
        self._single = Responder(scenario, key)
        self._rules = RowRules(scenario.rows, store.rule_counts())
        self._lock = threading.RLock()
        self._worker = ThreadPoolExecutor(1, "simulator-batches")
        self._closing = threading.Event()
        self._batches: dict[str, Batch] = {}
        self._sequence = 0
        self._message_tokens: Tokens = {}
        self._messages_billed = 0
        for billed in store.logged_messages():
            self._bill_message(billed["model"], billed["usage"])
        for record, outcome in store.load():
            valid = outcome is not None and outcome.stopped == record.stopped
            batch = self._batches[record.id] = Batch(record, outcome if valid else None)
            self._sequence = record.sequence
            if not valid and not record.deleted:
                self._start(batch)

    def close(self) -> None:
        """Stop the work; what is unfinished is done again on the next start."""
        self._closing.set()
        self._worker.shutdown(wait=True, cancel_futures=True)

    def create(self, folder: Path, sha256: str, version: str, betas: frozenset[str]) -> Batch:
        """Accept a batch whose body stands in `folder`, a folder of the store.

        Raises:
            ApiError: the API refuses it; the folder is then gone.
        """
        with self._lock:
            counts = self._rules.counts()
            try:
                size = (folder / "body.json").stat().st_size
                reader = _Index(self._rules)
                read_requests(folder / "body.json", self._scenario.max_requests, reader)
                requests = len(reader.index) // 3
                self._check_queue(requests)
                record = Record(
                    # Its ids go into tables and exports: they say where an answer is from.
                    id="msgbatch_simulator_" + secrets.token_hex(12),
                    sequence=self._sequence + 1,
                    requests=requests,
                    bytes=size,
                    sha256=sha256,
                    created_at=time.time(),
                    turnaround=self._turnaround(self._sequence + 1),
                    expires_after=self._scenario.expires_after_seconds,
                    kept=self._scenario.results_kept_seconds,
                    version=version,
                    betas=sorted(betas),
                    cancel_seconds=self._scenario.cancel_seconds,
                )
                self._store.accept(folder, record, reader.index)
            except BaseException:
                self._rules.restore(counts)
                self._store.discard(folder)
                raise
            if self._rules:
                self._store.save_rule_counts(self._rules.counts())
            self._sequence += 1
            batch = self._batches[record.id] = Batch(record)
            self._start(batch)
            return batch

    def get(self, batch_id: str) -> Batch:
        """Raises ApiError 404 for an unknown or deleted one. Waits a little for one that is due."""
        batch = self._batches.get(batch_id)
        if batch is None or batch.record.deleted:
            raise ApiError(404, f"Message batch {batch_id[:80]} not found")
        if batch.work is not None and time.time() >= batch.record.ends_at:
            wait([batch.work], _PATIENCE_SECONDS)
        return batch

    def all(self) -> list[Batch]:
        """Every batch that was ever accepted, newest first, deleted ones too."""
        with self._lock:
            return sorted(self._batches.values(), key=lambda b: -b.record.sequence)

    def page(
        self, limit: int, after_id: str | None, before_id: str | None, youngest: float
    ) -> tuple[list[Batch], bool]:
        """One page of the list, and whether there is more in the direction asked for.

        Args:
            limit: most batches on the page.
            after_id: the page begins after this batch (towards older ones).
            before_id: the page ends before this batch.
            youngest: leaves out batches created after this Unix time.
        """
        seen = [
            b for b in self.all() if not b.record.deleted and b.record.created_at <= youngest
        ]  # fmt: skip
        places = {b.record.id: i for i, b in enumerate(seen)}
        for given in (after_id, before_id):
            if given is not None and given not in places:
                raise ApiError(404, f"Message batch {given[:80]} not found")
        if before_id is not None:
            stop = places[before_id]
            start = max(0, stop - limit)
            return seen[start:stop], start > 0
        start = places[after_id] + 1 if after_id is not None else 0
        return seen[start : start + limit], start + limit < len(seen)

    def cancel(self, batch_id: str) -> Batch:
        batch = self.get(batch_id)
        with self._lock:
            if batch.ended(time.time()):
                # The API documents no status for this, nor for deleting too early: 400 is a guess.
                raise ApiError(400, f"Message batch {batch_id} cannot be canceled: it has ended")
            if batch.record.cancel_initiated_at is None:
                batch.record.cancel_initiated_at = time.time()
                self._store.save_record(batch.record)
                batch.outcome = None
                self._store.drop_outcome(batch.record)
                self._start(batch)
        return batch

    def delete(self, batch_id: str) -> Batch:
        batch = self.get(batch_id)
        with self._lock:
            if not batch.ended(time.time()):
                raise ApiError(
                    400, f"Message batch {batch_id} cannot be deleted while it is in progress"
                )
            batch.record.deleted = True
            self._store.save_record(batch.record)
            self._store.drop_content(batch.record)
        return batch

    def results(self, batch_id: str) -> Path:
        """The results file of a batch that has ended and is not archived."""
        batch, now = self.get(batch_id), time.time()
        if not batch.ended(now):
            raise ApiError(404, f"Message batch {batch_id} has not ended: no results yet")
        if batch.archived(now):
            raise ApiError(404, f"The results of message batch {batch_id} are no longer available")
        return self._store.path(batch_id, "results.jsonl")

    def message(self, params: dict[str, Any], call: Call) -> RequestOutcome:
        """Answer a single message."""
        with self._lock:
            rule = self._rules.next(params)
            if self._rules:
                self._store.save_rule_counts(self._rules.counts())
            scripted = self._rules.rules[rule].fault if rule is not None else None
            message_id = "msg_" + secrets.token_hex(12)
            outcome = self._single.respond(params, call, message_id, scripted)
            if outcome.billed and outcome.message is not None:
                usage = outcome.message["usage"]
                self._store.log_message({"model": params["model"], "usage": usage})
                self._bill_message(params["model"], usage)
            return outcome

    def count_tokens(self, params: dict[str, Any]) -> int:
        """Input tokens of params. Raises validation.RefusedError."""
        with self._lock:
            self._single.validator.check_counted(params)
            return self._single.count_tokens(params)

    def message_account(self) -> tuple[int, Tokens]:
        """How many single messages were billed, and their tokens."""
        with self._lock:
            return self._messages_billed, {m: dict(t) for m, t in self._message_tokens.items()}

    def _bill_message(self, model: str, usage: dict[str, Any]) -> None:
        self._messages_billed += 1
        add_tokens(self._message_tokens, model, usage)

    def _check_queue(self, requests: int) -> None:
        limit, now = self._scenario.queue_limit, time.time()
        if limit is None:
            return
        queued = sum(b.record.requests for b in self._batches.values() if not b.ended(now))
        if queued + requests > limit:
            raise ApiError(
                429,
                f"This request would exceed your organization's limit of {limit} batch requests in "
                "the processing queue",
            )

    def _turnaround(self, sequence: int) -> float:
        span = self._scenario.turnaround_seconds
        low, high = span if isinstance(span, tuple) else (span, span)
        return low + (high - low) * draws(self._scenario.seed, "turnaround", sequence)[0]

    def _start(self, batch: Batch) -> None:
        """Queue the work on a batch. One worker in order of arrival, so that draws and cache do not
        depend on who is fast.
        """
        batch.work = self._worker.submit(self._work, batch, batch.record.stopped)

    def _work(self, batch: Batch, stopped: str | None) -> None:
        def abandoned() -> bool:
            return self._closing.is_set() or batch.record.stopped != stopped

        try:
            if abandoned():
                return
            outcome, path, billed = work_through(
                self._store, batch.record, self._scenario, self._responder, abandoned
            )
        except AbandonedError:
            return
        except Exception:
            _log.exception("batch %s cannot be worked through", batch.record.id)
            raise
        with self._lock:
            if not abandoned():
                self._store.save_outcome(batch.record, outcome, path, billed)
                batch.outcome = outcome


class _Index:
    """Notes where each request stands, and the row rule that fires for it."""

    def __init__(self, rules: RowRules) -> None:
        self._rules = rules
        self._counts = rules.counts()
        self.index = array("Q")

    def begin(self) -> None:
        self.index = array("Q")
        self._rules.restore([list(c) for c in self._counts])

    def take(self, request: dict[str, Any], offset: int, size: int) -> None:
        rule = self._rules.next(request["params"]) if self._rules else None
        self.index.extend((offset, size, 0 if rule is None else rule + 1))


def _stamp(moment: float | None) -> str | None:
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
