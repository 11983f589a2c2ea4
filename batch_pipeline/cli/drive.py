"""Drives one load through Dagster's jobs in this process, without a daemon."""

import time
from dataclasses import dataclass
from typing import Any

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.errors import UnreachableError
from batch_pipeline.cli import EXIT_HELD, EXIT_UNFINISHED, EXIT_WRONG_USE
from batch_pipeline.cli.jobs import JobFailedError, Jobs
from batch_pipeline.cli.progress import Progress
from batch_pipeline.cli.stops import caught, interruptible
from batch_pipeline.dag.cancel_job import cancel_op
from batch_pipeline.dag.instance import end_abandoned_runs, open_instance
from batch_pipeline.dag.sensor import observation
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger.records import Phase
from batch_pipeline.obstacles import NoRoomError
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.findings import findings
from batch_pipeline.stages.measured import measured
from batch_pipeline.stages.next_step import Action, Step, next_step
from batch_pipeline.stages.poll import poll
from batch_pipeline.stages.resolve import resolve
from batch_pipeline.stages.scorecard import (
    Scorecard,
    empty_scorecard,
    measure_load,
    to_promote_anew,
)

# A job that fails is tried again after a pause: an API that is overloaded now may not be in a minute.
MOST_TRIES = 3


@dataclass(frozen=True)
class Outcome:
    """How a drive ended: the exit code, the measures, and a sentence where one is needed."""

    exit_code: int
    card: Scorecard
    sentence: str | None = None


def drive(context: LoadContext, *, max_wait: float | None = None, resend: bool = False) -> Outcome:
    """Goes on until the load is promoted, held, stopped or out of time.

    Args:
        context: the load; `cli.preflight` has checked it.
        max_wait: seconds, or None to wait to the end.
        resend: begin a new generation first.
    """
    deadline = None if max_wait is None else time.monotonic() + max_wait
    with (
        caught(),
        open_instance(context.settings) as instance,
        Progress(context) as progress,
    ):
        end_abandoned_runs(instance, context.workload.name, context.ledger)
        drive_it = _Drive(context, Jobs(context, instance), progress, deadline)
        try:
            with interruptible():
                if resend:
                    source = f"{context.workload.name}__source_rows"
                    failure = drive_it.launch(
                        Step(Action.SUBMIT, "resend"), {source: {"config": {"resend": True}}}
                    )
                    if failure is not None:
                        return failure.outcome
                return drive_it.to_the_end()
        except ConfigurationError:
            raise
        except PipelineError as error:
            return _outcome(context, EXIT_UNFINISHED, str(error))
        except KeyboardInterrupt:
            return _outcome(
                context,
                EXIT_UNFINISHED,
                f"stopped; {context} goes on where it is: call again, or let the sensor carry on.",
            )


def publish_with_override(context: LoadContext, reason: str, user: str) -> None:
    """Launches the publish job's last step with a reason. Raises JobFailedError."""
    with open_instance(context.settings) as instance:
        Jobs(context, instance).launch(
            "publish",
            steps=["promoted_rows"],
            ops={
                f"{context.workload.name}__promoted_rows": {
                    "config": {"override_reason": f"{reason} ({user})"}
                }
            },
        )


def cancel_and_close(
    context: LoadContext, *, reason: str, by: str, max_wait: float | None
) -> Outcome:
    """Launches the cancel job, then goes on until every row is closed.

    Raises:
        ConfigurationError: the load has nothing left to cancel.
        JobFailedError: nothing more is sent, but the API could not be asked to stop what runs.
    """
    record = context.record()
    if record.phase is Phase.SETTLED and not record.cancelled:
        raise ConfigurationError(
            f"{context}: every row has its disposition already, so nothing is left to cancel."
        )
    if record.phase is not Phase.SETTLED:
        op = {cancel_op(context.workload.name): {"config": {"reason": f"{reason} ({by})"}}}
        with caught(), open_instance(context.settings) as instance:
            jobs = Jobs(context, instance)
            with interruptible():
                jobs.launch("cancel", ops=op)
    return drive(context, max_wait=max_wait)


