from collections.abc import Callable

import dagster as dg

from batch_pipeline.dag.asset_face import AssetFace
from batch_pipeline.dag.submit_assets import submit_assets
from batch_pipeline_tests.night import DAY, Night


def test_a_load_above_its_budget_fails_the_check_and_keeps_its_rows(
    night: Callable[..., Night],
) -> None:
    workload = night(gates={"max_cost_usd": 0.0001}).context.workload
    partitions = dg.DailyPartitionsDefinition(start_date="2025-01-01", end_offset=1)
    source_rows = submit_assets(AssetFace(workload, partitions))[0]
    result = dg.materialize(
        [source_rows], partition_key=DAY, instance=dg.DagsterInstance.ephemeral()
    )
    assert result.success
    (found,) = result.get_asset_check_evaluations()
    assert (found.check_name, found.passed) == ("cost_estimate", False)
    assert found.severity is dg.AssetCheckSeverity.ERROR
    assert "gates.max_cost_usd" in (found.description or "")
    assert {"estimate_usd", "estimate_bound_usd", "prefix_tokens"} <= set(found.metadata)
