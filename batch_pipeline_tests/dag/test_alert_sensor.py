"""What the alert sensor makes of a real Dagster instance's checks and runs, and of the ledger."""

import functools
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from sqlalchemy import update

from batch_pipeline.dag.build import build_definitions
from batch_pipeline.dag.check_kinds import kind_of
from batch_pipeline.dag.naming import WORK_TAG, WORKLOAD_TAG, asset_key, job_name, partition_tags
from batch_pipeline.dag.sensor import MOST_TRIES
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger.alerting import Alert
from batch_pipeline.ledger.tables import loads
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.promote import promote
from batch_pipeline.workload.catalogue import read_declarations
from batch_pipeline.workload.workload import Workload
from batch_pipeline_tests.alerts.receivers import hook
from batch_pipeline_tests.night import DAY, HAIKU, Night

NEXT_DAY = "2026-11-21"


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


def tick(night: Night, instance: dg.DagsterInstance) -> str:
    repository = definitions_of(night.folder).get_repository_def()
    context = dg.build_sensor_context(instance=instance, repository_def=repository)
    data = repository.get_sensor_def("questions__alerts").evaluate_tick(context)
    assert data.run_requests == []
    return data.skip_message or ""


@functools.cache
def definitions_of(folder: Path) -> dg.Definitions:
    [spec] = read_declarations(folder / "defs.yaml")
    return build_definitions(Workload.build(spec, folder))


def begin(night: Night, load: str, generation: int = 1) -> None:
    """A load as the ledger knows it once its source was read."""
    night.ledger.record_load(
        "questions",
        load,
        generation=generation,
        fingerprint="f",
        source_rows=10,
        golden_rows=0,
        requested_by=None,
    )


def grade(night: Night, load: str) -> None:
    record = night.ledger.load("questions", load)
    assert record is not None
    night.ledger.record_gate(record, promote=True, fingerprint="f")


def opened(night: Night) -> dict[str, Alert]:
    return {alert.condition: alert for alert in night.ledger.open_alerts()}


def job(night: Night, instance: dg.DagsterInstance, kind: str, **options: Any) -> bool:
    done = (
        definitions_of(night.folder)
        .resolve_job_def(job_name("questions", kind))
        .execute_in_process(
            instance=instance, partition_key=night.context.load, raise_on_error=False, **options
        )
    )
    return done.success


def to_settled(night: Night, instance: dg.DagsterInstance) -> None:
    assert job(night, instance, "submit")
    while night.next().value != "publish":
        night.wait()
        assert job(night, instance, "collect")


def evaluate(
    instance: dg.DagsterInstance, check: str, load: str, *, passed: bool, **more: Any
) -> None:
    """An evaluation of a check on golden_score, as of a person's own pipeline."""
    evaluation: Any = dg.AssetCheckEvaluation(
        asset_key=asset_key("questions", "golden_score"),
        check_name=check,
        passed=passed,
        partition=load,
        metadata={},
        **more,
    )
    instance.report_runless_asset_event(evaluation)


def run(
    instance: dg.DagsterInstance, kind: str, status: dg.DagsterRunStatus, **tags: str
) -> dg.DagsterRun:
    """A run of a load's job that has ended so."""

    @dg.job(name=job_name("questions", kind))
    def ended() -> None: ...

    tagged = {**partition_tags("questions", DAY), **tags}
    made = instance.create_run_for_job(ended, tags=tagged, status=dg.DagsterRunStatus.STARTED)
    if status is dg.DagsterRunStatus.FAILURE:
        instance.report_run_failed(made)
    else:
        instance.report_dagster_event(
            dg.DagsterEvent(
                event_type_value=dg.DagsterEventType.RUN_SUCCESS.value, job_name=made.job_name
            ),
            made.run_id,
        )
    return made


@pytest.fixture
def begun_night(night: Callable[..., Night]) -> Night:
    """A load that is known to the ledger, and waits."""
    made = night(golden=0)
    begin(made, DAY)
    return made


