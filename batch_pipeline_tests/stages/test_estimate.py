import io
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.cli.estimate_table import print_estimate
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger.records import Lane
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.estimate import (
    estimate_numbers,
    estimate_workload,
    loads_per_month,
)
from batch_pipeline.stages.estimate_models import Asked
from batch_pipeline.stages.estimate_sum import Estimate
from batch_pipeline.stages.foresee import foresee
from batch_pipeline.stages.plan_prices import today
from batch_pipeline.stages.scorecard import Scorecard
from batch_pipeline.stages.source import read_source
from batch_pipeline_tests.night import DAY, HAIKU, SONNET, Night, account_of, rows

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]


def _estimate(made: Night, state: Path, asked: Asked | None = None, **options: Any) -> Estimate:
    """Of a state that holds nothing yet: `Night.make` has opened its own."""
    options.setdefault("api", None)
    options.setdefault("models", [HAIKU])
    settings = replace(made.context.settings, state=state)
    return estimate_workload(made.context.workload, DAY, settings, asked or Asked(), **options)


def test_an_estimate_leaves_no_trace_and_sends_nothing(
    simulate: Simulate, night: MakeNight, tmp_path: Path
) -> None:
    simulator = simulate()
    made = night()
    found = _estimate(made, tmp_path / "untouched", api=BatchesApi)
    assert not (tmp_path / "untouched").exists()
    assert made.ledger.newest_load("questions") is None
    assert set(account_of(simulator)["calls"]) == {"count_tokens"}
    assert found.plan is not None
    assert found.plan.counted_by == "count_tokens"
    assert found.volume.source_rows == 12


def test_golden_rows_duplicates_and_escalations_have_lines_of_their_own(
    night: MakeNight, tmp_path: Path
) -> None:
    source = [{**row, "text": "the same"} for row in rows(10)]
    found = _estimate(night(source=source), tmp_path / "none")
    usd = {line.what: line.usd["typical"] for line in found.sums.lines}
    assert found.volume.requests == 6
    assert usd["duplicates asked once"] == usd["synchronous price"] / -2 * 9 / 10
    assert usd["golden rows"] == usd["synchronous price"] / 2 * 5 / 10
    assert usd["batch discount"] == usd["synchronous price"] / -2
    assert usd["expected escalations"] > 0
    assert usd["retries"] == 0
    assert sum(usd.values()) == pytest.approx(found.total_usd)


def test_numbers_that_are_given_take_the_place_of_those_that_are_found(
    night: MakeNight, tmp_path: Path
) -> None:
    asked = Asked(rows=500_000, input_tokens=400, output_tokens=20, prefix_tokens=0)
    tiers = [{"model": HAIKU, "max_tokens": 64}]
    found = _estimate(night(golden=0, tiers=tiers), tmp_path / "none", asked)
    assert found.sums.lines[0].usd["typical"] == Decimal("250.00")
    assert found.total_usd == Decimal("125.00")
    assert found.bound_usd is None


def test_numbers_alone_make_a_sum_on_every_model_that_is_not_retired() -> None:
    asked = Asked(rows=500_000, input_tokens=400, output_tokens=20)
    found = estimate_numbers(
        HAIKU, Settings.from_environment(), asked, models=None, lane=Lane.BATCH.value
    )
    assert found.total_usd == Decimal("125.00")
    by_model = {each.model: each for each in found.candidates}
    assert by_model[HAIKU].sync_usd == Decimal("250.00")
    assert by_model[SONNET].usd == Decimal("375.00")
    # 30% more tokens of the newer tokenizer, at a tenth of the price.
    assert by_model["claude-haiku-5-5"].usd == Decimal("125.00") / 10 * Decimal("1.3")


def test_other_models_are_recounted_by_the_api(
    simulate: Simulate, night: MakeNight, tmp_path: Path
) -> None:
    """The simulator has one tokenizer for all models, so nothing is scaled."""
    simulate()
    models = [HAIKU, "claude-haiku-5-5"]
    found = _estimate(night(), tmp_path / "none", api=BatchesApi, models=models)
    own, other = found.candidates
    assert own.counted
    assert other.counted
    assert other.size.input == own.size.input


