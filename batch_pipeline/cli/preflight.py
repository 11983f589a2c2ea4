"""All that can be found wrong before anything is written or sent."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.errors import UnreachableError
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Ledger
from batch_pipeline.rows import ObjectPath, shared
from batch_pipeline.rows.query import querying
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.next_step import Action, next_step
from batch_pipeline.stages.promotable import require_promotable
from batch_pipeline.stages.source import check_source
from batch_pipeline.stages.source_check import SOURCE
from batch_pipeline.warehouse import check_warehouse
from batch_pipeline.workload.catalogue import find_workload


def preflight(name: str, load: str | None, *, resend: bool = False) -> LoadContext:
    """The load to drive, checked. Leaves no trace when it fails.

    Raises:
        ConfigurationError: workload, source, golden set, checks, prices, date, API key, state folder or the store
            of the rows, or the place that rows are promoted to.
        PipelineError: a store or a database that one of them is in does not answer.
    """
    settings = Settings.from_environment()
    workload = find_workload(name, settings)
    day = load or workload.last_complete_day()
    workload.check_load(day)
    workload.user_checks()
    ledger = Ledger.existing(settings)
    record = ledger.load(name, day) if ledger else None
    if record is None or resend:
        with tempfile.TemporaryDirectory() as scratch, querying(Path(scratch)) as connection:
            check_source(workload, day, connection)
            described = connection.execute(f"DESCRIBE FROM {SOURCE}").fetchall()
            columns = {row[0]: row[1] for row in described}
            require_promotable(connection, workload, settings, columns, SOURCE)
    if resend or _will_call(ledger, name, day):
        _check_address()
        # An API that does not answer is no matter of configuration: the drive goes on trying.
        with suppress(UnreachableError):
            BatchesApi().check_access()
    _check_state(settings.state)
    _check_rows(settings)
    check_warehouse(settings)
    context = LoadContext.open(workload, day, settings)
    if record is not None and not resend:
        context.require_rows_here(record)
    return context


def _will_call(ledger: Ledger | None, name: str, day: str) -> bool:
    return ledger is None or next_step(ledger, name, day).action not in (
        Action.PROMOTED,
        Action.HELD,
        Action.PUBLISH,
    )


def _check_address() -> None:
    """The SDK takes any text for an address, and would then report a network that is down."""
    text = os.environ.get("ANTHROPIC_BASE_URL")
    if not text:
        return
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConfigurationError(
            "ANTHROPIC_BASE_URL does not hold an address; write it as http://host:port, or unset it for the "
            "real API."
        )


def _check_rows(settings: Settings) -> None:
    root = shared(settings)
    if isinstance(root, ObjectPath):
        root.store.check()
    elif root != settings.state:
        _check_folder("The folder of the rows,", root, "BATCH_PIPELINE_ROWS")


def _check_state(state: Path) -> None:
    _check_folder("The state folder", state, "BATCH_PIPELINE_STATE")


def _check_folder(what: str, folder: Path, setting: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ConfigurationError(
            f"{what} {folder} cannot be written ({error.strerror}); mend that, or set {setting} to another folder."
        ) from None
