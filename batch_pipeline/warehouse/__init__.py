"""The warehouse: metrics, gate decisions and promoted tables, in one DuckDB file."""

from batch_pipeline.warehouse.connection import WarehouseLockedError, warehouse, warehouse_path
from batch_pipeline.warehouse.metrics import GateRecord, LoadRecord, Measure, write_metrics
from batch_pipeline.warehouse.promoted import Promotion, promote_rows

__all__ = [
    "GateRecord",
    "LoadRecord",
    "Measure",
    "Promotion",
    "WarehouseLockedError",
    "promote_rows",
    "warehouse",
    "warehouse_path",
    "write_metrics",
]