def test_unknown_and_retired_models_are_refused(
    night: MakeNight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prices = tmp_path / "prices.yaml"
    prices.write_text(
        "models: {claude-old-2: {retires: 2025-01-01, prices: "
        '[{effective_from: 2024-01-01, rates: {input: "1", output: "5"}}]}}'
    )
    monkeypatch.setenv("BATCH_PIPELINE_PRICES", str(prices))
    made = night()
    with pytest.raises(ConfigurationError, match="Model claude-none-9 has no price"):
        _estimate(made, tmp_path / "none", models=["claude-none-9"])
    with pytest.raises(ConfigurationError, match="claude-old-2 was retired on 2025-01-01"):
        _estimate(made, tmp_path / "none", models=["claude-old-2"])
    every = _estimate(made, tmp_path / "none", models=None).candidates
    assert "claude-old-2" not in [each.model for each in every]


def test_a_source_without_rows_is_said(night: MakeNight, tmp_path: Path) -> None:
    made = night()
    (made.folder / "source.csv").write_text("id,text,label\n")
    with pytest.raises(ConfigurationError, match="has no rows"):
        _estimate(made, tmp_path / "none")


@pytest.mark.parametrize(
    ("schedule", "loads"), [(None, "30"), ("0 2 * * *", "30.4"), ("0 2 * * 1-5", "21.8")]
)
def test_loads_a_month_follow_the_schedule(schedule: str | None, loads: str) -> None:
    assert loads_per_month(schedule) == Decimal(loads)


def test_what_is_foreseen_passes_within_the_budget_and_a_guess_is_no_failure(
    night: MakeNight,
) -> None:
    made = night(gates={"max_cost_usd": 5})
    read_source(made.context)
    found = foresee(made.context, None)
    assert found.passed
    assert "within gates.max_cost_usd (5.00)" in found.sentence
    assert "guess" in found.sentence


def test_what_could_break_the_budget_is_foreseen_with_what_to_do(night: MakeNight) -> None:
    made = night(gates={"max_cost_usd_per_month": 0.001})
    read_source(made.context)
    found = foresee(made.context, None)
    assert not found.passed
    assert "gates.max_cost_usd_per_month" in found.sentence
    assert "Raise it" in found.sentence
    assert found.plan is not None


def test_a_prefix_that_varies_is_foreseen_and_stops_the_estimate(
    night: MakeNight, tmp_path: Path
) -> None:
    prompt = {"system": "Row {{ id }}.", "user": "{{ text }}", "cache": "1h"}
    made = night(golden=0, prompt=prompt)
    read_source(made.context)
    found = foresee(made.context, None)
    assert not found.passed
    assert "differs between rows" in found.sentence
    with pytest.raises(PipelineError, match="differs between rows"):
        _estimate(made, tmp_path / "none")


def _own_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, facts: str) -> None:
    path = tmp_path / "own_prices.yaml"
    path.write_text(f"models: {facts}")
    monkeypatch.setenv("BATCH_PIPELINE_PRICES", str(path))


@pytest.fixture
def settled(simulate: Simulate, night: MakeNight) -> tuple[Night, Scorecard]:
    simulate()
    made = night(count=40, golden=0, gates={"max_cost_usd": 5, "max_cost_usd_per_month": 0.03})
    return made, made.settle()


def test_a_settled_load_teaches_its_own_estimate_what_the_next_one_costs(
    settled: tuple[Night, Scorecard],
) -> None:
    made, card = settled
    found = _estimate(made, made.context.settings.state, api=BatchesApi)
    assert found.plan is not None
    assert found.plan.output_from == "history"
    assert float(found.total_usd) == pytest.approx(card.cost_usd, rel=0.05)
    assert f"{DAY} is settled and has cost ${card.cost_usd:,.4f}" in found.notes[0]


