"""Drives one load through Dagster's jobs in this process, without a daemon."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import dagster as dg

from batch_pipeline.claude.client import BatchesApi, UnreachableError
from batch_pipeline.cli import EXIT_HELD, EXIT_UNFINISHED, EXIT_WRONG_USE
from batch_pipeline.cli.progress import Progress
from batch_pipeline.dag.build import build_definitions
from batch_pipeline.dag.instance import PROCESS_TAG, end_abandoned_runs, open_instance, process_tag
from batch_pipeline.dag.naming import asset_key, job_name, load_tags
from batch_pipeline.dag.sensor import observation
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.next_step import Action, Step, next_step
from batch_pipeline.stages.poll import poll
from batch_pipeline.stages.scorecard import Scorecard, empty_scorecard, measure_load

# A job that fails is tried again after a pause: an API that is overloaded now may not be in a minute.
MOST_TRIES = 3

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Outcome:
    """How a drive ended: the exit code, the measures, and a sentence where one is needed."""

    exit_code: int
    card: Scorecard
    sentence: str | None = None


class JobFailedError(PipelineError):
    """A Dagster run failed; the message is the failing step's own sentence."""

    def __init__(self, sentence: str, error: str) -> None:
        super().__init__(sentence)
        self.error = error


def drive(context: LoadContext, *, max_wait: float | None = None, resend: bool = False) -> Outcome:
    """Goes on until the load is promoted, held, stopped or out of time.

    Args:
        context: the load; `cli.preflight` has checked it.
        max_wait: seconds, or None to wait to the end.
        resend: begin a new generation first.
    """
    deadline = None if max_wait is None else time.monotonic() + max_wait
    with (
        _terminable(),
        open_instance(context.settings) as instance,
        Progress(context) as progress,
    ):
        end_abandoned_runs(instance)
        drive_it = _Drive(context, _Jobs(context, instance), progress, deadline)
        try:
            if resend:
                source = f"{context.workload.name}__source_rows"
                failure = drive_it.launch(
                    Step(Action.SUBMIT, "resend"), {source: {"config": {"resend": True}}}
                )
                if failure is not None:
                    return failure.outcome
            return drive_it.to_the_end()
        except KeyboardInterrupt:
            return _outcome(
                context,
                EXIT_UNFINISHED,
                f"stopped; {context} goes on where it is: call again, or let the sensor carry on.",
            )


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM ends a drive as Ctrl-C does: cleanly, with the exit code and the JSON of a stop."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def publish_with_override(context: LoadContext, reason: str, user: str) -> None:
    """Launches the publish job's last step with a reason. Raises JobFailedError."""
    with open_instance(context.settings) as instance:
        _Jobs(context, instance).launch(
            "publish",
            steps=["promoted_rows"],
            ops={
                f"{context.workload.name}__promoted_rows": {
                    "config": {"override_reason": f"{reason} ({user})"}
                }
            },
        )


class _Drive:
    """The loop: look at the batches, ask what the load needs, do it, wait."""

    def __init__(
        self, context: LoadContext, jobs: "_Jobs", progress: Progress, deadline: float | None
    ) -> None:
        self._context = context
        self._jobs = jobs
        self._progress = progress
        self._deadline = deadline
        self._api = BatchesApi()
        self._tries: dict[str, int] = {}

    def to_the_end(self) -> Outcome:
        while True:
            self._poll()
            step = self._next()
            outcome = self._ended(step.action)
            if outcome is not None:
                return outcome
            if step.action is not Action.WAIT:
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
        self._progress.say(f"{step.action.value} …")
        try:
            self._jobs.launch(step.action.value, ops=ops)
        except JobFailedError as error:
            if error.error == ConfigurationError.__name__:
                return _Failed(True, _outcome(self._context, EXIT_WRONG_USE, str(error)))
            if self._next().action in (Action.HELD, Action.UNRESOLVED):
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
        if step.action is Action.HELD and _held(self._context) is None:
            return Step(Action.PUBLISH, "again")
        return step

    def _ended(self, action: Action) -> Outcome | None:
        if action is Action.PROMOTED:
            return _outcome(self._context, 0)
        if action is Action.HELD:
            return _held(self._context)
        if action is Action.UNRESOLVED:
            return _outcome(self._context, EXIT_UNFINISHED, _unresolved(self._context))
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
            self._jobs.instance.report_runless_asset_event(
                observation(context.workload.name, context.load, context.ledger.batches(record))
            )
        self._progress.update()

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


def _held(context: LoadContext) -> Outcome | None:
    card = measure_load(context)
    if card.gate is not None and card.gate.promote:
        return None
    return Outcome(EXIT_HELD, card)


def _unresolved(context: LoadContext) -> str:
    return (
        f"{context}: a chunk was sent and its answer was lost, so nothing more of this load is sent. Look in "
        "the Anthropic Console for a batch of that time and size: if there is none, `run --resend` sends the "
        "load again; if there is one, that would pay for it twice."
    )


def _outcome(context: LoadContext, code: int, sentence: str | None = None) -> Outcome:
    try:
        return Outcome(code, measure_load(context), sentence)
    except PipelineError as error:
        # The state itself is damaged; the caller still gets its exit code and an object.
        empty = empty_scorecard(context.workload.name, context.load)
        return Outcome(code or EXIT_UNFINISHED, empty, sentence or str(error))


class _Jobs:
    """The workload's jobs, run in this process and recorded in the instance."""

    def __init__(self, context: LoadContext, instance: dg.DagsterInstance) -> None:
        self.instance = instance
        self._context = context
        self._definitions = build_definitions(context.workload)

    def launch(
        self, kind: str, *, steps: list[str] | None = None, ops: dict[str, Any] | None = None
    ) -> None:
        """Runs one job for the load. Raises JobFailedError with the failing step's sentence."""
        name = self._context.workload.name
        job = self._definitions.resolve_job_def(job_name(name, kind))
        result = _to_its_end(
            lambda: job.execute_in_process(
                instance=self.instance,
                partition_key=self._context.load,
                run_config={**_QUIET, "ops": ops or {}},
                asset_selection=[asset_key(name, step) for step in steps] if steps else None,
                tags={**load_tags(name, self._context.load), PROCESS_TAG: process_tag()},
                raise_on_error=False,
            )
        )
        if not result.success:
            raise _failure(result)


def _to_its_end(job: Callable[[], dg.ExecuteInProcessResult]) -> dg.ExecuteInProcessResult:
    """Runs a job beside this thread, so that Ctrl-C waits for it instead of cutting a POST in half.

    A second Ctrl-C stops at once; what was under way is then resolved by the next call.
    """
    results: list[dg.ExecuteInProcessResult] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(job())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        thread.join()
        raise
    if errors:
        raise errors[0]
    return results[0]


def _failure(result: dg.ExecuteInProcessResult) -> JobFailedError:
    for event in result.all_events:
        if event.event_type_value != "STEP_FAILURE":
            continue
        data: Any = event.event_specific_data
        if data.user_failure_data is not None:
            error = data.user_failure_data.metadata.get("error")
            return JobFailedError(
                data.user_failure_data.description or "", error.value if error else ""
            )
        # Dagster wraps what a step raised; the cause is what happened.
        error = data.error.cause or data.error if data.error else None
        message = error.message.strip() if error else "the step failed"
        return JobFailedError(f"{event.step_key}: {message}", (error and error.cls_name) or "")
    return JobFailedError("The run failed before any step began.", "")
