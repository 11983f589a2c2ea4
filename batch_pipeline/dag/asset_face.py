"""What the assets of a workload have in common: key, group, owners, partitions; and their load."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from batch_pipeline.dag.naming import WORKLOAD_TAG, asset_key
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.workload.workload import Workload

Results = Iterator[dg.MaterializeResult[Any] | dg.AssetCheckResult]


@dataclass(frozen=True)
class AssetFace:
    """Makes the arguments of `dg.asset` for one workload."""

    workload: Workload
    partitions: dg.PartitionsDefinition[str]

    def of(
        self, step: str, deps: list[str], kinds: set[str], metadata: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        name = self.workload.name
        return {
            "key": asset_key(name, step),
            "deps": [asset_key(name, dep) for dep in deps],
            "group_name": name,
            "owners": self.workload.spec.owners,
            "kinds": kinds,
            "partitions_def": self.partitions,
            "metadata": dict(metadata or {}),
            "tags": {WORKLOAD_TAG: name},
        }

    def load_of(self, context: dg.AssetExecutionContext) -> LoadContext:
        """The load that a run's partition names."""
        return LoadContext.open(self.workload, context.partition_key, Settings.from_environment())
