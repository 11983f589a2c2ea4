"""A bake-off against the simulator: what it finds, what it costs, and all that it leaves alone."""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from batch_pipeline.bakeoff.candidates import Bakeoff, open_bakeoff
from batch_pipeline.bakeoff.drive import holding_bakeoff, run_bakeoff
from batch_pipeline.bakeoff.outcomes import BakeoffResult, bakeoff_result
from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.prices import price_for
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger import Ledger, Load
from batch_pipeline.ledger.transactions import now
from batch_pipeline.measure.bakeoff import Candidate
from batch_pipeline.report.index import write_index
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.bakeoff_name import bakeoff_name
from batch_pipeline.stages.baseline import record_baseline
from batch_pipeline.stages.purge import Purge
from batch_pipeline.workload.spec import NAME
from batch_pipeline_tests.night import HAIKU, OPUS, SONNET, Night, account_of, simulator_for

MODELS = [HAIKU, SONNET, OPUS]
RATES = {
    HAIKU: {"wrong": 0.25, "broken": 0.15, "refusal": 0.05},
    SONNET: {"wrong": 0.02, "broken": 0.02},
    OPUS: {},
}
GATES = {"min_validity": 0.75, "golden_drop_points": 8}


@dataclass
class Held:
    """A workload with a promoted load and a recorded baseline, its bake-off, and the state before and after."""

    night: Night
    result: BakeoffResult
    sent: list[str]
    tokens: dict[str, dict[str, int]]
    before: dict[str, str]
    after: dict[str, str]
    rows: tuple[list[Any], list[Any]]


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    folder = tmp_path_factory.mktemp("bakeoff")
    with (
        pytest.MonkeyPatch.context() as patch,
        simulator_for(folder, models=RATES, redraw=0) as api,
    ):
        in_environment(patch, folder, api)
        tiers = [{"model": SONNET, "max_tokens": 64}, {"model": OPUS, "max_tokens": 128}]
        night = Night.make(folder, golden=50, tiers=tiers, gates=GATES)
        night.settle()
        record_baseline(night.context, reason="good enough", by="a test")
        night.publish()
        before, rows = left_alone(night), _ledger_rows(night)
        said: list[str] = []
        with holding_bakeoff(night.context.workload, MODELS, night.context.settings) as opened:
            assert run_bakeoff(opened, BatchesApi, say=said.append) == []
            result = bakeoff_result(opened)
        yield Held(
            night,
            result,
            said,
            account_of(api)["tokens"],
            before,
            left_alone(night),
            (rows, _ledger_rows(night)),
        )


def in_environment(patch: pytest.MonkeyPatch, folder: Path, api: Simulator) -> None:
    patch.setenv("ANTHROPIC_API_KEY", "test-key")
    patch.setenv("ANTHROPIC_BASE_URL", api.base_url)
    patch.setenv("BATCH_PIPELINE_STATE", str(folder / "state"))
    patch.setenv("BATCH_PIPELINE_POLL_SECONDS", "0.05")
    patch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.5")


