"""A workload's Dagster jobs, run in this process: what `run`, `cancel` and `promote` launch."""

import threading
from collections.abc import Callable
from typing import Any

import click
import dagster as dg
from dagster._core.utils import make_new_run_id

from batch_pipeline.dag.build import build_definitions
from batch_pipeline.dag.naming import asset_key, job_name, load_tags
from batch_pipeline.dag.run_worker import PROCESS_TAG, carrying_out, process_tag
from batch_pipeline.errors import PipelineError
from batch_pipeline.stages import stopping
from batch_pipeline.stages.context import LoadContext

_HEARS_SIGNALS_WITHIN = 0.2  # seconds
_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


class JobFailedError(PipelineError):
    """A Dagster run failed; the message is the failing step's own sentence."""

    def __init__(self, sentence: str, error: str) -> None:
        super().__init__(sentence)
        self.error = error


class Jobs:
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
        run_id = make_new_run_id()
        with carrying_out(run_id) as tags:
            tags |= {**load_tags(name, self._context.load), PROCESS_TAG: process_tag()}
            result = _to_its_end(
                lambda: job.execute_in_process(
                    instance=self.instance,
                    partition_key=self._context.load,
                    run_config={**_QUIET, "ops": ops or {}},
                    asset_selection=[asset_key(name, step) for step in steps] if steps else None,
                    run_id=run_id,
                    tags=tags,
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
    # Not `Thread.join`: when it is interrupted, Python 3.11 takes the thread for ended.
    ended = threading.Event()

    def work() -> None:
        try:
            results.append(job())
        except BaseException as error:  # noqa: BLE001 - handed to the thread that waits
            errors.append(error)
        finally:
            ended.set()

    def wait() -> None:
        # The kernel may hand a signal to any thread, and Python hears of it when this one runs again.
        while not ended.wait(_HEARS_SIGNALS_WITHIN):
            pass

    stopping.asked.clear()
    threading.Thread(target=work, daemon=True).start()
    try:
        wait()
    except KeyboardInterrupt:
        click.echo("stopping after the step under way; once more stops at once", err=True)
        stopping.asked.set()
        wait()
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
