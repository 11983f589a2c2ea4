"""What every place that rows are promoted to can do.

What is there is a function of the loads that are promoted now: each key has the row of the newest load that answers it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import duckdb

    from batch_pipeline.rows.place import Place
    from batch_pipeline.settings import Settings
    from batch_pipeline.warehouse import Promotion, Rollback


@dataclass(frozen=True)
class Planned:
    """What a load would promote.

    Attributes:
        workload: its name.
        key: the column of the key.
        columns: of what would be promoted, name to DuckDB type.
        source: a relation that has the rows' keys.
    """

    workload: str
    key: str
    columns: Mapping[str, str]
    source: str


class Target(Protocol):
    """`name` is how a person finds it, without any password; `kind` what Dagster's UI calls its like."""

    @property
    def name(self) -> str: ...

    @property
    def kind(self) -> str: ...

    def check(
        self,
        settings: Settings,
        connection: duckdb.DuckDBPyConnection,
        planned: Planned,
        /,
    ) -> None:
        """Looks whether a load could be promoted, before it is paid for. Changes nothing.

        Args:
            settings: where a host keeps its own things.
            connection: where `planned.source` can be read.
            planned: what the load would promote.

        Raises:
            PipelineError: it cannot be reached.
            ConfigurationError: it cannot be written, or does not fit.
        """
        ...

    def promote_rows(
        self,
        settings: Settings,
        /,
        *,
        workload: str,
        load: str,
        key: str,
        rows: Place,
        fingerprint: str,
        override_reason: str | None,
    ) -> Promotion:
        """Makes the load's rows those of `rows`, a Parquet file of key, fields and provenance; whole, or not at all.

        Raises PipelineError where that cannot be; nothing was changed then, and the next call begins anew.
        """
        ...

    def roll_back(
        self, settings: Settings, /, *, workload: str, load: str, key: str, reason: str, by: str
    ) -> Rollback | None:
        """Takes the load's rows out; None where that was done before.

        Raises NotPromotedHereError where it was never promoted there, PipelineError where that cannot be; nothing was changed then.
        """
        ...
