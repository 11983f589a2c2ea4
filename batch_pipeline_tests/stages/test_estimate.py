from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline.claude.client import BatchesApi
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