def left_alone(night: Night) -> dict[str, str]:
    """Every file of the state but the ledger and what is a bake-off's own, with a digest of its bytes."""
    state = night.context.settings.state
    return {
        str(path.relative_to(state)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(state.rglob("*"))
        if path.is_file()
        and not path.name.startswith("ledger.sqlite")
        and not any("bakeoff" in part for part in path.relative_to(state).parts)
    }


def _ledger_rows(night: Night) -> list[Any]:
    ledger, name = night.ledger, night.context.workload.name
    records = ledger.generations(name)
    return [
        *records,
        *(chunk for record in records for chunk in ledger.chunks(record)),
        *(batch for record in records for batch in ledger.batches(record)),
        *ledger.baselines(name),
        *ledger.recent_alerts(100),
    ]


def by_name(result: BakeoffResult) -> dict[str, Candidate]:
    return {each.name: each for each in result.ranking.models}


def posts(simulator: Simulator) -> int:
    """Requests that the API accepted."""
    return int(account_of(simulator)["requests"]["accepted"])


def test_the_cheapest_model_that_passes_is_named(held: Held) -> None:
    models = by_name(held.result)
    assert not models[HAIKU].passes
    assert models[SONNET].passes
    assert models[OPUS].passes
    assert held.result.ranking.chosen is models[SONNET]


def test_every_model_is_sent_before_any_is_waited_for(held: Held) -> None:
    assert held.sent[:3] == [f"{model}: 50 requests sent in one batch" for model in MODELS]


def test_the_cost_is_what_the_api_billed(held: Held) -> None:
    """To the last digit: no load ever asked this model."""
    price = price_for(HAIKU, held.result.sent_at.date(), batch=True)
    (billed,) = [spent for model, spent in held.tokens.items() if model.startswith(HAIKU)]
    assert by_name(held.result)[HAIKU].usd == price.cost(
        input_tokens=billed["input"], output_tokens=billed["output"]
    )


def test_a_recorded_baseline_of_the_same_golden_rows_is_compared_row_by_row(held: Held) -> None:
    """Tier 0 is one of the candidates, and a model that answers the same again loses nothing but what climbed."""
    assert held.result.accepted.rows is not None
    assert "row by row" in held.result.baseline
    recorded = held.night.ledger.baseline("questions")
    assert recorded is not None
    assert sum(held.result.accepted.rows) == recorded.correct


def test_the_usual_size_of_a_load_is_the_metrics(held: Held) -> None:
    assert held.result.usual_rows == 12


def test_nothing_of_the_workloads_own_is_touched(held: Held) -> None:
    assert held.before == held.after
    assert held.rows[0] == held.rows[1]


def test_no_declared_workload_can_have_the_name_that_it_is_recorded_under(held: Held) -> None:
    assert not NAME.fullmatch(bakeoff_name("questions"))
    assert len(bakeoff_name("q" * 63)) <= 64
    assert [load.workload for load in held.night.ledger.generations()].count("questions") == 1


def test_the_index_of_workloads_does_not_show_it(held: Held) -> None:
    index = write_index(held.night.context).read_text()
    assert "questions" in index
    assert "bakeoff" not in index


def test_no_sensor_and_no_alert_sees_it(held: Held) -> None:
    """They ask for the loads of declared workloads, by name."""
    ledger = held.night.ledger
    assert [load.workload for load in ledger.held_loads(["questions"])] == []
    assert ledger.unfinished_loads("questions") == []


def test_a_purge_removes_its_rows_like_any_others(held: Held) -> None:
    def cannot_be_measured(_: Load) -> None:
        raise AssertionError("its scorecard is kept")

    ledger = held.night.ledger
    purge = Purge(
        held.night.context.settings.state, ledger, now(), cannot_be_measured, dry_run=True
    )
    would = list(purge.run([bakeoff_name("questions")]))
    assert len(would) == 3
    assert all(one.bytes and one.left_alone is None for one in would)


def test_a_finished_one_is_shown_again_and_sends_nothing(held: Held) -> None:
    again = open_bakeoff(
        held.night.context.workload, list(reversed(MODELS)), held.night.context.settings
    )
    assert again.finished
    assert again.bakeoff_id == held.result.bakeoff.bakeoff_id
    assert bakeoff_result(again).ranking == held.result.ranking


def test_another_prompt_is_another_bake_off(held: Held) -> None:
    workload = held.night.context.workload
    other = replace(workload, prompt=replace(workload.prompt, system="Answer with one word."))
    opened = open_bakeoff(other, MODELS, held.night.context.settings)
    assert opened.bakeoff_id != held.result.bakeoff.bakeoff_id
    assert not opened.finished


@pytest.fixture
def opened(night: Callable[..., Night]) -> Callable[..., Bakeoff]:
    """A bake-off of a small workload, not sent yet."""

    def make(models: list[str] | None = None, **changes: Any) -> Bakeoff:
        made = night(**{"golden": 6, **changes})
        return open_bakeoff(made.context.workload, models or MODELS, Settings.from_environment())

    return make


@dataclass
class Troubled:
    """A bake-off with a model that lacks a parameter, a row that always expires and a lost answer."""

    result: BakeoffResult
    accepted: int


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Troubled]:
    folder = tmp_path_factory.mktemp("troubled")
    expiring = {"contains": "number 100001 of", "model": SONNET, "fault": "expired"}
    lost = {"on": "create", "nth": 2, "fault": "drop_after_accepting"}
    with (
        pytest.MonkeyPatch.context() as patch,
        simulator_for(folder, rows=[expiring], calls=[lost]) as api,
    ):
        in_environment(patch, folder, api)
        night = Night.make(
            folder,
            golden=6,
            tiers=[{"model": SONNET, "max_tokens": 64, "effort": "low"}],
            limits={"attempts": 2},
        )
        settings = night.context.settings
        with holding_bakeoff(night.context.workload, MODELS, settings) as opened:
            assert run_bakeoff(opened, BatchesApi) == []
            yield Troubled(bakeoff_result(opened), posts(api))


