"""The asset check on batch_submission: what a person should know while a load is being sent and awaited.

The submit job evaluates it, and the sensor launches the watch job whenever its answer has changed: Dagster
keeps one evaluation that no run made per partition, and refuses a second.
"""

from typing import Any

import dagster as dg

from batch_pipeline.dag.check_kinds import kind_of
from batch_pipeline.dag.naming import asset_key, job_name
from batch_pipeline.ledger import Ledger, Load
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.findings import Finding, findings
from batch_pipeline.workload.workload import Workload

NAME = "sending"


def build_sending_check(
    workload: Workload, partitions: dg.PartitionsDefinition[str]
) -> dg.AssetChecksDefinition:
    """Fails with ERROR for what cannot wait for the morning, and warns of the rest."""

    @dg.asset_check(
        asset=asset_key(workload.name, "batch_submission"),
        name=NAME,
        partitions_def=partitions,
        description="Nothing stops the load from being sent and read back: no lost answer, no spend limit, no "
        "batch past its 24 hours or near its 29 days.",
    )
    def sending(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        load = LoadContext.open(
            workload, context.op_execution_context.partition_key, Settings.from_environment()
        )
        return dg.AssetCheckResult(**_verdict(findings(load.ledger, load.record(), load.settings)))

    return sending


def sending_signature(record: Load, ledger: Ledger, settings: Settings) -> str:
    """Changes when the check's answer does; empty while there is nothing to say."""
    found = findings(ledger, record, settings)
    return "|".join(sorted(f"{finding.page}{finding.topic}" for finding in found))


def build_watch_job(
    workload: Workload, partitions: dg.PartitionsDefinition[str], executor: dg.ExecutorDefinition
) -> dg.JobDefinition:
    """Evaluates the check and nothing else. Not tagged as the load's: it waits for nobody.

    An op that logs the evaluation, because a job of asset checks alone has no partitions.
    """

    @dg.op(name=f"{workload.name}__watch_sending", description=f"Evaluates the check `{NAME}`.")
    def watch(context: dg.OpExecutionContext) -> None:
        load = LoadContext.open(workload, context.partition_key, Settings.from_environment())
        evaluation: Any = dg.AssetCheckEvaluation(
            asset_key=asset_key(workload.name, "batch_submission"),
            check_name=NAME,
            partition=load.load,
            **_verdict(findings(load.ledger, load.record(), load.settings)),
        )
        # Its annotation leaves out what it accepts.
        context.log_event(evaluation)

    @dg.job(
        name=job_name(workload.name, "watch"),
        partitions_def=partitions,
        executor_def=executor,
        description=f"Evaluates the check `{NAME}` of {workload.name} anew; the sensor launches it when the "
        "answer has changed.",
    )
    def watch_job() -> None:
        watch()

    return watch_job


def _verdict(found: list[Finding]) -> dict[str, Any]:
    pages = [finding for finding in found if finding.page]
    if not found:
        said = "Every chunk sent is a batch, and none is near its end of time."
    else:
        said = " ".join(finding.sentence for finding in (pages or found)[:3])
        rest = len(found) - min(len(pages or found), 3)
        said += f" And {rest} more." if rest else ""
    return {
        "passed": not found,
        "severity": dg.AssetCheckSeverity.ERROR if pages else dg.AssetCheckSeverity.WARN,
        "description": said,
        "metadata": {**kind_of(NAME).metadata, "findings": len(found), "pages": len(pages)},
    }
