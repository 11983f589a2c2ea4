"""The synchronous lane: a chunk's requests sent one by one, some at a time, each answered at once.

The calling thread alone decides what is sent; the others put a request on file, send it, wait, and put its answer
on file. A signal, which Python hands to the main thread, is so heard while requests are under way, and strikes
none between the API and the file.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import pyarrow.parquet as pq

from batch_pipeline.claude.body import DamagedBodyError, body_requests
from batch_pipeline.claude.errors import NotCreatedError, NotNowError
from batch_pipeline.claude.messages import INTERRUPTED, MessagesApi, errored, is_lost
from batch_pipeline.ledger import Chunk, Load
from batch_pipeline.ledger.transactions import now
from batch_pipeline.rows import Place, arrow_file
from batch_pipeline.stages import stopping
from batch_pipeline.stages.answers import Answers, open_answers
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.lanes import sync_batch_id

# What is under way when a stop is asked for is given so long to be answered.
_STOP_SECONDS = 5.0
_SETTLE_LOOK_SECONDS = 0.05
# How often the ledger is asked whether the load was cancelled.
_LOOK_SECONDS = 1.0
# The waits between tries double, from this share of the time that a request may wait in all.
_FIRST_WAIT = 1 / 32

# So many requests in a row whose fate is unknown mean that the API is down: each costs its row an attempt.
_LOST_IN_A_ROW = 10

_CANCELED = b'{"type":"canceled"}'
_Request = tuple[str, bytes]


class StoppedError(Exception):
    """This process was asked to stop before all was answered."""


def answer_chunk(
    context: LoadContext, record: Load, chunk: Chunk, api: Callable[[], MessagesApi]
) -> None:
    """Sends what has no answer yet of a chunk whose intent is committed; then it is a batch that has ended.

    Requests that were under way when an earlier process ended become errors of type `interrupted`: they may
    have been paid for, and are sent again within their attempts. Where the load is cancelled, or the chunk's
    body is lost, what was not sent becomes `canceled`.

    Args:
        context: the load, which the caller holds.
        record: its record.
        chunk: an open intent.
        api: makes the client; called only where something is to be sent.

    Raises:
        NotNowError: the API has no room, or cannot be reached, for longer than a polling interval, or fails one
            request after the other. What was answered is kept; call again later.
        NotCreatedError: likewise, but a person must mend something before.
        StoppedError: `stopping.asked` was set.
    """
    folder = context.folder(record)
    with open_answers(folder.answers(chunk.chunk_id)) as answers:
        _close_interrupted(context, chunk, answers)
        unanswered = (
            (custom_id, params)
            for custom_id, params in body_requests(folder.body(chunk.chunk_id), chunk.token)
            if custom_id not in answers.answered
        )
        if len(answers.answered) < chunk.requests and not context.record().cancelled:
            # The rows of a body that cannot be read were not sent; they are cut into another chunk.
            with suppress(DamagedBodyError):
                _Sending(context, record, chunk, answers, api()).all(unanswered)
        asked = (f"{chunk.token}-{row}" for row in _rows(folder.sent(chunk.chunk_id)))
        answers.add_all([each for each in asked if each not in answers.answered], _CANCELED)
        answers.sync()
    _record(context, chunk, answers)
    folder.body(chunk.chunk_id).unlink(missing_ok=True)


def _rows(sent: Place) -> list[int]:
    """The rows that have a request of their own; the others share the answer of one that carries them."""
    table: Any = pq.read_table(arrow_file(sent))
    if "of" in table.column_names:
        table = table.filter(table["of"].is_null())
    rows: list[int] = table["row"].to_pylist()
    return rows


def _close_interrupted(context: LoadContext, chunk: Chunk, answers: Answers) -> None:
    if not answers.under_way:
        return
    context.ledger.record_lost_answer(
        chunk.chunk_id,
        f"up to {context.workload.spec.sync.concurrency} requests were under way when the process ended",
    )
    answers.add_all(
        sorted(answers.under_way),
        errored(INTERRUPTED, "the process ended before the answer was there"),
    )


def _record(context: LoadContext, chunk: Chunk, answers: Answers) -> None:
    assert chunk.api is not None
    batch_id = sync_batch_id(chunk)
    context.ledger.record_submitted(
        chunk.chunk_id,
        batch_id=batch_id,
        request_id=None,
        api=chunk.api,
        status="ended",
        created_at=chunk.intended_at,
        expires_at=None,
    )
    # A crash in between: collecting counts again where it finds no end.
    context.ledger.update_batch(batch_id, ended_at=now(), **counts(answers.results))


def counts(results: dict[str, int]) -> dict[str, int]:
    """Results by type as the ledger's columns of a batch."""
    kinds = ("succeeded", "errored", "canceled", "expired")
    return {kind: results.get(kind, 0) for kind in kinds}


@dataclass
class _Outcome:
    request: _Request
    result: bytes | Exception


