"""What is wrong now, as far as Dagster knows: failed checks and failed runs.

A check is judged by the newest load that it was evaluated for: when that passes, what an older one said is
over. A failed run is over when a later one of its job and load succeeds, or the load is promoted, held or sent
again. All is read anew at each look, a few rows per check and failed run, however many partitions there are;
so there is no cursor that could be lost.
"""

from collections.abc import Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.event_api import PartitionKeyFilter
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)

from batch_pipeline.alerts.conditions import (
    LAGGING,
    LEADING,
    LOG,
    PAGE,
    Condition,
    asset_link,
    condition_key,
)
from batch_pipeline.alerts.reconcile import Look
from batch_pipeline.dag.check_kinds import LEDGER_CHECKS, kind_of
from batch_pipeline.dag.naming import PUBLISH_STEPS, STEPS, WORK_TAG, WORKLOAD_TAG, job_name
from batch_pipeline.dag.run_worker import PROCESS_TAG, process_tag
from batch_pipeline.dag.sensor import tried_in_vain
from batch_pipeline.ledger import Ledger, Load
from batch_pipeline.ledger.alerting import Alert

# A check that none of these was evaluated for is asked for its last evaluation of all.
_NEWEST_LOADS = 10
# An alert that is open is looked at however old its run is.
_FAILED_SINCE = timedelta(days=7)
_MOST_FAILED_RUNS = 200
_JOBS = ("submit", "collect", "publish", "cancel")
# Whoever was to try again has not, or to no avail.
_PATIENCE = timedelta(hours=1)

_EVALUATED = {AssetCheckExecutionRecordStatus.SUCCEEDED, AssetCheckExecutionRecordStatus.FAILED}


def dagster_look(
    instance: dg.DagsterInstance,
    checks: Iterable[dg.AssetCheckKey],
    ledger: Ledger,
    workloads: Collection[str],
    known: list[Alert],
) -> Look:
    """The failed checks and runs of `workloads`; `known` are their open alerts."""
    found: list[Condition] = []
    silent: set[str] = set()
    # What a check on the score says of a load that is not graded yet, or was cancelled, is no verdict.
    newest = {
        (workload, graded): ledger.newest_loads(workload, _NEWEST_LOADS, graded=graded)
        for workload in workloads
        for graded in (False, True)
    }
    for key in checks:
        workload, step = key.asset_key.path[0], key.asset_key.path[-1]
        if workload not in workloads or step not in STEPS or key.name in LEDGER_CHECKS:
            continue
        record = _last_evaluation(instance, key, newest[workload, step in PUBLISH_STEPS])
        if record is None:
            silent.add(_check_key(key))
        elif record.status is AssetCheckExecutionRecordStatus.FAILED:
            found.append(_failed_check(key, record))
    found += _failed_runs(instance, ledger, workloads, known)
    return Look(found, lambda alert: alert.condition in silent)


def _last_evaluation(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, newest: list[str]
) -> AssetCheckExecutionRecord | None:
    storage = instance.event_log_storage
    # None: of any partition, or of no partition at all.
    for place in (*(PartitionKeyFilter(key=load) for load in newest), None):
        found = storage.get_asset_check_execution_history(
            key, limit=1, status=_EVALUATED, partition_filter=place
        )
        if found:
            return found[0]
    return None


def _check_key(key: dg.AssetCheckKey) -> str:
    return condition_key("check", *key.asset_key.path, key.name)


def _failed_check(key: dg.AssetCheckKey, record: AssetCheckExecutionRecord) -> Condition:
    workload, step = key.asset_key.path[0], key.asset_key.path[-1]
    evaluation = record.evaluation
    kind = kind_of(key.name)
    # A check that pages may say of a single result that it can wait.
    pages = kind.severity == PAGE and (
        evaluation is None or evaluation.severity is dg.AssetCheckSeverity.ERROR
    )
    return Condition(
        key=_check_key(key),
        workload=workload,
        load=record.partition,
        kind=kind.kind,
        severity=PAGE if pages else LOG,
        title=f"{' '.join(filter(None, (workload, record.partition)))}: {key.name} fails",
        sentence=(evaluation and evaluation.description) or "The check fails; it does not say why.",
        link=asset_link(workload, step, record.partition),
    )