def test_a_model_that_refuses_a_parameter_is_said_so_and_cannot_win(troubled: Troubled) -> None:
    haiku = by_name(troubled.result)[HAIKU]
    assert haiku.objections == ("the API refused every request (invalid_request)",)
    assert "output_config.effort: low is not supported" in troubled.result.refusals[HAIKU]
    assert haiku.usd == 0
    assert troubled.result.ranking.chosen is by_name(troubled.result)[OPUS]


def test_rows_that_expire_are_sent_again_and_at_last_count_as_no_answer(troubled: Troubled) -> None:
    found = by_name(troubled.result)
    assert found[SONNET].outcomes == {"valid": 5, "expired": 1}
    assert found[SONNET].unanswered == 1
    assert found[OPUS].outcomes == {"valid": 6}


def test_an_answer_that_was_lost_is_looked_for_and_not_paid_twice(troubled: Troubled) -> None:
    """Eighteen requests, and the one that expired once more."""
    assert troubled.accepted == 19


def test_one_that_was_killed_goes_on_and_pays_nothing_twice(
    simulate: Callable[..., Simulator],
    opened: Callable[..., Bakeoff],
) -> None:
    """The process dies when the second model's batch is created and nobody knows it yet; another one follows."""
    simulator, made = simulate(), opened()
    create, calls = BatchesApi.create, []

    def dies(self: BatchesApi, body: Path) -> Any:
        calls.append(body)
        if len(calls) != 2:
            return create(self, body)
        create(self, body)
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(BatchesApi, "create", dies)
        run_bakeoff(made, BatchesApi)
    next_one = open_bakeoff(made.workload, MODELS, Settings.from_environment())
    assert next_one.bakeoff_id == made.bakeoff_id
    assert run_bakeoff(next_one, BatchesApi) == []
    assert posts(simulator) == 18
    assert {each.rows for each in bakeoff_result(next_one).ranking.models} == {6}


def test_a_model_that_cannot_be_sent_keeps_none_of_the_others_from_their_answers(
    simulate: Callable[..., Simulator], opened: Callable[..., Bakeoff]
) -> None:
    simulator = simulate(calls=[{"on": "create", "nth": 1, "fault": "status", "status": 403}])
    made = opened()
    (left,) = run_bakeoff(made, BatchesApi)
    assert left.startswith(f"{HAIKU}: a batch of 6 requests was not accepted")
    assert posts(simulator) == 12
    # Whoever calls again has mended what stopped it.
    assert run_bakeoff(made, BatchesApi) == []
    assert posts(simulator) == 18


def test_the_golden_rows_have_the_sources_types(night: Callable[..., Night]) -> None:
    """`1` of a CSV is the number 1 where the source says so, in the prompt as in every load."""
    import duckdb

    made = night(golden=0)
    place = made.folder
    duckdb.execute(
        "COPY (SELECT 's' || n AS id, n AS size, 'question' AS text FROM range(5) AS r(n)) "
        f"TO '{place}/source.parquet'"
    )
    (place / "golden.csv").write_text("size,text,expected_label\n0071,a,bug\n0072,b,bug\n")
    attributes = yaml.safe_load((place / "defs.yaml").read_text())["attributes"]
    from batch_pipeline.workload.spec import WorkloadSpec
    from batch_pipeline.workload.workload import Workload

    spec = WorkloadSpec.model_validate(
        {
            **attributes,
            "source": {"path": "source.parquet", "key": "id"},
            "prompt": {"user": "{{ size }} {{ text }}"},
            "golden": {"path": "golden.csv", "match": ["label"], "baseline": 0.9},
        }
    )
    opened = open_bakeoff(Workload.build(spec, place), MODELS, Settings.from_environment())
    rows = duckdb.execute(
        "SELECT golden_key, size FROM read_parquet(?)", [str(opened.rows)]
    ).fetchall()
    assert rows == [("golden-0", 71), ("golden-1", 72)]


