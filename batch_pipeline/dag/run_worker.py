"""Which process carries out a run, said so that others can tell when it is gone.

Dagster's own launcher leaves a run "started" when the machine under it dies. So a run says which process it is in,
and where machines share a ledger it holds a lock there, which the ledger's database frees when that process, or
its whole machine, ends.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from threading import Event, Thread
from typing import Any

import dagster as dg
from dagster._core.execution.context.system import PlanOrchestrationContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.executor.base import Executor
from dagster._core.executor.in_process import InProcessExecutor
from dagster._core.executor.init import InitExecutorContext

from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Ledger
from batch_pipeline.processes import alive
from batch_pipeline.settings import Settings

# A command that runs a job within itself; whoever called it calls again.
PROCESS_TAG = ".dagster/batch_pipeline_process"
WORKER_TAG = ".dagster/batch_pipeline_worker"
LOCKED_TAG = ".dagster/batch_pipeline_locked"
# No workload has such a name.
_LOCKS = "_runs"
# How often a process looks whether it still has it.
_RENEW_SECONDS = 5.0
# Until the process ends, or begins another run: Dagster writes a run's end down after the last step.
_announced = ExitStack()


def process_tag() -> str:
    """Names this process, so that another of its machine can tell whether it is still there."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_gone(run: dg.DagsterRun, ledger: Ledger | None) -> bool:
    """Whether the process that carries out a started run has died, here or on another machine.

    False where that cannot be known: of a run on another machine that shares no ledger with this one.
    """
    host, _, pid = (run.tags.get(WORKER_TAG) or run.tags.get(PROCESS_TAG, "")).rpartition(":")
    if host == socket.gethostname() and not alive(int(pid)):
        return True
    if LOCKED_TAG not in run.tags or ledger is None:
        return False
    if ledger.up_for() < 3 * _RENEW_SECONDS:
        return False  # a restart of its database frees every lock, and those who live take theirs again
    with ledger.try_hold(_LOCKS, run.run_id) as free:
        return free


@contextmanager
def carrying_out(run_id: str) -> Iterator[dict[str, str]]:
    """Holds what shows that the run is alive; yields the tags by which others know where to look."""
    with ExitStack() as stack:
        tags = {WORKER_TAG: process_tag()}
        # A ledger that cannot be reached is told by the step that needs it.
        with suppress(PipelineError):
            settings = Settings.from_environment()
            if settings.ledger is not None:
                ledger = Ledger.of(settings)
                if stack.enter_context(ledger.try_hold(_LOCKS, run_id)):
                    tags[LOCKED_TAG] = "yes"
                    stack.enter_context(_renewed(ledger, run_id))
        yield tags


@contextmanager
def _renewed(ledger: Ledger, run_id: str) -> Iterator[None]:
    """Takes the lock again where its session broke, as when the database was restarted."""
    ended = Event()

    def renew() -> None:
        while not ended.wait(_RENEW_SECONDS):
            with suppress(PipelineError):
                ledger.require_hold(_LOCKS, run_id)

    thread = Thread(target=renew, name="run-lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(_RENEW_SECONDS)


class _AnnouncingExecutor(InProcessExecutor):
    def execute(
        self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan
    ) -> Iterator[dg.DagsterEvent]:
        run_id = plan_context.dagster_run.run_id
        _announced.close()
        tags = _announced.enter_context(carrying_out(run_id))
        plan_context.instance.add_run_tags(run_id, tags)
        yield from super().execute(plan_context, execution_plan)


_plain: Any = dg.in_process_executor


def _announcing(context: InitExecutorContext) -> Executor:
    made = _plain.executor_creation_fn(context)
    return _AnnouncingExecutor(made.retries, made.step_dependency_config)


# A run is seconds of work; a process per step would cost more than the step.
announcing_executor = dg.ExecutorDefinition(
    name=_plain.name,
    config_schema=_plain.config_schema,
    executor_creation_fn=_announcing,
    description="All steps in the process of the run, which says where it is.",
)
