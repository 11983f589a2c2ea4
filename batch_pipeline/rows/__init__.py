"""Row data: immutable Parquet files below one folder per load, written to a temporary name and renamed."""

from batch_pipeline.rows.durable import replacing
from batch_pipeline.rows.folder import LoadFolder

__all__ = ["LoadFolder", "replacing"]
