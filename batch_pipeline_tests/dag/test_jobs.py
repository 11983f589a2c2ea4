"""The jobs and assets as a person launches them, in any order, one process, a real Dagster instance."""

import socket
import subprocess
from collections.abc import Callable, Iterator
from datetime import date, timedelta
from typing import Any

import dagster as dg
import pytest

from batch_pipeline.dag.build import build_definitions
from batch_pipeline.dag.instance import end_abandoned_runs, open_instance
from batch_pipeline.dag.naming import STEPS, WAREHOUSE_POOL, asset_key, job_name
from batch_pipeline.dag.run_worker import PROCESS_TAG
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.stages.trends import WATCHED
from batch_pipeline.warehouse import GateRecord, LoadRecord, Measure, warehouse, write_metrics
from batch_pipeline_tests.night import DAY, Night, account_of, rows


class Dagster:
    """Launches jobs of one workload, as the UI's buttons do."""

    def __init__(self, night: Night, instance: dg.DagsterInstance) -> None:
        self.night = night
        self.name = night.context.workload.name
        self.instance = instance
        self.definitions = build_definitions(night.context.workload)

    def job(self, kind: str, **options: Any) -> dg.ExecuteInProcessResult:
        return self._run(self.definitions.resolve_job_def(job_name(self.name, kind)), **options)

    def materialize(self, *steps: str, **options: Any) -> dg.ExecuteInProcessResult:
        """Launches assets alone, with the checks that hang on them."""
        keys = [asset_key(self.name, step) for step in steps]
        return self._run(
            self.definitions.resolve_implicit_global_asset_job_def(),
            asset_selection=keys,
            **options,
        )

    def _run(self, job: dg.JobDefinition, **options: Any) -> dg.ExecuteInProcessResult:
        return job.execute_in_process(
            instance=self.instance,
            partition_key=self.night.context.load,
            raise_on_error=False,
            **options,
        )

    def to_settled(self) -> None:
        assert self.job("submit").success
        for _ in range(10):
            if measure_load(self.night.context).settled:
                return
            self.night.wait()
            assert self.job("collect").success
        raise AssertionError("not settled")


@pytest.fixture
def dagster(night: Callable[..., Night]) -> Iterator[Callable[..., Dagster]]:
    with dg.DagsterInstance.ephemeral() as instance:
        yield lambda **options: Dagster(night(**options), instance)


def materialized(result: dg.ExecuteInProcessResult) -> list[str]:
    return [
        event.asset_key.path[-1]
        for event in result.get_asset_materialization_events()
        if event.asset_key
    ]


def failure(result: dg.ExecuteInProcessResult) -> str:
    """The sentence of the step that failed."""
    data: Any = result.get_step_failure_events()[0].event_specific_data
    return str(data.user_failure_data.description)


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {e.check_name: e for e in result.get_asset_check_evaluations()}