class _Sending:
    """Sends requests, at most `concurrency` at a time, until all are answered or none can be sent."""

    def __init__(
        self,
        context: LoadContext,
        record: Load,
        chunk: Chunk,
        answers: Answers,
        api: MessagesApi,
    ) -> None:
        self._context = context
        self._record = record
        self._answers = answers
        self._patience = context.settings.poll_seconds
        self._most = min(context.workload.spec.sync.concurrency, chunk.requests)
        self._allowed = self._most
        self._under_way = 0
        self._again: deque[_Request] = deque()
        self._end: Exception | None = None
        self._cancelled = False
        self._looked_at = time.monotonic()
        self._progressed = False
        self._lost = 0
        # Since when the API takes nothing, how often it said so, and until when it is left alone.
        self._vain_since: float | None = None
        self._vain_tries = 0
        self._resume_at = 0.0
        self._inbox: queue.SimpleQueue[_Request | None] = queue.SimpleQueue()
        self._outbox: queue.SimpleQueue[_Outcome] = queue.SimpleQueue()
        for n in range(self._most):
            # A daemon: a process that is asked to stop does not wait ten minutes for an answer.
            threading.Thread(
                target=_work,
                args=(api, answers, self._inbox, self._outbox),
                name=f"sync-{n}",
                daemon=True,
            ).start()

    def all(self, requests: Iterator[_Request]) -> None:
        """Raises NotNowError, NotCreatedError and DamagedBodyError when nothing is under way any more.

        Raises StoppedError, and whatever interrupts this thread, a few seconds later at most.
        """
        try:
            while self._hand_out(requests) or self._under_way:
                if stopping.asked.is_set():
                    raise StoppedError
                self._take_in(self._pause())
        except BaseException:
            self._settle()
            raise
        finally:
            for _ in range(self._most):
                self._inbox.put(None)
        if self._end is not None:
            raise self._end

    def _hand_out(self, requests: Iterator[_Request]) -> bool:
        """Sends as many as may be now; false when nothing remains to be sent."""
        while not (self._end or self._is_cancelled()):
            if self._under_way >= self._allowed or time.monotonic() < self._resume_at:
                return True
            request = self._again.popleft() if self._again else self._next(requests)
            if request is None:
                return False
            # Each is paid by itself, so each asks whether the load is still this process's.
            self._context.ledger.require_hold(self._record.workload, self._record.load)
            self._under_way += 1
            self._inbox.put(request)
        return False

    def _next(self, requests: Iterator[_Request]) -> _Request | None:
        try:
            return next(requests, None)
        except DamagedBodyError as error:
            self._end = error
            return None

    def _is_cancelled(self) -> bool:
        if not self._cancelled and time.monotonic() - self._looked_at >= _LOOK_SECONDS:
            self._looked_at = time.monotonic()
            self._cancelled = self._context.record().cancelled
        return self._cancelled

    def _pause(self) -> float:
        left = self._resume_at - time.monotonic()
        return min(left, _LOOK_SECONDS) if left > 0 else _LOOK_SECONDS

    def _take_in(self, seconds: float) -> None:
        """Waits for an answer, and takes note of all that have come."""
        with suppress(queue.Empty):
            outcome = self._outbox.get(timeout=seconds)
            while True:
                self._take_note(outcome)
                outcome = self._outbox.get_nowait()

    def _take_note(self, outcome: _Outcome) -> None:
        result = outcome.result
        self._under_way -= 1
        if isinstance(result, bytes):
            self._vain_since, self._vain_tries = None, 0
            self._allowed = min(self._allowed + 1, self._most)
            self._note_progress()
            self._note_loss(lost=is_lost(result))
        elif isinstance(result, NotNowError):
            self._again.append(outcome.request)
            self._hold_off(result)
        elif isinstance(result, NotCreatedError):
            self._end = self._end or result
        else:
            raise result

    def _note_progress(self) -> None:
        """Once: what is launched to go on with this chunk is then another piece of work than this one."""
        if not self._progressed:
            self._progressed = True
            self._context.ledger.update_load(self._record, not_before=now(), waits_for=None)

    def _note_loss(self, *, lost: bool) -> None:
        self._lost = self._lost + 1 if lost else 0
        if self._lost >= _LOST_IN_A_ROW:
            self._end = self._end or NotNowError(
                f"{self._lost} requests in a row were not answered properly; they may have been paid, and are "
                "sent again."
            )

    def _hold_off(self, error: NotNowError) -> None:
        """Fewer at a time, and none for a while; the end, where that would take too long."""
        moment = time.monotonic()
        since = self._vain_since = self._vain_since or moment
        if moment >= self._resume_at:
            self._allowed = max(self._allowed // 2, 1)
            self._vain_tries += 1
        wait = self._patience * _FIRST_WAIT * 2 ** (self._vain_tries - 1)
        if error.retry_after is not None:
            wait = max(wait, error.retry_after)
        if moment + wait - since > self._patience:
            self._end = self._end or error
        self._resume_at = max(self._resume_at, moment + wait)

    def _settle(self) -> None:
        """Something ended this early: what is under way is given a moment, and its answers are kept."""
        # By the file, not by the count, which the interruption may have left one too high.
        self._answers.start_no_more()
        until = time.monotonic() + _STOP_SECONDS
        while self._answers.under_way and time.monotonic() < until:
            with suppress(queue.Empty):
                self._take_note(self._outbox.get(timeout=_SETTLE_LOOK_SECONDS))


def _work(
    api: MessagesApi,
    answers: Answers,
    inbox: "queue.SimpleQueue[_Request | None]",
    outbox: queue.SimpleQueue[_Outcome],
) -> None:
    while (request := inbox.get()) is not None:
        result: bytes | Exception
        try:
            if not answers.start(request[0]):
                continue
            try:
                result = api.answer(request[1])
                answers.add(request[0], result)
            except (NotNowError, NotCreatedError) as error:
                result = error
                answers.not_taken(request[0])
        except Exception as error:  # noqa: BLE001 - whatever it is, the thread that waits for it deals with it
            result = error
        outbox.put(_Outcome(request, result))
