"""The cancel job: a person's way to stop the spending on one load."""

import dagster as dg

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.dag.failures import stage_errors
from batch_pipeline.dag.naming import WORKLOAD_TAG, job_name
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.workload.workload import Workload


class CancelConfig(dg.Config):
    """What is recorded of the decision."""

    reason: str = "cancelled in Dagster's UI"  # why; shown with the gate's decision


def build_cancel_job(
    workload: Workload, partitions: dg.PartitionsDefinition[str], executor: dg.ExecutorDefinition
) -> dg.JobDefinition:
    """Not tagged as the load's: it must not queue behind the run that is sending."""

    @dg.op(
        name=cancel_op(workload.name),
        description="Nothing more is sent; open batches are asked to stop.",
    )
    def cancel(context: dg.OpExecutionContext, config: CancelConfig) -> None:
        from batch_pipeline.stages.cancel import cancel_load

        load = LoadContext.open(workload, context.partition_key, Settings.from_environment())
        with stage_errors():
            done = cancel_load(
                load, BatchesApi(), reason=config.reason, by=f"run {context.run.run_id}"
            )
        context.log.info(
            "%d batches were asked to stop, %d are open; the sensor reads back what came and closes the rest",
            done.asked,
            done.open,
        )
        if done.later is not None:
            context.log.warning(
                "Not all could be asked yet, and are when they are next looked at: %s", done.later
            )

    @dg.job(
        name=job_name(workload.name, "cancel"),
        partitions_def=partitions,
        executor_def=executor,
        description=f"Stops the spending on a load of {workload.name}: nothing more is sent, what came is kept, "
        "and the rest is closed with a reason. Only sending the load again undoes it.",
        tags={WORKLOAD_TAG: workload.name},
    )
    def cancel_job() -> None:
        cancel()

    return cancel_job


def cancel_op(workload: str) -> str:
    return f"{workload}__cancel_load"
