"""The rollback job: a person's way to undo a promotion."""

import dagster as dg

from batch_pipeline.dag.failures import stage_errors
from batch_pipeline.dag.naming import WORKLOAD_TAG, asset_key, job_name, warehouse_pool
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.workload.workload import Workload


class RollbackConfig(dg.Config):
    """What is recorded of the decision."""

    reason: str  # why; shown with the gate's decision


def build_rollback_job(
    workload: Workload, partitions: dg.PartitionsDefinition[str], executor: dg.ExecutorDefinition
) -> dg.JobDefinition:
    """A job of one step, which has no default reason: launching it by mistake does nothing."""

    @dg.op(
        name=f"{workload.name}__roll_back_load",
        description="The promoted table becomes what it were without the load; the gate is closed.",
        pool=warehouse_pool(),
    )
    def roll_back(context: dg.OpExecutionContext, config: RollbackConfig) -> None:
        from batch_pipeline.report import write_report
        from batch_pipeline.stages.rollback import rollback

        load = LoadContext.open(workload, context.partition_key, Settings.from_environment())
        with stage_errors():
            done = rollback(load, reason=config.reason, by=f"run {context.run.run_id}")
            if done.card is not None:
                write_report(load, done.card)
        context.log_event(observation(workload.name, load.load, done.sentence))

    @dg.job(
        name=job_name(workload.name, "rollback"),
        partitions_def=partitions,
        executor_def=executor,
        description=f"Undoes the promotion of a load of {workload.name}: rows that it had replaced are back, rows "
        "that later loads own stay, and only a person promotes it again.",
        tags={WORKLOAD_TAG: workload.name},
    )
    def rollback_job() -> None:
        roll_back()

    return rollback_job


def observation(workload: str, load: str, sentence: str) -> dg.AssetObservation:
    """For the page of promoted_rows, whose partition counts as materialised still."""
    return dg.AssetObservation(
        asset_key=asset_key(workload, "promoted_rows"),
        partition=load,
        description=f"Rolled back: {sentence}.",
    )
