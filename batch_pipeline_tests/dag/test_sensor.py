"""What the sensor asks for, tick by tick."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.dag.build import build_definitions
from batch_pipeline.dag.naming import WORK_TAG, asset_key, job_name, sensor_name
from batch_pipeline.dag.sensor import MOST_TRIES
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger.records import Adopted
from batch_pipeline.ledger.transactions import now
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.collect import collect_results
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.next_step import Action
from batch_pipeline.workload.catalogue import find_workload
from batch_pipeline_tests.night import DAY, Night
from batch_pipeline_tests.stages.watching import posts


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def tick(night: Night, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    repository = build_definitions(night.context.workload).get_repository_def()
    context = dg.build_sensor_context(instance=instance, cursor=cursor, repository_def=repository)
    return repository.get_sensor_def(sensor_name(night.context.workload.name)).evaluate_tick(
        context
    )


def launched(data: Any) -> list[dg.RunRequest]:
    """The work that a tick asks for, without the look at the check."""
    return [r for r in data.run_requests or [] if r.job_name != job_name("questions", "watch")]


def checked(
    night: Night, instance: dg.DagsterInstance, data: Any
) -> dg.AssetCheckEvaluation | None:
    """What the check `sending` says if the tick has it evaluated anew, else None."""
    requests = [r for r in data.run_requests or [] if r.job_name == job_name("questions", "watch")]
    if not requests:
        return None
    definitions = build_definitions(night.context.workload)
    done = definitions.resolve_job_def(requests[0].job_name or "").execute_in_process(
        instance=instance, partition_key=requests[0].partition_key
    )
    [evaluation] = done.get_asset_check_evaluations()
    return evaluation


def test_without_a_load_there_is_nothing_to_do_and_nothing_is_written(
    night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    made = night()
    data = tick(made, instance)
    assert launched(data) == []
    assert data.skip_message == "No load is unfinished."


def test_running_batches_are_waited_for_and_shown_once(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate(turnaround_seconds=3600)
    made = night()
    made.submit()

    first = tick(made, instance)
    second = tick(made, instance, first.cursor)

    assert first.skip_message == f"{DAY}: batches are running, or a time is waited for"
    [observation] = [e for e in first.asset_events if isinstance(e, dg.AssetObservation)]
    assert observation.partition == DAY
    assert observation.metadata["open_batches"].value == 1
    assert second.asset_events == []


def test_the_check_on_batch_submission_is_evaluated_again_when_its_answer_changes(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulate(calls=[{"on": "create", "fault": "drop_before_accepting", "first": 1}])
    made = night()
    made.submit()
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "300")
    first = tick(made, instance)
    lost = checked(made, instance, first)
    second = tick(made, instance, first.cursor)
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0")
    third = tick(made, instance, second.cursor)
    settled = checked(made, instance, third)

    assert lost is not None
    assert (lost.check_name, lost.partition, lost.passed) == ("sending", DAY, False)
    assert lost.severity is dg.AssetCheckSeverity.WARN
    assert "A chunk of 17 requests was sent and its answer was lost" in str(lost.description)
    assert checked(made, instance, second) is None
    assert settled is not None
    assert settled.passed


def test_an_ended_batch_asks_for_collect_and_a_failed_run_for_another_try(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate()
    made = night()
    made.submit()
    made.wait()

    keys = []
    for _ in range(4):
        requests = launched(tick(made, instance))
        for request in requests:
            assert request.job_name == job_name("questions", "collect")
            keys.append(request.run_key)
            run = instance.create_run_for_job(
                build_definitions(made.context.workload).resolve_job_def(request.job_name),
                tags=request.tags,
            )
            instance.report_run_failed(run)
    # A key is used up even by a failed run, so every try has its own; after three a person is needed.
    assert len(keys) == len(set(keys)) == 3
    assert "failed 3 times and waits for a person" in str(tick(made, instance).skip_message)


def test_a_run_under_way_is_given_time(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate()
    made = night()
    made.submit()
    made.wait()
    definitions = build_definitions(made.context.workload)
    instance.create_run_for_job(
        definitions.resolve_job_def(job_name("questions", "collect")),
        tags={"dagster/partition": DAY, "batch_pipeline/workload": "questions"},
        status=dg.DagsterRunStatus.STARTED,
    )
    assert tick(made, instance).skip_message == f"{DAY}: a run is under way"


def test_a_settled_load_asks_for_publish_and_a_held_one_for_nothing(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate(models={"*": {"wrong": 1.0}})
    made = night()
    made.settle()

    requests = launched(tick(made, instance))
    assert [request.job_name for request in requests] == [job_name("questions", "publish")]

    grade(made.context)
    assert tick(made, instance).skip_message == "No load is unfinished."


def test_an_api_that_does_not_answer_is_asked_again_next_time(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate(
        turnaround_seconds=3600,
        calls=[{"on": ["list", "retrieve"], "fault": "status", "status": 529}],
    )
    made = night()
    made.submit()
    data = tick(made, instance)
    assert launched(data) == []
    assert "The API answered 529" in str(data.skip_message)


def test_a_lost_answer_is_looked_for_by_the_sensor_and_its_batch_adopted(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate(turnaround_seconds=3600, calls=[{"on": "create", "fault": "drop_after_accepting"}])
    made = night()
    made.submit()
    assert made.next() is Action.RESOLVE

    data = tick(made, instance)

    assert made.next() is Action.WAIT
    [batch] = made.ledger.batches(made.context.record())
    assert batch.adopted is Adopted.PROVISIONAL
    [shown] = [each for each in data.asset_events if isinstance(each, dg.AssetObservation)]
    assert shown.asset_key == asset_key("questions", "batch_submission")
    assert shown.metadata["resolved"].value == (
        f"batch {batch.batch_id} is the only one that the chunk whose answer was lost can be: adopted "
        "until its results confirm it"
    )
    assert str(data.skip_message).startswith(f"{DAY}: batch {batch.batch_id} is the only one")


def test_while_a_lost_batch_is_not_found_nothing_is_launched(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "300")
    simulator = simulate(calls=[{"on": "create", "fault": "drop_before_accepting"}])
    made = night()
    made.submit()
    cursor = None
    for _ in range(3):
        data = tick(made, instance, cursor)
        assert launched(data) == []
        cursor = data.cursor
    assert "a lost answer is looked for, nothing more is sent" in str(data.skip_message)
    assert posts(simulator) == 1


def test_a_load_that_another_process_works_on_is_left_alone(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate(calls=[{"on": "create", "fault": "drop_after_accepting"}])
    made = night()
    made.submit()
    with made.ledger.hold("questions", DAY):
        tick(made, instance)
        assert made.next() is Action.RESOLVE
    tick(made, instance)
    assert made.next() is Action.COLLECT


def test_a_load_that_was_stopped_waits_for_a_person(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulator = simulate(calls=[{"on": "create", "fault": "status", "status": 402, "nth": 1}])
    made = night()
    with pytest.raises(PipelineError, match="402"):
        made.submit()
    data = tick(made, instance)
    assert launched(data) == []
    again = tick(made, instance, data.cursor)
    assert "sending has stopped and waits for a person" in str(again.skip_message)
    check = checked(made, instance, data)
    assert check is not None
    assert check.severity is dg.AssetCheckSeverity.ERROR
    assert "Sending has stopped: The API answered 402" in str(check.description)
    assert posts(simulator) == 1


def test_rows_left_for_later_are_sent_when_their_time_has_come(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate(calls=[{"on": "create", "fault": "status", "status": 429, "retry_after": 3600}])
    made = night()
    made.submit()
    assert launched(tick(made, instance)) == []
    made.ledger.update_load(made.context.record(), not_before=now())
    [request] = launched(tick(made, instance))
    assert request.job_name == job_name("questions", "submit")
    # Refused again, and due again: another piece of work, so the three tries are not used up by waiting.
    made.submit()
    made.ledger.update_load(made.context.record(), not_before=now())
    [again] = launched(tick(made, instance))
    assert again.tags[WORK_TAG] != request.tags[WORK_TAG]


def test_a_batch_that_cannot_be_read_back_never_uses_up_the_sensors_tries(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # The pauses are long enough for a slow machine to see them.
    monkeypatch.setenv("BATCH_PIPELINE_POLL_SECONDS", "30")
    simulate(calls=[{"on": "results", "fault": "status", "status": 500}])
    made = night(count=3, golden=0)
    made.submit()
    made.wait()
    works = []
    for _ in range(MOST_TRIES + 2):
        [request] = launched(tick(made, instance))
        assert request.job_name == job_name("questions", "collect")
        works.append(request.tags[WORK_TAG])
        collect_results(made.context, BatchesApi)
        assert launched(tick(made, instance)) == []
        [batch] = made.ledger.batches(made.context.record())
        made.ledger.update_batch(batch.batch_id, retry_at=now())
    assert len(set(works)) == MOST_TRIES + 2


def test_losing_the_cursor_loses_nothing(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate()
    made = night()
    made.submit()
    made.wait()
    for cursor in (None, json.dumps({}), json.dumps({"2020-01-01": ["x", 1.0]})):
        requests = launched(tick(made, instance, cursor))
        assert len(requests) == 1


def test_the_schedule_sends_the_day_before() -> None:
    workload = find_workload("support_tickets", Settings.from_environment())
    repository = build_definitions(workload).get_repository_def()
    data = repository.get_schedule_def("support_tickets__nightly").evaluate_tick(
        dg.build_schedule_context(
            scheduled_execution_time=datetime(2026, 11, 22, 2, tzinfo=UTC),
            repository_def=repository,
        )
    )
    assert [request.partition_key for request in data.run_requests or []] == ["2026-11-21"]