def test_the_month_counts_what_its_loads_have_cost_and_a_load_begins_with_its_own_budget(
    settled: tuple[Night, Scorecard],
) -> None:
    made, card = settled
    before = account_of_ledger(made)
    found = _estimate(made, made.context.settings.state, api=BatchesApi)
    load, month = found.budgets
    assert (load.option, load.word) == ("gates.max_cost_usd", "within")
    assert not load.committed_usd
    assert month.option == "gates.max_cost_usd_per_month"
    assert float(month.committed_usd) == pytest.approx(card.cost_usd)
    other = replace(made.context.settings)
    next_day = estimate_workload(
        made.context.workload, "2026-11-21", other, Asked(), api=BatchesApi, models=[HAIKU]
    )
    assert float(next_day.budgets[1].committed_usd) == pytest.approx(card.cost_usd)
    assert account_of_ledger(made) == before


def account_of_ledger(made: Night) -> list[Any]:
    """What an estimate must leave as it was."""
    return [made.ledger.generations("questions"), made.ledger.unpriced("questions")]


def test_a_month_budget_alone_that_is_used_up_is_said_to_be(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    first = night(count=40, golden=0)
    card = first.settle()
    assert card.cost_usd is not None
    limit = round(card.cost_usd * 1.01, 6)
    made = night(count=40, golden=0, day="2026-11-21", gates={"max_cost_usd_per_month": limit})
    found = estimate_workload(
        made.context.workload,
        "2026-11-21",
        made.context.settings,
        Asked(),
        api=BatchesApi,
        models=[HAIKU],
    )
    assert [budget.word for budget in found.budgets] == ["ABOVE"]
    shown = io.StringIO()
    print_estimate(found, Console(file=shown, width=200))
    said = " ".join(shown.getvalue().split())
    assert "ABOVE what is left of the budget" in said
    assert "gates.max_cost_usd_per_month" in said
    assert "no budget is declared" not in said


def test_a_declared_model_that_is_retired_stops_the_estimate_but_not_the_workload(
    night: MakeNight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _own_prices(tmp_path, monkeypatch, f"{{{HAIKU}: {{retires: 2026-01-31}}}}")
    made = night()
    read_source(made.context)
    with pytest.raises(ConfigurationError, match=r"tiers\[0\].*was retired on 2026-01-31"):
        _estimate(made, tmp_path / "none", models=[SONNET])


def test_a_model_that_retires_within_sixty_days_is_noted(
    night: MakeNight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soon, late = today() + timedelta(days=60), today() + timedelta(days=61)
    _own_prices(
        tmp_path, monkeypatch, f"{{{HAIKU}: {{retires: {soon}}}, {SONNET}: {{retires: {late}}}}}"
    )
    found = _estimate(night(), tmp_path / "none")
    assert [note for note in found.notes if "retires" in note] == [
        f"tiers[0].model {HAIKU} retires on {soon}, in 60 days; from then on nothing is sent to it."
    ]


def test_no_load_a_month_is_none_and_not_the_usual_thirty() -> None:
    asked = Asked(rows=10, input_tokens=4, output_tokens=2, loads_per_month=Decimal(0))
    found = estimate_numbers(HAIKU, Settings.from_environment(), asked, models=[], lane="batch")
    assert found.month_usd == 0


def test_thinking_that_the_given_numbers_may_lack_is_noted() -> None:
    asked = Asked(rows=10, input_tokens=4, output_tokens=2)
    options: dict[str, Any] = {"lane": "batch"}
    settings = Settings.from_environment()
    (note,) = estimate_numbers(HAIKU, settings, asked, models=["claude-haiku-5-5"], **options).notes
    assert "claude-haiku-5-5" in note
    assert HAIKU not in note
    assert estimate_numbers(HAIKU, settings, asked, models=[SONNET], **options).notes == []


def test_a_candidate_that_thinks_has_thinking_added_to_measured_answers(
    settled: tuple[Night, Scorecard],
) -> None:
    made, _ = settled
    models = [HAIKU, "claude-sonnet-5-5"]
    found = _estimate(made, made.context.settings.state, models=models)
    here, there = found.candidates
    assert there.size.output == 64  # max_tokens, for 400 tokens of thinking do not fit
    assert here.size.output < 20