def test_without_a_load_there_is_nothing_to_look_at(
    night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    assert tick(night(), instance) == "0 alerts opened, 0 resolved, 0 told."


def test_a_bad_night_is_one_alert_for_each_cause_and_they_end_with_what_mends_them(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    instance: dg.DagsterInstance,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    bad = [
        {"contains": "number 1000", "fault": "wrong"},
        {"contains": "number 3 of", "model": HAIKU, "fault": "not_json"},
    ]
    simulate(rows=bad)
    first = night()
    to_settled(first, instance)
    assert not job(first, instance, "publish")
    with hook() as received:
        path = tmp_path / "alerts.yaml"
        path.write_text(f"channels: [{{name: pager, type: webhook, url: '{received.url}'}}]")
        monkeypatch.setenv("BATCH_PIPELINE_ALERTS", str(path))
        tick(first, instance)
        tick(first, instance)

        # The failed check, the closed gate and the failed publish run are one cause.
        assert set(opened(first)) == {
            f"gate:questions:{DAY}:g1",
            "check:questions:validated_rows:output_contract",
        }
        held, contract = (opened(first)[key] for key in sorted(opened(first), reverse=True))
        assert (held.kind, held.severity) == ("leading", "page")
        assert "golden score 0 of 5" in held.sentence
        assert (contract.severity, contract.load) == ("log", DAY)
        assert "broke the output contract" in contract.sentence

        simulate()
        second = night(day=NEXT_DAY)
        to_settled(second, instance)
        tick(second, instance)
        assert set(opened(second)) == {f"gate:questions:{DAY}:g1"}

        promote(first.context, override_reason="labels in dispute")
        tick(first, instance)
        assert opened(first) == {}
        title = f"questions {DAY} is held by its gate"
        assert received.told == [("opened", title), ("resolved", title)]


def test_what_an_old_night_failed_is_over_when_a_newer_one_passes(
    begun_night: Night, instance: dg.DagsterInstance
) -> None:
    grade(begun_night, DAY)
    evaluate(instance, "trend_validity", DAY, passed=False, description="Falling.")
    tick(begun_night, instance)
    alert = opened(begun_night)["check:questions:golden_score:trend_validity"]
    assert (alert.severity, alert.sentence) == ("page", "Falling.")
    begin(begun_night, NEXT_DAY)
    evaluate(instance, "trend_validity", NEXT_DAY, passed=True, description="Rows are still open.")
    tick(begun_night, instance)
    assert len(opened(begun_night)) == 1  # the newer one is not graded yet
    grade(begun_night, NEXT_DAY)
    tick(begun_night, instance)
    assert opened(begun_night) == {}


def test_a_check_that_goes_on_failing_is_one_alert_over_the_nights(
    begun_night: Night, instance: dg.DagsterInstance
) -> None:
    begin(begun_night, NEXT_DAY)
    for load in (DAY, NEXT_DAY):
        grade(begun_night, load)
        evaluate(instance, "trend_validity", load, passed=False, description=f"Falling on {load}.")
        tick(begun_night, instance)
    [alert] = begun_night.ledger.recent_alerts(10)
    assert alert.sentence == f"Falling on {NEXT_DAY}."


def test_a_result_that_its_check_calls_a_warning_pages_nobody(
    begun_night: Night, instance: dg.DagsterInstance
) -> None:
    warn = dg.AssetCheckSeverity.WARN
    evaluate(instance, "trend_validity", DAY, passed=False, severity=warn, description="Watch.")
    tick(begun_night, instance)
    [alert] = opened(begun_night).values()
    assert alert.severity == "log"


def test_a_check_that_nobody_listed_is_loud() -> None:
    assert kind_of("somebody_elses").severity == "page"


def test_a_failed_run_pages_when_nobody_tries_it_again_and_ends_with_the_next_success(
    night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    made = night(golden=0)
    (made.folder / "source.csv").write_text("another,column\n1,2\n")
    assert not job(made, instance, "submit")
    tick(made, instance)
    alert = opened(made)[f"run:questions:{DAY}:submit"]
    assert (alert.severity, alert.title) == ("page", f"questions {DAY}: submit failed")
    assert "Mend that, then launch the job again." in alert.sentence
    assert "source.csv" in alert.sentence
    run(instance, "submit", dg.DagsterRunStatus.SUCCESS)
    tick(made, instance)
    assert opened(made) == {}


def test_a_run_that_the_sensor_tries_again_is_logged_and_pages_after_the_last_try(
    begun_night: Night, instance: dg.DagsterInstance
) -> None:
    severities = []
    for _ in range(MOST_TRIES):
        run(instance, "collect", dg.DagsterRunStatus.FAILURE, **{WORK_TAG: "work"})
        past(begun_night, begun_at=-1)
        tick(begun_night, instance)
        severities.append(opened(begun_night)[f"run:questions:{DAY}:collect"].severity)
    assert severities == ["log", "log", "page"]
    assert len(begun_night.ledger.recent_alerts(10)) == 1


def past(night: Night, **hours: float) -> None:
    """Lets the load have begun before its runs."""
    record = night.context.record()
    moment = record.created_at + timedelta(hours=hours["begun_at"])
    night.ledger._write(update(loads).values(created_at=moment))


@pytest.mark.parametrize("after", ["promoted", "sent again"])
def test_a_failed_run_is_over_when_the_load_has_gone_on(
    begun_night: Night, instance: dg.DagsterInstance, after: str
) -> None:
    past(begun_night, begun_at=-1)
    run(instance, "collect", dg.DagsterRunStatus.FAILURE)
    tick(begun_night, instance)
    assert len(opened(begun_night)) == 1
    if after == "promoted":
        begun_night.ledger.record_promotion(begun_night.context.record(), rows=1, fingerprint="f")
    else:
        begin(begun_night, DAY, generation=2)
    tick(begun_night, instance)
    assert opened(begun_night) == {}


def test_words_of_an_error_that_is_not_ours_are_not_passed_on(
    begun_night: Night, instance: dg.DagsterInstance
) -> None:
    @dg.op
    def quotes() -> None:
        raise ValueError("row text: hush-hush")

    @dg.job(name=job_name("questions", "collect"))
    def failing() -> None:
        quotes()

    past(begun_night, begun_at=-1)
    tags = {WORKLOAD_TAG: "questions", "dagster/partition": DAY}
    failing.execute_in_process(instance=instance, raise_on_error=False, tags=tags)
    tick(begun_night, instance)
    [alert] = opened(begun_night).values()
    assert alert.sentence.startswith("The step quotes raised ValueError; the run's page has")


def test_an_alerts_yaml_that_is_wrong_fails_the_tick_when_all_else_is_done(
    begun_night: Night,
    instance: dg.DagsterInstance,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text("channels: 5")
    monkeypatch.setenv("BATCH_PIPELINE_ALERTS", str(path))
    evaluate(instance, "trend_validity", DAY, passed=False, description="Falling.")
    with pytest.raises(ConfigurationError, match="must be a list"):
        tick(begun_night, instance)
    assert len(opened(begun_night)) == 1
    assert "Falling." in (begun_night.context.settings.state / "alerts.log").read_text()
