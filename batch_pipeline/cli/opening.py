"""Opens the load that a reading command is about, without leaving anything behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import Settings

if TYPE_CHECKING:
    from batch_pipeline.stages.context import LoadContext


def existing_load(workload: str, load: str | None, *, with_rows: bool = False) -> LoadContext:
    """The load of that day, or the newest one.

    Raises ConfigurationError where there is none, or where `with_rows` asks for rows that were purged.
    """
    from batch_pipeline.ledger import Ledger
    from batch_pipeline.stages.context import LoadContext, purged_sentence
    from batch_pipeline.workload.catalogue import find_workload

    settings = Settings.from_environment()
    found = find_workload(workload, settings)
    if load is not None:
        found.check_load(load)
    ledger = Ledger.existing(settings)
    day = load or (ledger.newest_load(workload) if ledger else None)
    record = ledger.load(workload, day) if ledger and day else None
    if ledger is None or day is None or record is None:
        what = f"load {load} of {workload}" if load else f"load of {workload}"
        raise ConfigurationError(
            f"There is no {what} in {settings.state}; begin one with `batch-pipeline run {workload}`."
        )
    if with_rows and record.purged_at is not None:
        raise ConfigurationError(purged_sentence(record))
    context = LoadContext(found, day, settings, ledger)
    if with_rows:
        context.require_rows_here(record)
    return context
