"""What the sensor asks for, tick by tick."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import dagster as dg
import pytest

from batch_pipeline.dag.build import build_definitions
from batch_pipeline.dag.naming import job_name, sensor_name
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.grade import grade
from batch_pipeline.workload.catalogue import find_workload
from batch_pipeline_tests.night import DAY, Night


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


def test_without_a_load_there_is_nothing_to_do_and_nothing_is_written(
    night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    made = night()
    data = tick(made, instance)
    assert data.run_requests == []
    assert data.skip_message == "No load is unfinished."


def test_running_batches_are_waited_for_and_shown_once(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate(turnaround_seconds=3600)
    made = night()
    made.submit()

    first = tick(made, instance)
    second = tick(made, instance, first.cursor)

    assert first.skip_message == f"{DAY}: batches are running"
    observation = first.asset_events[0]
    assert observation.partition == DAY
    assert observation.metadata["open_batches"].value == 1
    assert second.asset_events == []


def test_an_ended_batch_asks_for_collect_and_a_failed_run_for_another_try(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate()
    made = night()
    made.submit()
    made.wait()

    keys = []
    for _ in range(4):
        requests = tick(made, instance).run_requests or []
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

    requests = tick(made, instance).run_requests or []
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
    assert data.run_requests == []
    assert "The API answered 529" in str(data.skip_message)


def test_an_unresolved_intent_stops_the_load_in_words(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate(calls=[{"on": "create", "fault": "drop_after_accepting"}])
    made = night()
    with pytest.raises(Exception, match="may or may not exist"):
        made.submit()
    data = tick(made, instance)
    assert data.run_requests == []
    assert "an intent is unresolved, nothing more is sent" in str(data.skip_message)


def test_losing_the_cursor_loses_nothing(
    simulate: Callable[..., Simulator], night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    simulate()
    made = night()
    made.submit()
    made.wait()
    for cursor in (None, json.dumps({}), json.dumps({"2020-01-01": ["x", 1.0]})):
        requests = tick(made, instance, cursor).run_requests or []
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
