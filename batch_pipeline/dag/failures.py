"""Turns the stages' sentences into what Dagster shows."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from batch_pipeline.errors import PipelineError
from batch_pipeline.obstacles import obstacle


@contextmanager
def stage_errors() -> Iterator[None]:
    """A PipelineError fails the step with its sentence and no traceback; so does a full disk.

    Anything else is a defect of ours. Dagster must not retry: what a stage could mend by trying again it has
    tried, and the sensor comes back.
    """
    try:
        yield
    except PipelineError as error:
        raise _failure(error) from None
    except Exception as error:
        found = obstacle(error)
        if found is None:
            raise
        raise _failure(found) from None


def _failure(error: PipelineError) -> dg.Failure:
    return dg.Failure(
        description=str(error), metadata={"error": type(error).__name__}, allow_retries=False
    )
