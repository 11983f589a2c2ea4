"""Chunks on their way to the API, a few side by side: one is uploaded while the next is made.

The send protocol holds for each: its intent is in the ledger before its one POST, and what became of it after.
"""

from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import nullcontext, suppress
from types import TracebackType

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.ledger import Chunk, Lane, Load
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.send import post_chunk


class Uploads:
    """Use as a context: at its end every chunk that was begun has been answered, and the ledger knows."""

    def __init__(
        self,
        context: LoadContext,
        record: Load,
        api: BatchesApi,
        on_sent: Callable[[Chunk], None],
    ) -> None:
        """`on_sent` is called in this thread for each chunk that the API accepted."""
        self._context, self._record, self._api = context, record, api
        self._on_sent = on_sent
        self._at_once = context.settings.at_once
        self._pool = ThreadPoolExecutor(self._at_once, "upload")
        self._running: dict[Future[None], Chunk] = {}

    def __enter__(self) -> "Uploads":
        return self

    def send(self, chunk: Chunk) -> None:
        """Commits the intent and begins the upload; waits while as many as are allowed are under way.

        Raises what came of any chunk, as `post_chunk`; then nothing more should be sent.
        """
        self._context.ledger.record_intent(chunk)
        if self._at_once == 1 or chunk.lane is Lane.SYNC:
            post_chunk(self._context, self._record, chunk, self._api)
            self._on_sent(chunk)
            return
        begun = self._pool.submit(post_chunk, self._context, self._record, chunk, self._api)
        self._running[begun] = chunk
        while len(self._running) >= self._at_once:
            self._settle(wait(self._running, return_when=FIRST_COMPLETED).done)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # None is cut off: an answer that nobody waits for is an answer that is lost.
        self._pool.shutdown()
        with (
            suppress(Exception) if kind else nullcontext()
        ):  # the first error is the one that is raised
            self._settle(set(self._running))

    def _settle(self, done: set[Future[None]]) -> None:
        """Takes note of those that have ended; raises the error of one that did not go well."""
        ended = [(future, self._running.pop(future)) for future in done]
        for future, chunk in ended:
            if future.exception() is None:
                self._on_sent(chunk)
        for future, _ in ended:
            future.result()
