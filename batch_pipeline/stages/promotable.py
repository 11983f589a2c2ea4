"""Whether a load could be promoted, asked before it is paid for."""

from collections.abc import Mapping

import duckdb

from batch_pipeline.ledger import Load
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.source_columns import GOLDEN
from batch_pipeline.targets import target_of
from batch_pipeline.targets.face import Planned
from batch_pipeline.warehouse import check_warehouse
from batch_pipeline.workload.data_file import literal
from batch_pipeline.workload.workload import Workload

# The types of what a promotion says of where a row's answer came from.
PROVENANCE = {"_tier": "INTEGER", "_model": "VARCHAR", "_batch_id": "VARCHAR", "_load": "VARCHAR"}


def require_promotable(
    connection: duckdb.DuckDBPyConnection,
    workload: Workload,
    settings: Settings,
    columns: Mapping[str, str],
    source: str,
) -> None:
    """Looks at the place that the workload's rows are promoted to. Changes nothing.

    Args:
        connection: where `source` can be read.
        workload: what would be promoted.
        settings: this host's.
        columns: the source's, name to DuckDB type.
        source: a relation that has the rows' keys.

    Raises:
        PipelineError: it cannot be reached.
        ConfigurationError: it cannot be written, or does not fit.
    """
    # The measures go there, wherever the rows do.
    check_warehouse(settings)
    key = workload.spec.source.key
    promoted = {
        key: columns[key],
        **{field.name: workload.contract.duckdb_type(field) for field in workload.contract.fields},
        **PROVENANCE,
    }
    planned = Planned(workload.name, key, promoted, source)
    target_of(workload).check(settings, connection, planned)


def require_load_promotable(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load
) -> None:
    """As `require_promotable`, of a load whose source was read."""
    source = f"read_parquet({literal(str(context.folder(record).source))})"
    described = connection.execute(f"DESCRIBE FROM {source}").fetchall()
    columns = {row[0]: row[1] for row in described}
    mine = f"(FROM {source} WHERE NOT {GOLDEN})"
    require_promotable(connection, context.workload, context.settings, columns, mine)
