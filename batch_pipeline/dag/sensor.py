"""The sensor of a workload: polls its batches and launches what each load needs next. It never blocks.

All state is in the ledger; the cursor only remembers when open batches were last shown, so losing it
loses nothing.
"""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from batch_pipeline.claude.client import BatchesApi, UnreachableError
from batch_pipeline.dag.instance import end_abandoned_runs
from batch_pipeline.dag.naming import (
    WORK_TAG,
    asset_key,
    job_name,
    load_tags,
    partition_tags,
    sensor_name,
)
from batch_pipeline.ledger import Batch, Ledger, Load
from batch_pipeline.settings import Settings
from batch_pipeline.stages.next_step import Action, Step, next_step
from batch_pipeline.stages.poll import poll
from batch_pipeline.workload.workload import Workload

# Dagster ends a tick after 60 s; what a tick does not get to, the next one does.
TICK_BUDGET_SECONDS = 40.0
# A piece of work that failed this often waits for a person: the failed runs say why.
MOST_TRIES = 3
# An observation per tick would flood the event log for a wait of up to 24 hours.
OBSERVE_SECONDS = 600.0
CEILING_HOURS = 24.0


def build_sensor(workload: Workload, jobs: Sequence[Any]) -> dg.SensorDefinition:
    """Runs by default: it finishes what was paid for, and spends only where a load was begun."""
    name = workload.name

    @dg.sensor(
        name=sensor_name(name),
        jobs=jobs,
        minimum_interval_seconds=max(int(Settings.from_environment().poll_seconds), 1),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Polls the open batches of {name}; launches collect when some have ended, and publish "
        "when every row has its disposition.",
    )
    def poll_batches(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        return tick(workload, context)

    return poll_batches


def tick(workload: Workload, context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """One look at every unfinished load of the workload."""
    settings = Settings.from_environment()
    ledger = Ledger.existing(settings.state)
    loads = ledger.unfinished_loads(workload.name) if ledger else []
    if not loads or ledger is None:
        return dg.SensorResult(skip_reason="No load is unfinished.")
    end_abandoned_runs(context.instance)
    deadline = time.monotonic() + TICK_BUDGET_SECONDS
    shown: dict[str, list[object]] = json.loads(context.cursor) if context.cursor else {}
    requests: list[dg.RunRequest] = []
    observations: list[dg.AssetObservation] = []
    said: list[str] = []
    api: BatchesApi | None = None
    for record in loads:
        if time.monotonic() > deadline:
            said.append("the rest waits for the next tick")
            break
        if any(batch.open for batch in ledger.batches(record)):
            api = api or BatchesApi()
            try:
                poll(ledger, record, api, settings.grace_seconds)
            except UnreachableError as error:
                said.append(f"{record.load}: {error}")
                continue
        observations += _observe(workload, record, ledger.batches(record), shown)
        step = next_step(ledger, workload.name, record.load)
        request, sentence = _request(workload, context.instance, record.load, step)
        said.append(sentence)
        requests += [request] if request else []
    kept = {record.load: shown[record.load] for record in loads if record.load in shown}
    return dg.SensorResult(
        run_requests=requests or None,
        skip_reason=None if requests else "; ".join(said),
        asset_events=observations,
        cursor=json.dumps(kept),
    )


def _request(
    workload: Workload, instance: dg.DagsterInstance, load: str, step: Step
) -> tuple[dg.RunRequest | None, str]:
    if step.action not in (Action.SUBMIT, Action.COLLECT, Action.PUBLISH):
        words = {
            Action.WAIT: "batches are running",
            Action.UNRESOLVED: "an intent is unresolved, nothing more is sent; see batch_submission",
        }
        return None, f"{load}: {words.get(step.action, step.action.value)}"
    kind = step.action.value
    work = f"{workload.name}|{load}|{kind}|{step.work}"
    # A run by hand or by the CLI on this load is given the time to finish.
    busy = instance.get_runs_count(
        dg.RunsFilter(tags=partition_tags(workload.name, load), statuses=_UNFINISHED)
    )
    if busy:
        return None, f"{load}: a run is under way"
    tries = instance.get_runs_count(dg.RunsFilter(tags={WORK_TAG: work}))
    if tries >= MOST_TRIES:
        return (
            None,
            f"{load}: {kind} failed {tries} times and waits for a person; launch it by hand",
        )
    return (
        dg.RunRequest(
            # A key is used up by its run, even a failed one: each try needs its own.
            run_key=f"{work}|{tries + 1}",
            job_name=job_name(workload.name, kind),
            partition_key=load,
            tags={**load_tags(workload.name, load), WORK_TAG: work},
        ),
        f"{load}: {kind}",
    )


_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def _observe(
    workload: Workload, record: Load, batches: list[Batch], shown: dict[str, list[object]]
) -> Iterator[dg.AssetObservation]:
    """An observation when something changed, or now and then while batches run."""
    open_batches = [batch for batch in batches if batch.open]
    signature = f"{record.generation}/{len(batches)}/{len(open_batches)}"
    before, at = shown.get(record.load, ["", 0.0])
    moment = time.time()
    assert isinstance(at, int | float)
    if signature == before and (not open_batches or moment - at < OBSERVE_SECONDS):
        return
    shown[record.load] = [signature, moment]
    yield observation(workload.name, record.load, batches)


def observation(workload: str, load: str, batches: list[Batch]) -> dg.AssetObservation:
    """How a load's batches stand, for the page of batch_submission."""
    open_batches = [batch for batch in batches if batch.open]
    age = max(
        ((datetime.now(UTC) - batch.created_at).total_seconds() / 3600 for batch in open_batches),
        default=0.0,
    )
    return dg.AssetObservation(
        asset_key=asset_key(workload, "batch_submission"),
        partition=load,
        description=f"{len(open_batches)} of {len(batches)} batches are still running.",
        metadata={
            "open_batches": len(open_batches),
            "ended_batches": len(batches) - len(open_batches),
            "oldest_open_hours": round(age, 3),
            "share_of_24_h": round(age / CEILING_HOURS, 4),
            "succeeded": sum(batch.succeeded for batch in batches),
            "errored": sum(batch.errored for batch in batches),
            "expired": sum(batch.expired for batch in batches),
        },
    )
