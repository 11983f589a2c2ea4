"""What every stage is given: the workload, the load it works on, and the stores."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger import Ledger, Load
from batch_pipeline.rows import LoadFolder, Place, shared
from batch_pipeline.settings import Settings
from batch_pipeline.workload.workload import Workload

if TYPE_CHECKING:
    # Whoever asks for no rows need not wait for it to be loaded.
    import duckdb


@dataclass(frozen=True)
class LoadContext:
    """One load of one workload. `load` is the partition's date."""

    workload: Workload
    load: str
    settings: Settings
    ledger: Ledger

    @classmethod
    def open(cls, workload: Workload, load: str, settings: Settings) -> "LoadContext":
        workload.check_load(load)
        return cls(workload, load, settings, Ledger.of(settings))

    def record(self) -> Load:
        """The ledger's record. Raises PipelineError where the source was not read yet."""
        record = self.ledger.load(self.workload.name, self.load)
        if record is None:
            raise PipelineError(
                f"{self.workload.name} {self.load} has no source rows yet; "
                f"materialise source_rows first, or launch the submit job."
            )
        return record

    def folder(self, record: Load) -> LoadFolder:
        """Where the load's files lie. Raises PipelineError where they were purged."""
        if record.purged_at is not None:
            raise PipelineError(purged_sentence(record))
        return LoadFolder.configured(self.settings, record.workload, record.load, record.generation)

    def querying(
        self, *, ordered: bool = True
    ) -> "AbstractContextManager[duckdb.DuckDBPyConnection]":
        """As `rows.query.querying`, with the memory that this load's rows and answers ask for."""
        from batch_pipeline.rows.query import querying

        return querying(self.scratch, ordered=ordered, memory=self._memory())

    def require_rows_here(self, record: Load) -> None:
        """Raises ConfigurationError where machines share the ledger, and this one looks elsewhere for the rows."""
        if self.settings.ledger is None or record.purged_at is not None:
            return
        folder = self.folder(record)
        if not folder.source.is_file():
            raise ConfigurationError(
                f"{self} was begun, as the ledger knows, and its rows are not at {folder.root}: set "
                "BATCH_PIPELINE_ROWS as on the machine that began it, or BATCH_PIPELINE_STATE to the folder that they "
                "share. Nothing was sent."
            )

    def _memory(self) -> int | None:
        """None before the source was read."""
        import pyarrow as pa

        from batch_pipeline.rows.query import memory_for, row_bytes

        record = self.ledger.load(self.workload.name, self.load)
        if record is None or record.purged_at is not None:
            return None
        self.require_rows_here(record)
        try:
            size = row_bytes(self.folder(record).source)
        except (OSError, pa.ArrowException):
            # Whoever reads it says what is the matter with it.
            return None
        # A token is some four bytes.
        answer = 4 * max(tier.max_tokens for tier in self.workload.spec.tiers)
        return memory_for(size, answer)

    @property
    def shared(self) -> Place:
        """As `rows.shared`."""
        return shared(self.settings)

    @property
    def scratch(self) -> Path:
        return self.settings.state / "tmp"

    def __str__(self) -> str:
        return f"{self.workload.name} {self.load}"


def purged_sentence(record: Load) -> str:
    """What a person is told who asks for rows that are no longer there."""
    return (
        f"The rows and results of {record.workload} {record.load} were purged at "
        f"{record.purged_at:%Y-%m-%d %H:%M} UTC; its scorecard and what it promoted are kept. Only "
        "`batch-pipeline run --resend` begins it anew, and pays for it again."
    )