BAD = [
    ([HAIKU], {}, "compares two models or more"),
    ([HAIKU, SONNET, HAIKU], {}, f"{HAIKU} is named twice"),
    ([HAIKU, f"{HAIKU}-20251001"], {}, f"{HAIKU} is named twice"),
    ([HAIKU, "claude-nowhere"], {}, "Model claude-nowhere has no price"),
    ([HAIKU, "claude-gone"], {}, "claude-gone was retired on 2024-01-31"),
    ([HAIKU, SONNET], {"golden": None}, "declares no golden set"),
]


@pytest.fixture
def own_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was retired, and one with short answers that soon will be."""
    price = {
        "prices": [{"effective_from": date(2024, 1, 1), "rates": {"input": "1", "output": "5"}}]
    }
    soon = datetime.now(UTC).date() + timedelta(days=20)
    models = {
        "claude-gone": {**price, "retires": date(2024, 1, 31)},
        "claude-short": {**price, "retires": soon, "max_output_tokens": 100},
    }
    path = tmp_path / "prices.yaml"
    path.write_text(yaml.safe_dump({"models": models}))
    monkeypatch.setenv("BATCH_PIPELINE_PRICES", str(path))


@pytest.mark.usefixtures("own_prices")
@pytest.mark.parametrize(("models", "changes", "sentence"), BAD)
def test_bad_input_is_refused_before_anything_is_sent(
    models: list[str], changes: dict[str, Any], sentence: str, night: Callable[..., Night]
) -> None:
    made = night(**changes)
    with pytest.raises(ConfigurationError, match=sentence):
        workload = made.context.workload
        if "golden" in changes:
            workload = replace(workload, spec=workload.spec.model_copy(update={"golden": None}))
        open_bakeoff(workload, models, Settings.from_environment())
    assert not (made.context.settings.state / "bakeoffs").exists()


@pytest.mark.usefixtures("own_prices")
def test_a_model_with_short_answers_is_asked_for_no_more_and_retiring_soon_is_said(
    opened: Callable[..., Bakeoff],
) -> None:
    made = opened([HAIKU, "claude-short"])
    assert made.candidates[1].workload.spec.tiers[0].max_tokens == 100
    assert made.candidates[0].workload.spec.tiers[0].max_tokens == 128
    assert "claude-short answers with at most 100 tokens" in made.said[0]
    assert "in 20 days" in made.said[1]


def test_a_new_one_is_not_begun_while_the_last_is_unfinished(
    simulate: Callable[..., Simulator], opened: Callable[..., Bakeoff]
) -> None:
    simulate(turnaround_seconds=3600)
    made = opened()
    assert len(run_bakeoff(made, BatchesApi, max_wait=0)) == 3
    with pytest.raises(ConfigurationError, match="not finished"):
        open_bakeoff(made.workload, MODELS, Settings.from_environment(), again=True)
    other = open_bakeoff(made.workload, [HAIKU, OPUS], Settings.from_environment())
    assert made.bakeoff_id in other.said[0]
    assert "was left unfinished" in other.said[0]


def test_two_processes_do_not_drive_one_at_the_same_time(opened: Callable[..., Bakeoff]) -> None:
    made = opened()
    settings = Settings.from_environment()
    other = Ledger(settings.state)
    with (
        other.hold(bakeoff_name("questions"), "bakeoff"),
        pytest.raises(PipelineError, match="Another process"),
        holding_bakeoff(made.workload, MODELS, settings),
    ):
        pass


def test_what_is_kept_of_it_holds_no_row_text(held: Held) -> None:
    kept = json.loads((held.result.bakeoff.folder / "bakeoff.json").read_text())
    assert set(kept) == {"models", "declared", "key"}