def test_three_jobs_take_a_load_to_promotion(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate(rows=[{"contains": "number 3 ", "model": "claude-haiku-4-5", "fault": "not_json"}])
    team = dagster()

    team.to_settled()
    published = team.job("publish")

    assert published.success
    assert materialized(published) == ["golden_score", "promoted_rows"]
    assert {name: check.passed for name, check in checks(published).items()} == dict.fromkeys(
        [
            "coverage",
            "golden_gate",
            *(f"trend_{watched.measure}" for watched in WATCHED),
            "slices",
            "label_mix",
            "cost_per_good_row",
            "cache_hits",
            "cache_pays",
        ],
        True,
    )


def plant_nights(night: Night, *rates: float) -> None:
    """Metrics of the nights before, under the same declaration, with these validity rates of 10,000 answers."""
    for before, rate in enumerate(reversed(rates), 1):
        day = date.fromisoformat(night.context.load) - timedelta(days=before)
        write_metrics(
            night.context.settings.state,
            LoadRecord("questions", day.isoformat(), 1, night.context.workload.fingerprint()),
            fingerprint="f",
            measures=[Measure("validity", round(rate * 10_000), 10_000, rate)],
            gate=GateRecord(True, ["all is well"], None),
        )


def test_a_falling_rate_fails_its_check_and_the_load_is_promoted_all_the_same(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate(models={"claude-haiku-4-5": {"not_json": 0.2}})
    team = dagster(count=60, golden=0)
    plant_nights(team.night, 0.994, 0.97, 0.93)
    team.to_settled()
    published = team.job("publish")

    fell = checks(published)["trend_validity"]
    assert not fell.passed
    assert fell.severity is dg.AssetCheckSeverity.ERROR
    assert (fell.description or "").startswith("Output validity falls: 99.4%, 97.0%, 93.0%, ")
    assert fell.metadata["kind"].value == "leading"
    assert materialized(published) == ["golden_score", "promoted_rows"]


def test_a_workload_may_have_its_trends_logged_rather_than_paged(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate(models={"claude-haiku-4-5": {"not_json": 0.2}})
    team = dagster(count=60, golden=0, trends={"page": False})
    plant_nights(team.night, 0.994, 0.97, 0.93)
    team.to_settled()

    fell = checks(team.job("publish"))["trend_validity"]
    assert not fell.passed
    assert fell.severity is dg.AssetCheckSeverity.WARN
    assert fell.metadata["severity"].value == "log"


def test_materialize_all_on_a_fresh_day_skips_what_must_wait(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate(turnaround_seconds=3600)
    result = dagster().materialize(*STEPS)

    assert result.success
    assert materialized(result) == ["source_rows", "batch_submission"]


def test_materializing_again_sends_nothing_twice(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulator = simulate()
    team = dagster()
    team.to_settled()
    team.job("publish")
    batches = len(account_of(simulator)["batches"])
    card = measure_load(team.night.context).to_json()

    for step in STEPS:
        assert team.materialize(step).success, step

    assert len(account_of(simulator)["batches"]) == batches
    assert measure_load(team.night.context).to_json() == card


def test_a_closed_gate_blocks_promotion_in_the_job_and_alone(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate(models={"*": {"wrong": 1.0}})
    team = dagster()
    team.to_settled()

    published = team.job("publish")
    alone = team.materialize("promoted_rows")

    assert not published.success
    assert "promoted_rows" not in materialized(published)
    gate = checks(published)["golden_gate"]
    assert not gate.passed
    assert "trend_validity" in checks(published)
    assert gate.description is not None
    assert "golden score 0 of 5 (0.0%), 90.0 points below the declared baseline" in gate.description
    assert not alone.success
    assert "is held: golden score 0 of 5" in failure(alone)


def test_an_override_needs_a_reason_and_shows_it(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate(models={"*": {"wrong": 1.0}})
    team = dagster()
    team.to_settled()
    op = f"{team.name}__promoted_rows"

    empty = team.materialize(
        "promoted_rows", run_config={"ops": {op: {"config": {"override_reason": "  "}}}}
    )
    given = team.materialize(
        "promoted_rows", run_config={"ops": {op: {"config": {"override_reason": "labels moved"}}}}
    )

    assert not empty.success
    assert given.success
    metadata = given.asset_materializations_for_node(op)[0].metadata
    assert metadata["override_reason"].value == "labels moved"
    assert measure_load(team.night.context).to_json()["gate"]["reasons"][0] == (
        "override: labels moved"
    )


def test_open_rows_are_not_promoted(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate(turnaround_seconds=3600)
    team = dagster()
    team.job("submit")

    graded = team.materialize("golden_score")
    promoted = team.materialize("promoted_rows")

    assert materialized(graded) == []
    assert "12 of 12 source rows have no disposition yet" in failure(promoted)


def test_failing_answers_show_on_the_contract_check_with_example_keys(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate(
        rows=[{"contains": "number 3 ", "model": "claude-haiku-4-5", "fault": "unknown_label"}]
    )
    team = dagster()
    team.job("submit")
    team.night.wait()

    check = checks(team.job("collect"))["output_contract"]

    assert not check.passed
    assert check.severity is dg.AssetCheckSeverity.WARN
    assert check.description is not None
    assert check.description.startswith(
        "1 of 17 answers broke the output contract (5.88%), most often unknown_label:label (1)"
    )
    assert check.metadata["broken"].value == 1
    assert check.metadata["examples"].value == [
        {"key": "r00003", "tier": 0, "outcome": "contract_broken", "reason": "unknown_label:label"}
    ]


def test_results_that_do_not_add_up_fail_their_check_and_the_load_goes_on(
    simulate: Callable[..., Simulator],
    dagster: Callable[..., Dagster],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # At once, where the grace period is none.
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0")
    simulate(rows=[{"contains": "number 3 ", "fault": "absent", "times": 1}])
    team = dagster()
    team.job("submit")
    team.night.wait()

    collected = team.job("collect")
    check = checks(collected)["results_complete"]

    assert collected.success
    assert not check.passed
    assert check.description is not None
    assert "1 rows absent" in check.description
    team.to_settled()
    assert measure_load(team.night.context).dispositions["validated"] == 12


def test_what_became_of_a_lost_answer_shows_on_batch_submission(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate(turnaround_seconds=3600, calls=[{"on": "create", "fault": "drop_after_accepting"}])
    team = dagster()

    lost = team.job("submit")
    found = team.job("submit")

    assert lost.success
    assert found.success
    op = f"{team.name}__batch_submission"
    [before], [after] = (r.asset_materializations_for_node(op) for r in (lost, found))
    assert "looked for before anything more is sent" in str(before.metadata["waits_for"].value)
    assert "adopted until its results confirm it" in str(after.metadata["resolved"].value)
    assert "waits_for" not in after.metadata
    first, second = (checks(result)["sending"] for result in (lost, found))
    assert (first.passed, second.passed) == (False, True)


def test_the_cancel_job_stops_a_load_and_the_gate_holds_it_with_the_reason(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate(turnaround_seconds=3600)
    team = dagster()
    team.job("submit")
    op = f"{team.name}__cancel_load"

    done = team.job("cancel", run_config={"ops": {op: {"config": {"reason": "the wrong prompt"}}}})
    team.to_settled()
    published = team.job("publish")
    again = team.job("cancel")

    assert done.success
    assert measure_load(team.night.context).dispositions["quarantined"] == 12
    assert not published.success
    gate = checks(published)["golden_gate"]
    assert "the wrong prompt" in str(gate.description)
    assert "nothing is left to cancel" in failure(again)


def test_numbers_worth_plotting_are_numbers(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate()
    team = dagster()
    team.to_settled()
    published = team.job("publish")

    metadata = published.asset_materializations_for_node(f"{team.name}__golden_score")[0].metadata
    for name in (
        "coverage",
        "validity",
        "escalation_rate",
        "golden_score",
        "cost_usd",
        "cost_per_good_row_usd",
    ):
        assert isinstance(metadata[name].value, int | float), name


def test_two_workloads_side_by_side_do_not_disturb_each_other(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate()
    first, second = dagster(), dagster(name="others", count=7)

    assert first.job("submit").success
    second.to_settled()
    assert second.job("publish").success
    first.to_settled()
    assert first.job("publish").success

    with warehouse(first.night.context.settings.state) as connection:
        counts = connection.execute(
            "SELECT (SELECT count(*) FROM promoted.questions), (SELECT count(*) FROM promoted.others), "
            "(SELECT count(*) FROM metrics.scorecards)"
        ).fetchall()[0]
    assert counts == (12, 7, 2)


def test_resending_is_explicit_and_pays_again(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulator = simulate()
    team = dagster()
    team.to_settled()
    team.job("publish")

    config = {"ops": {f"{team.name}__source_rows": {"config": {"resend": True}}}}
    assert team.job("submit", run_config=config).success
    team.to_settled()
    assert team.job("publish").success

    account = account_of(simulator)
    assert len(account["batches"]) == 2
    card = measure_load(team.night.context)
    assert card.promoted_rows == 12
    assert card.requests == 17
    assert card.load == DAY


def test_source_columns_may_be_named_like_the_words_of_our_own_tables(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate(rows=[{"contains": "number 3 ", "model": "claude-haiku-4-5", "fault": "not_json"}])
    words = ("tier", "outcome", "reason", "sending", "attempt", "next_tier", "row", "disposition")
    team = dagster(
        golden=0,
        source=[{**line, **dict.fromkeys(words, "x")} for line in rows(12)],
        prompt={"user": "{{ text }}{% if not (" + " and ".join(words) + ") %}?{% endif %}"},
    )
    team.to_settled()
    assert team.job("publish").success


def test_an_edited_contract_stops_promotion_and_leaves_promoted_loads_readable(
    simulate: Callable[..., Simulator], dagster: Callable[..., Dagster]
) -> None:
    simulate()
    team = dagster(output={"label": {"type": "string"}})
    team.to_settled()
    edited = dagster(output={"subject": {"type": "string"}}, golden=0)

    assert "changed since this load was begun" in failure(edited.materialize("promoted_rows"))

    assert team.job("publish").success
    card = measure_load(edited.night.context).to_json()
    assert card["gate"]["promote"] is True
    assert "the declaration changed since" in card["gate"]["reasons"][0]
    assert card["promoted_rows"] == 12


def test_slots_that_a_killed_run_held_are_freed(night: Callable[..., Night]) -> None:
    made = night()
    with open_instance(made.context.settings) as instance:
        storage = instance.event_log_storage
        storage.set_concurrency_slots(WAREHOUSE_POOL, 1)
        definitions = build_definitions(made.context.workload)
        run = instance.create_run_for_job(
            definitions.resolve_job_def(job_name("questions", "publish")),
            status=dg.DagsterRunStatus.STARTED,
            tags={PROCESS_TAG: f"{socket.gethostname()}:{_dead_process()}"},
        )
        claim = storage.claim_concurrency_slot(WAREHOUSE_POOL, run.run_id, "step")
        assert claim.is_claimed

        end_abandoned_runs(instance, "questions")

        ended = instance.get_run_by_id(run.run_id)
        assert ended is not None
        assert ended.status is dg.DagsterRunStatus.FAILURE
        assert storage.get_concurrency_info(WAREHOUSE_POOL).active_slot_count == 0


def _dead_process() -> int:
    process = subprocess.Popen(["true"])
    process.wait()
    return process.pid
