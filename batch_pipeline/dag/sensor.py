"""The sensor of a workload: polls its batches and launches what each load needs next. It never blocks.

All state is in the ledger; the cursor only remembers when open batches were last shown, and where a tick ran
out of time, so losing it loses nothing.
"""

import json
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

import dagster as dg

from batch_pipeline.claude.client import BatchesApi, BatchStatus
from batch_pipeline.claude.deadline import Deadline
from batch_pipeline.dag.instance import end_abandoned_runs
from batch_pipeline.dag.naming import (
    WORK_TAG,
    asset_key,
    job_name,
    load_tags,
    partition_tags,
    sensor_name,
)
from batch_pipeline.dag.run_worker import WORKER_TAG
from batch_pipeline.dag.sending_check import sending_signature
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Batch, Ledger, Load
from batch_pipeline.obstacles import obstacle
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.findings import CEILING
from batch_pipeline.stages.next_step import Action, Step, next_step
from batch_pipeline.stages.poll import listed, poll
from batch_pipeline.workload.workload import Workload

# Dagster ends a tick after 60 s; what a tick does not get to, the next one does.
TICK_BUDGET_SECONDS = 40.0
# For a ledger that somebody keeps locked: less than a tick has, so that its end is a sentence.
LEDGER_WAIT_SECONDS = 15.0
# A piece of work that failed this often waits for a person: the failed runs say why.
MOST_TRIES = 3
# Of which those do not count whose process or machine died under them; but for ever it is not tried either.
MOST_LOST = 10
# An observation per tick would flood the event log for a wait of up to 24 hours.
OBSERVE_SECONDS = 600.0
# The cursor's key, beside the loads', for the load that a tick which ran out of time came to last.
_CAME_TO = "came to"


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
        try:
            return tick(workload, context)
        except Exception as error:
            # A full disk, or a ledger that somebody keeps locked, is no failure of the sensor.
            found = obstacle(error)
            if found is None:
                raise
            return dg.SensorResult(skip_reason=str(found))

    return poll_batches


