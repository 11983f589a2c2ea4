"""A load driven to its end in this process: by the stages, as `batch-pipeline run` does without Dagster, or by it."""

import time
from contextlib import suppress
from typing import Any

import anthropic
import click
import httpx2

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.errors import UnreachableError
from batch_pipeline.cli import EXIT_HELD, EXIT_UNFINISHED, main
from batch_pipeline.cli.preflight import preflight
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.stages.cancel import cancel_load
from batch_pipeline.stages.collect import collect_results
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.escalate import escalate
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.next_step import Action, next_step
from batch_pipeline.stages.poll import poll
from batch_pipeline.stages.promote import promote
from batch_pipeline.stages.resolve import resolve
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline.stages.validate import validate_results
from batch_pipeline_tests.night import HAIKU


def run(workload: str, load: str, max_wait: float, timeout: float | None = None) -> int:
    """The command, as a person calls it. `timeout`: seconds that the SDK waits for an answer."""
    _impatient(timeout)
    try:
        main(["run", workload, "--date", load, "--json", "--max-wait", str(max_wait)])
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def stages(workload: str, load: str, max_wait: float, timeout: float | None = None) -> int:
    """The stages in the order in which `next_step` asks for them; exit codes as those of `run`."""
    _impatient(timeout)
    deadline = time.monotonic() + max_wait
    try:
        context, api = preflight(workload, load), BatchesApi()
    except ConfigurationError as error:
        _say(error)
        return 2
    while time.monotonic() < deadline:
        try:
            if not _look(context, api):
                step = next_step(context.ledger, workload, load)
                if step.action is Action.PROMOTED:
                    return 0
                if step.action is Action.HELD:
                    return EXIT_HELD
                if step.action is Action.STOPPED:
                    return EXIT_UNFINISHED
                if _do(context, api, step.action):
                    continue
        except ConfigurationError as error:
            _say(error)
            return 2
        except PipelineError as error:
            _say(error)
        time.sleep(context.settings.poll_seconds)
    return EXIT_UNFINISHED


def promotion(workload: str, load: str) -> int:
    """Only the last step."""
    promote(preflight(workload, load))
    return 0


def nothing(workload: str, load: str) -> int:
    """What this module imports, and what looking at a load does."""
    preflight(workload, load)
    return 0


def cancel(workload: str, load: str) -> int:
    """Cancels a load, as a person does who wants no more of it; one that was never begun is let be."""
    context = preflight(workload, load)
    try:
        summary = cancel_load(context, BatchesApi(), reason="enough", by="a test")
    except PipelineError as error:
        _say(error)  # it is settled already, or was never begun
    else:
        click.echo(str(summary), err=True)
    return 0


def stranger(name: str, sizes: list[int]) -> int:
    """Creates batches of these sizes in the same workspace, with custom_ids of its own."""
    client = anthropic.Anthropic(max_retries=0)
    for number, size in enumerate(sizes):
        asked: list[Any] = [
            {
                "custom_id": f"their-{number}-{n}",
                "params": {
                    "model": HAIKU,
                    "max_tokens": 16,
                    "messages": [{"role": "user", "content": f"{name} asks {number} {n}"}],
                },
            }
            for n in range(size)
        ]
        with suppress(anthropic.APIError):
            client.messages.batches.create(requests=asked)
        time.sleep(0.2)
    return 0


def _impatient(timeout: float | None) -> None:
    if timeout is not None:
        from anthropic import _base_client

        vars(_base_client)["DEFAULT_TIMEOUT"] = httpx2.Timeout(timeout)


def _look(context: LoadContext, api: BatchesApi) -> bool:
    """Polls; true where the API could not be asked."""
    record = context.ledger.load(context.workload.name, context.load)
    if record is None:
        return False
    try:
        poll(context.ledger, record, api, context.settings.grace_seconds)
    except UnreachableError as error:
        _say(error)
        return True
    return False


def _do(context: LoadContext, api: BatchesApi, action: Action) -> bool:
    """False where there is nothing to do but to wait."""
    match action:
        case Action.SUBMIT:
            read_source(context)
            send_pending(context, BatchesApi)
        case Action.RESOLVE:
            resolution = resolve(context, api)
            return resolution is not None and not resolution.unresolved
        case Action.COLLECT:
            collect_results(context, BatchesApi)
            validate_results(context)
            escalate(context, BatchesApi)
        case Action.PUBLISH:
            grade(context)
            promote(context)
        case _:
            return False
    return True


def _say(error: Exception) -> None:
    click.echo(f"{type(error).__name__}: {error}", err=True)
