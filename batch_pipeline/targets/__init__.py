"""Where validated rows are promoted to: `target_of(workload)` is the one that the workload declares."""

from pathlib import Path

from batch_pipeline.targets.face import Target
from batch_pipeline.workload.postgres_names import table_parts
from batch_pipeline.workload.workload import Workload

__all__ = ["Target", "target_of"]


def target_of(workload: Workload) -> Target:
    """Touches nothing; what each needs is imported where it is chosen."""
    declared = workload.spec.promote
    if declared.to == "postgres":
        from batch_pipeline.targets.postgres import PostgresTarget

        assert declared.url_env is not None
        schema, table = table_parts(declared.table or workload.name)
        return PostgresTarget(declared.url_env, schema, table)
    if declared.to == "parquet":
        from batch_pipeline.targets.parquet import ParquetTarget

        assert declared.path is not None
        url = "://" in declared.path
        place = declared.path if url else str((workload.folder / Path(declared.path)).resolve())
        return ParquetTarget(place)
    from batch_pipeline.targets.warehouse import WarehouseTarget

    return WarehouseTarget(workload.name)