class _Drive:
    """The loop: look at the batches, ask what the load needs, do it, wait."""

    def __init__(
        self, context: LoadContext, jobs: Jobs, progress: Progress, deadline: float | None
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._progress = progress
        self._deadline = deadline
        self._api = BatchesApi()
        self._tries: dict[str, int] = {}
        self._asked_to_send = False
        self._said: set[str] = set()
        # Of a load that is promoted or held: measuring takes seconds where there are millions of rows.
        self._last: Outcome | None = None

    def to_the_end(self) -> Outcome:
        while True:
            self._poll()
            step = self._next()
            if step.action is Action.STOPPED and not self._asked_to_send:
                # Whoever calls has mended what stopped it, or wants to hear of it again.
                step = Step(Action.SUBMIT, step.work)
            outcome = self._ended(step.action)
            if outcome is not None:
                return outcome
            if step.action in (Action.WAIT, Action.RESOLVE):
                self._say_what_is_waited_for()
            if step.action is Action.RESOLVE:
                if self._resolve():
                    continue
            elif step.action is not Action.WAIT:
                failure = self.launch(step)
                if failure is None:
                    continue
                if failure.final:
                    return failure.outcome
            if self._out_of_time():
                return _outcome(
                    self._context,
                    EXIT_UNFINISHED,
                    f"{self._context} is not finished after the time given; call again to go on.",
                )
            self._pause()

    def launch(self, step: Step, ops: dict[str, Any] | None = None) -> "_Failed | None":
        """Runs the step's job; None when it went well, or when what it left says what to do."""
        work = f"{step.action}|{step.work}"
        self._asked_to_send |= step.action is Action.SUBMIT
        self._progress.say(f"{step.action.value} …")
        try:
            self._jobs.launch(step.action.value, ops=ops)
        except JobFailedError as error:
            if error.error == ConfigurationError.__name__:
                return _Failed(True, _outcome(self._context, EXIT_WRONG_USE, str(error)))
            if error.error == NoRoomError.__name__:
                return _Failed(True, _outcome(self._context, EXIT_UNFINISHED, str(error)))
            if self._next().action in (Action.HELD, Action.STOPPED):
                return None
            self._tries[work] = self._tries.get(work, 0) + 1
            self._progress.say(str(error))
            final = self._tries[work] >= MOST_TRIES
            return _Failed(final, _outcome(self._context, EXIT_UNFINISHED, str(error)))
        self._progress.update()
        return None

    def _next(self) -> Step:
        """What the load needs; a hold is put to the gate again, since its limits may have changed."""
        step = next_step(self._context.ledger, self._context.workload.name, self._context.load)
        if step.action is Action.HELD:
            card = measured(self._context)
            if card.gate is not None and card.gate.promote:
                return Step(Action.PUBLISH, "again")
            self._last = Outcome(EXIT_HELD, card)
        elif step.action is Action.PROMOTED:
            card = measured(self._context)
            if to_promote_anew(self._context, card):
                return Step(Action.PUBLISH, "people")
            self._last = Outcome(0, card)
        return step

    def _ended(self, action: Action) -> Outcome | None:
        if action in (Action.PROMOTED, Action.HELD):
            return self._last
        if action is Action.STOPPED:
            record = self._context.record()
            if record.held_by is not None:
                return _outcome(self._context, EXIT_HELD, f"{self._context}: {record.stopped}")
            stopped = f"{self._context}: {record.stopped} The rest of the load waits; call "
            return _outcome(self._context, EXIT_UNFINISHED, f"{stopped}again when that is mended.")
        return None

    def _poll(self) -> None:
        context = self._context
        record = context.ledger.load(context.workload.name, context.load)
        if record is None:
            return
        try:
            changed = poll(context.ledger, record, self._api, context.settings.grace_seconds)
        except UnreachableError as error:
            self._progress.say(str(error))
            return
        if changed:
            self._observe([])
        self._progress.update()

    def _resolve(self) -> bool:
        """Looks for chunks whose answer was lost; whether that is settled."""
        try:
            resolution = resolve(self._context, self._api)
        except UnreachableError as error:
            self._progress.say(str(error))
            return False
        if resolution is None:
            return False
        for sentence in resolution.said:
            self._say_once(sentence)
        if not resolution.unresolved:
            self._observe(resolution.said)
        return not resolution.unresolved

    def _observe(self, resolved: list[str]) -> None:
        context = self._context
        batches = context.ledger.batches(context.record())
        self._jobs.instance.report_runless_asset_event(
            observation(context.workload.name, context.load, batches, resolved)
        )

    def _say_what_is_waited_for(self) -> None:
        context = self._context
        if context.ledger.load(context.workload.name, context.load) is None:
            return
        record = context.record()
        for finding in findings(context.ledger, record, context.settings):
            self._say_once(finding.sentence)
        for batch in context.ledger.batches(record):
            if batch.retry_reason is not None and batch.retry_at is not None:
                said = f"Batch {batch.batch_id} is read back from {batch.retry_at:%H:%M:%S} UTC on"
                self._say_once(f"{said}: {batch.retry_reason}")

    def _say_once(self, sentence: str) -> None:
        if sentence not in self._said:
            self._said.add(sentence)
            self._progress.say(sentence)

    def _out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _pause(self) -> None:
        pause = self._context.settings.poll_seconds
        if self._deadline is not None:
            pause = min(pause, max(self._deadline - time.monotonic(), 0))
        self._progress.sleep(pause)


@dataclass(frozen=True)
class _Failed:
    """A job that failed; `final` when trying again would not help, or was tried often enough."""

    final: bool
    outcome: Outcome


def _outcome(context: LoadContext, code: int, sentence: str | None = None) -> Outcome:
    try:
        return Outcome(code, measure_load(context), sentence)
    except PipelineError as error:
        # The state itself is damaged; the caller still gets its exit code and an object.
        empty = empty_scorecard(context.workload.name, context.load)
        return Outcome(code or EXIT_UNFINISHED, empty, sentence or str(error))
