"""Opens the load that a reading command is about, without leaving anything behind."""

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Ledger
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.workload.catalogue import find_workload


def existing_load(workload: str, load: str | None) -> LoadContext:
    """The load of that day, or the newest one. Raises ConfigurationError where there is none."""
    settings = Settings.from_environment()
    found = find_workload(workload, settings)
    if load is not None:
        found.check_load(load)
    ledger = Ledger.existing(settings.state)
    day = load or (ledger.newest_load(workload) if ledger else None)
    if ledger is None or day is None or ledger.load(workload, day) is None:
        what = f"load {load} of {workload}" if load else f"load of {workload}"
        raise ConfigurationError(
            f"There is no {what} in {settings.state}; begin one with `batch-pipeline run {workload}`."
        )
    return LoadContext(found, day, settings, ledger)