def tick(workload: Workload, context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """One look at every unfinished load of the workload."""
    from batch_pipeline.stages.resolve import needs_resolving, resolve

    settings = Settings.from_environment()
    ledger = Ledger.existing(settings, LEDGER_WAIT_SECONDS)
    loads = ledger.unfinished_loads(workload.name) if ledger else []
    if not loads or ledger is None:
        return dg.SensorResult(skip_reason="No load is unfinished.")
    end_abandoned_runs(context.instance, workload.name, ledger)
    deadline = Deadline(TICK_BUDGET_SECONDS)
    shown: dict[str, Any] = json.loads(context.cursor) if context.cursor else {}
    came_to: str | None = None
    running = {
        record.load: [batch for batch in ledger.batches(record) if batch.open] for record in loads
    }
    requests: list[dg.RunRequest] = []
    observations: list[dg.AssetObservation] = []
    said: list[str] = []

    @cache
    def api() -> BatchesApi:
        return BatchesApi(deadline)

    @cache
    def shown_in_list() -> dict[str, BatchStatus]:
        return listed(api(), [batch for batches in running.values() for batch in batches])

    for record in _in_turn(loads, shown.pop(_CAME_TO, None)):
        if deadline.passed:
            said.append("the rest waits for the next tick")
            break
        came_to = record.load
        load = LoadContext(workload, record.load, settings, ledger)
        resolved: list[str] = []
        if running[record.load] or needs_resolving(ledger, record):
            try:
                resolution = resolve(load, api())
                resolved = resolution.said if resolution else []
                poll(ledger, record, api(), settings.grace_seconds, shown_in_list)
            except PipelineError as error:
                said.append(f"{record.load}: {error}")
        seen = shown.setdefault(record.load, ["", 0.0, ""])
        observations += _observe(load, load.record(), seen, resolved)
        requests += _watch(load, load.record(), seen)
        said += [f"{record.load}: {sentence}" for sentence in resolved]
        step = next_step(ledger, workload.name, record.load)
        request, sentence = _request(workload, context.instance, record.load, step)
        said.append(sentence)
        requests += [request] if request else []
    kept = {load: what for load, what in shown.items() if load in running}
    if deadline.passed:
        kept[_CAME_TO] = came_to
    return dg.SensorResult(
        run_requests=requests or None,
        skip_reason=None if requests else "; ".join(said),
        asset_events=observations,
        cursor=json.dumps(kept),
    )


def _in_turn(loads: list[Load], came_to: str | None) -> list[Load]:
    """From the one on after which the last tick ran out of time, and round to it."""
    after = next((i + 1 for i, record in enumerate(loads) if record.load == came_to), 0)
    return loads[after:] + loads[:after]


def _request(
    workload: Workload, instance: dg.DagsterInstance, load: str, step: Step
) -> tuple[dg.RunRequest | None, str]:
    if step.action not in (Action.SUBMIT, Action.COLLECT, Action.PUBLISH):
        words = {
            Action.WAIT: "batches are running, or a time is waited for",
            Action.RESOLVE: "a lost answer is looked for, nothing more is sent; see batch_submission",
            Action.STOPPED: "sending has stopped and waits for a person; see batch_submission",
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
    if tried_in_vain(instance, work):
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


def tried_in_vain(instance: dg.DagsterInstance, work: str) -> bool:
    """Whether a piece of work failed so often that the sensor leaves it to a person."""
    tries = instance.get_runs(dg.RunsFilter(tags={WORK_TAG: work}), limit=MOST_TRIES + MOST_LOST)
    if len(tries) < MOST_TRIES:
        return False
    lost = sum(_was_lost(instance, run) for run in tries)
    return lost > MOST_LOST or len(tries) - lost >= MOST_TRIES


def _was_lost(instance: dg.DagsterInstance, run: dg.DagsterRun) -> bool:
    """Whether a run that had begun failed though none of its steps did: its process, or its machine, is gone."""
    if run.status is not dg.DagsterRunStatus.FAILURE or WORKER_TAG not in run.tags:
        return False
    return not instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)


_UNFINISHED = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def _observe(
    load: LoadContext, record: Load, seen: list[Any], resolved: list[str]
) -> Iterator[dg.AssetObservation]:
    """An observation when something changed, or now and then while batches run."""
    batches = load.ledger.batches(record)
    open_batches = [batch for batch in batches if batch.open]
    signature = f"{record.generation}/{len(batches)}/{len(open_batches)}/{'|'.join(resolved)}"
    moment = time.time()
    if signature == seen[0] and (not open_batches or moment - seen[1] < OBSERVE_SECONDS):
        return
    seen[0], seen[1] = signature, moment
    yield observation(load.workload.name, record.load, batches, resolved)


def _watch(load: LoadContext, record: Load, seen: list[Any]) -> Iterator[dg.RunRequest]:
    """The check `sending`, evaluated anew when its answer has changed."""
    signature = sending_signature(record, load.ledger, load.settings)
    # A cursor of an earlier release has no third entry.
    before = seen[2] if len(seen) > 2 else ""
    seen[2:] = [signature]
    if signature != before:
        yield dg.RunRequest(
            run_key=f"{load.workload.name}|{record.load}|watch|{time.time():.3f}",
            job_name=job_name(load.workload.name, "watch"),
            partition_key=record.load,
        )


def observation(
    workload: str, load: str, batches: list[Batch], resolved: Sequence[str] = ()
) -> dg.AssetObservation:
    """How a load's batches stand, and what became of lost answers, for the page of batch_submission."""
    open_batches = [batch for batch in batches if batch.open]
    age = max(
        ((datetime.now(UTC) - batch.created_at).total_seconds() / 3600 for batch in open_batches),
        default=0.0,
    )
    return dg.AssetObservation(
        asset_key=asset_key(workload, "batch_submission"),
        partition=load,
        description="; ".join(
            (*resolved, f"{len(open_batches)} of {len(batches)} batches are still running.")
        ),
        metadata={
            "open_batches": len(open_batches),
            "ended_batches": len(batches) - len(open_batches),
            "oldest_open_hours": round(age, 3),
            "share_of_24_h": round(age / (CEILING.total_seconds() / 3600), 4),
            "succeeded": sum(batch.succeeded for batch in batches),
            "errored": sum(batch.errored for batch in batches),
            "expired": sum(batch.expired for batch in batches),
            **({"resolved": "; ".join(resolved)} if resolved else {}),
        },
    )
