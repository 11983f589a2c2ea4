"""Promotion into the warehouse: the table promoted.<workload>."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

    from batch_pipeline.rows.place import Place
    from batch_pipeline.settings import Settings
    from batch_pipeline.targets.face import Planned
    from batch_pipeline.warehouse import Promotion, Rollback


@dataclass(frozen=True)
class WarehouseTarget:
    """The default."""

    workload: str
    kind: str = "duckdb"

    @property
    def name(self) -> str:
        return f"promoted.{self.workload}"

    def check(
        self,
        settings: Settings,
        connection: duckdb.DuckDBPyConnection,
        planned: Planned,
        /,
    ) -> None:
        """The warehouse is ours: whoever writes measures to it finds out whether it can be written."""

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
        from batch_pipeline.warehouse import promote_rows

        return promote_rows(
            settings,
            workload=workload,
            load=load,
            key=key,
            rows=rows,
            fingerprint=fingerprint,
            override_reason=override_reason,
        )

    def roll_back(
        self, settings: Settings, /, *, workload: str, load: str, key: str, reason: str, by: str
    ) -> Rollback | None:
        from batch_pipeline.warehouse import roll_back

        return roll_back(settings, workload=workload, load=load, key=key, reason=reason, by=by)
