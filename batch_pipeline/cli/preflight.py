"""All that can be found wrong before anything is written or sent."""

import tempfile
from pathlib import Path

from batch_pipeline.claude.client import BatchesApi, UnreachableError
from batch_pipeline.ledger import Ledger
from batch_pipeline.rows.query import querying
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.next_step import Action, next_step
from batch_pipeline.stages.source import check_source
from batch_pipeline.workload.catalogue import find_workload


def preflight(name: str, load: str | None, *, resend: bool = False) -> LoadContext:
    """The load to drive, checked. Leaves no trace when it fails.

    Raises:
        ConfigurationError: workload, source, golden set, checks, prices, date or API key.
    """
    settings = Settings.from_environment()
    workload = find_workload(name, settings)
    day = load or workload.last_complete_day()
    workload.check_load(day)
    workload.user_checks()
    ledger = Ledger.existing(settings.state)
    begun = ledger is not None and ledger.load(name, day) is not None
    if not begun or resend:
        with tempfile.TemporaryDirectory() as scratch, querying(Path(scratch)) as connection:
            check_source(workload, day, connection)
    if resend or _will_call(ledger, name, day):
        try:
            BatchesApi().check_access()
        except UnreachableError:
            # Not a matter of configuration: the drive goes on trying until its time is up.
            if not begun:
                raise
    return LoadContext.open(workload, day, settings)


def _will_call(ledger: Ledger | None, name: str, day: str) -> bool:
    return ledger is None or next_step(ledger, name, day).action not in (
        Action.PROMOTED,
        Action.HELD,
        Action.PUBLISH,
    )
