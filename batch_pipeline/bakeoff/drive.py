"""bakeoff: sends the golden rows to every candidate at once, and goes on until each row of each has its answer.

Every candidate is a load of its own, sent, looked for, read back and judged by the stages that send every
night. A process that dies anywhere is followed by a call that goes on: nothing is paid twice.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from batch_pipeline.bakeoff.candidates import Bakeoff, model_of, open_bakeoff
from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.errors import UnreachableError
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.obstacles import NoRoomError
from batch_pipeline.settings import Settings
from batch_pipeline.stages.bakeoff_name import bakeoff_name
from batch_pipeline.stages.chunks import SendSummary
from batch_pipeline.stages.collect import collect_results
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.escalate import escalate
from batch_pipeline.stages.kept_scorecards import keep_scorecard
from batch_pipeline.stages.next_step import Action, next_step
from batch_pipeline.stages.poll import poll
from batch_pipeline.stages.resolve import resolve
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline.stages.validate import validate_results
from batch_pipeline.workload.workload import Workload

# What fails is tried again after a pause: an API that is overloaded now may not be in a minute.
MOST_TRIES = 3

Say = Callable[[str], None]


@contextmanager
def holding_bakeoff(
    workload: Workload,
    models: Sequence[str],
    settings: Settings,
    *,
    day: str | None = None,
    again: bool = False,
) -> Iterator[Bakeoff]:
    """`open_bakeoff`, by one process at a time. The lock is the kernel's: it ends with its holder.

    Raises ConfigurationError as that, and PipelineError where another process drives a bake-off of the workload.
    """
    opened = open_bakeoff(workload, models, settings, day=day, again=again)
    with opened.candidates[0].ledger.try_hold(bakeoff_name(workload.name), "bakeoff") as held:
        if not held:
            raise PipelineError(
                f"Another process is driving a bake-off of {workload.name}; wait for it to finish, then call again."
            )
        # Anew: who held it before may have sent the very same meanwhile.
        yield opened if again else open_bakeoff(workload, models, settings, day=day)


def run_bakeoff(
    bakeoff: Bakeoff,
    api: Callable[[], BatchesApi],
    *,
    max_wait: float | None = None,
    say: Say = lambda _: None,
    pause: Callable[[float], None] = time.sleep,
) -> list[str]:
    """Goes on until every candidate is closed, or nothing more can be done.

    Args:
        bakeoff: what to drive; the caller holds it (`holding_bakeoff`).
        api: makes the API client.
        max_wait: seconds, or None to wait to the end.
        say: is told what happens, in sentences.
        pause: waits so many seconds; whatever it raises ends the drive, and a later call goes on.

    Returns why it is not finished, a sentence for each candidate that is open; none when it is.

    Raises:
        ConfigurationError: no key, or one that the API refuses.
    """
    deadline = None if max_wait is None else time.monotonic() + max_wait
    drives = [_Drive(bakeoff, candidate, api, say) for candidate in bakeoff.candidates]
    # All are sent before any is waited for.
    for drive in drives:
        drive.send()
        pause(0)
    waited = False
    while True:
        moved = [drive.step() for drive in drives]
        if all(drive.ended for drive in drives):
            break
        if any(moved):
            continue
        if not waited:
            say("all that can be sent is sent; a batch may take up to 24 hours")
        waited = True
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            break
        seconds = bakeoff.candidates[0].settings.poll_seconds
        pause(seconds if left is None else min(seconds, left))
    return [
        drive.stopped or f"{drive.model}: its answers are not all there yet"
        for drive in drives
        if not drive.closed
    ]


class _Drive:
    """One candidate on its way."""

    def __init__(
        self, bakeoff: Bakeoff, context: LoadContext, api: Callable[[], BatchesApi], say: Say
    ) -> None:
        self.model = model_of(context)
        self.closed = False
        self.stopped: str | None = None
        self._bakeoff = bakeoff
        self._context = context
        self._api = api
        self._say = say
        self._said: set[str] = set()
        self._tries = 0
        self._asked = False

    @property
    def ended(self) -> bool:
        return self.closed or self.stopped is not None

    def send(self) -> None:
        """Sends what was never sent, and nothing else: of what was cut off, `step` takes care."""
        record = self._context.ledger.load(self._context.workload.name, self._context.load)
        if record is None or not self._context.ledger.chunks(record):
            self._do(Action.SUBMIT)

    def step(self) -> bool:
        """Looks at the batches, then does what is needed next; whether anything was done."""
        if self.ended:
            return False
        self._look()
        action = self._next()
        if action is Action.STOPPED and not self._asked:
            # Whoever calls has mended what stopped it, or wants to hear of it again.
            action = Action.SUBMIT
        if action in (Action.WAIT, Action.RESOLVE):
            return False
        return self._do(action)

    def _look(self) -> None:
        context = self._context
        record = context.ledger.load(context.workload.name, context.load)
        if record is None:
            return
        try:
            api = self._api()
            resolution = resolve(context, api)
            for sentence in resolution.said if resolution else []:
                self._say_once(sentence)
            poll(context.ledger, context.record(), api, context.settings.grace_seconds)
        except UnreachableError as error:
            self._say_once(str(error))

    def _next(self) -> Action:
        return next_step(
            self._context.ledger, self._context.workload.name, self._context.load
        ).action

    def _do(self, action: Action) -> bool:
        """False where it failed and is to be tried again after a pause."""
        context = self._context
        try:
            if action is Action.SUBMIT:
                self._asked = True
                self._submit()
            elif action is Action.COLLECT:
                read = sum(collect_results(context, self._api).results.values())
                if read:
                    self._say(f"{self.model}: {read:,} results read back")
                validate_results(context)
                self._tell(escalate(context, self._api).sent)
            elif action is Action.STOPPED:
                self.stopped = f"{self.model}: {context.record().stopped}"
            else:
                self._close()
        except (ConfigurationError, NoRoomError):
            raise
        except PipelineError as error:
            self._tries += 1
            self._say_once(str(error))
            if self._next() is Action.STOPPED or self._tries >= MOST_TRIES:
                self.stopped = f"{self.model}: {str(error).removeprefix(f'{self._context}: ')}"
            return False
        return True

    def _submit(self) -> None:
        context = self._context
        read_source(context)
        self._tell(send_pending(context, self._api))

    def _close(self) -> None:
        """Closed for good, so that no purge takes it for unfinished; a promotion there will never be."""
        record = self._context.record()
        if record.gate is None:
            keep_scorecard(self._context.shared, record, measure_load(self._context))
            self._context.ledger.record_gate(record, promote=False, fingerprint="bakeoff")
        self.closed = True

    def _tell(self, sent: SendSummary) -> None:
        if sent.requests:
            batches = "one batch" if sent.batches == 1 else f"{sent.batches:,} batches"
            self._say(f"{self.model}: {sent.requests:,} requests sent in {batches}")
        if sent.waits_for:
            self._say_once(sent.waits_for)

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._say(f"{self.model}: {sentence.removeprefix(f'{self._context}: ')}")