def _failed_runs(
    instance: dg.DagsterInstance,
    ledger: Ledger,
    workloads: Collection[str],
    known: list[Alert],
) -> Iterator[Condition]:
    jobs = {job_name(workload, kind): (workload, kind) for workload in workloads for kind in _JOBS}
    failed = instance.get_run_records(
        dg.RunsFilter(
            statuses=[dg.DagsterRunStatus.FAILURE],
            tags={WORKLOAD_TAG: list(workloads)},
            created_after=datetime.now(UTC) - _FAILED_SINCE,
        ),
        limit=_MOST_FAILED_RUNS,
    )
    places = dict.fromkeys(
        (*jobs[run.job_name], run.tags["dagster/partition"])
        for run in (record.dagster_run for record in failed)
        if run.job_name in jobs and "dagster/partition" in run.tags
    )
    for alert in known:
        if alert.condition.startswith("run:") and alert.load is not None:
            kind = alert.condition.rpartition(":")[2]
            places[alert.workload, kind, alert.load] = None
    for workload, kind, load in places:
        last = _last_run(instance, workload, kind, load)
        if last is None or last.dagster_run.status is not dg.DagsterRunStatus.FAILURE:
            continue
        record = ledger.load(workload, load)
        ended = datetime.fromtimestamp(last.end_time or last.update_timestamp.timestamp(), UTC)
        if record is not None and _is_over(record, ended):
            continue
        yield _failed_run(instance, workload, kind, load, last.dagster_run, record, ended)


def _last_run(
    instance: dg.DagsterInstance, workload: str, kind: str, load: str
) -> dg.RunRecord | None:
    found = instance.get_run_records(
        dg.RunsFilter(
            job_name=job_name(workload, kind),
            tags={"dagster/partition": load},
            statuses=[dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE],
        ),
        limit=1,
    )
    return found[0] if found else None


def _is_over(record: Load, ended: datetime) -> bool:
    """Whether the load has gone on since, or the ledger has an alert for the same cause."""
    return (
        record.promoted_at is not None
        or record.gate == "hold"
        or (record.stopped is not None and not record.cancelled)
        or record.created_at > ended
    )


def _failed_run(
    instance: dg.DagsterInstance,
    workload: str,
    kind: str,
    load: str,
    run: dg.DagsterRun,
    record: Load | None,
    ended: datetime,
) -> Condition:
    waits = _is_tried_again(instance, run, record) and datetime.now(UTC) - ended < _PATIENCE
    return Condition(
        key=condition_key("run", workload, load, kind),
        workload=workload,
        load=load,
        kind=LAGGING if waits else LEADING,
        severity=LOG if waits else PAGE,
        title=f"{workload} {load}: {kind} failed",
        sentence=_why(instance, run.run_id)
        + (" It is tried again by itself." if waits else " Mend that, then launch the job again."),
        link=f"runs/{run.run_id}",
    )


def _is_tried_again(instance: dg.DagsterInstance, run: dg.DagsterRun, record: Load | None) -> bool:
    if process := run.tags.get(PROCESS_TAG):
        # A command tries again by itself; the one that asks here has come to its end.
        return process != process_tag()
    if work := run.tags.get(WORK_TAG):
        return not tried_in_vain(instance, work)
    # The sensor goes on with whatever the ledger knows of.
    return record is not None


def _why(instance: dg.DagsterInstance, run_id: str) -> str:
    """The failing step's own sentence. Words of an error that is not ours may quote rows: only its name."""
    for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE):
        event = entry.dagster_event
        data: Any = event and event.event_specific_data
        if event is None or data is None:
            continue
        failure = data.user_failure_data
        if failure is not None and "error" in failure.metadata and failure.description:
            return str(failure.description)
        error = data.error and (data.error.cause or data.error)
        name = error.cls_name if error else "an error"
        return f"The step {event.step_key} raised {name}; the run's page has the rest."
    return "The run ended before a step could say why; the run's page has the rest."
