"""`batch_pipeline.BatchWorkload`: the Dagster component that turns one YAML file into a whole DAG."""

from dataclasses import dataclass
from typing import Any

import dagster as dg
from pydantic import BaseModel

from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline.workload.workload import Workload


@dataclass
class BatchWorkload(dg.Component):
    """A bulk Claude job over the Message Batches API: every row sent once, judged, graded and promoted.

    Declare source, prompt, output contract, model tiers, golden set, gates and schedule in `defs.yaml`; the
    component makes seven assets, their checks, three jobs, a sensor and a schedule from it.
    """

    workload: Workload

    @classmethod
    def get_schema(cls) -> type[BaseModel]:
        # Dagster would render `{{ }}` in a Resolvable's attributes, and turn a column's name into an empty
        # string without a word. A plain schema takes them as they are written.
        return WorkloadSpec

    @classmethod
    def load(
        cls, attributes: BaseModel | None, context: dg.ComponentLoadContext
    ) -> "BatchWorkload":
        assert isinstance(attributes, WorkloadSpec)
        return cls(Workload.build(attributes, context.path))

    def build_defs(self, context: Any) -> dg.Definitions:  # noqa: ARG002
        from batch_pipeline.dag.build import build_definitions

        return build_definitions(self.workload)
