"""Turns the stages' sentences into what Dagster shows."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from batch_pipeline.errors import PipelineError


@contextmanager
def stage_errors() -> Iterator[None]:
    """A PipelineError fails the step with its sentence and no traceback; anything else is a defect of ours.

    Dagster must not retry: what a stage could mend by trying again it has tried, and the sensor comes back.
    """
    try:
        yield
    except PipelineError as error:
        raise dg.Failure(
            description=str(error),
            metadata={"error": type(error).__name__},
            allow_retries=False,
        ) from None
