"""The warehouse: metrics, gate decisions and promoted tables, in one DuckDB file or a DuckLake."""

from batch_pipeline.warehouse.connection import (
    WarehouseLockedError,
    check_warehouse,
    in_transaction,
    warehouse,
    warehouse_path,
)
from batch_pipeline.warehouse.metrics import (
    GateRecord,
    LoadRecord,
    Measure,
    write_gate,
    write_metrics,
)
from batch_pipeline.warehouse.promoted import Promotion, promote_rows
from batch_pipeline.warehouse.rolled_back import NotPromotedHereError, Rollback, roll_back

__all__ = [
    "GateRecord",
    "LoadRecord",
    "Measure",
    "NotPromotedHereError",
    "Promotion",
    "Rollback",
    "WarehouseLockedError",
    "check_warehouse",
    "in_transaction",
    "promote_rows",
    "roll_back",
    "warehouse",
    "warehouse_path",
    "write_gate",
    "write_metrics",
]
