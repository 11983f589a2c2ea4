"""Runs row-by-row Claude jobs through the Message Batches API in Dagster, and proves what came out."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batch_pipeline.workload.component import BatchWorkload

__version__ = "0.1.0"
__all__ = ["BatchWorkload"]


def __getattr__(name: str) -> Any:
    # `type: batch_pipeline.BatchWorkload` must work, yet the CLI must not pay 3 s for importing Dagster.
    if name == "BatchWorkload":
        from batch_pipeline.workload.component import BatchWorkload

        return BatchWorkload
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
