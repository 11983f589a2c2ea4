"""Row data: immutable Parquet files below one folder per load, on disk or in an object store, whole or not there."""

from batch_pipeline.rows.durable import replacing
from batch_pipeline.rows.folder import LoadFolder
from batch_pipeline.rows.place import ObjectPath, Place, arrow_file, shared

__all__ = ["LoadFolder", "ObjectPath", "Place", "arrow_file", "replacing", "shared"]
