import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batch_pipeline.cli import main, prices
from batch_pipeline_tests.night import Night

TICKETS = ("--model", "claude-haiku-4-5", "--rows", "500000", "--input-tokens", "400")


def _call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_a_sum_without_a_workload_is_shown_line_by_line() -> None:
    shown = _call("estimate", *TICKETS, "--output-tokens", "20", "--models", "claude-haiku-4-5")
    assert shown.exit_code == 0
    for text in ("$250.00", "-$125.00", "$125.00", "cache effect", "retries", "Batch? yes"):
        assert text in shown.output


def test_every_part_of_a_shared_document_is_in_the_json() -> None:
    shown = _call(
        *("estimate", "--model", "claude-haiku-4-5", "--rows", "3000", "--prefix-tokens", "40000"),
        *("--input-tokens", "100", "--output-tokens", "150", "--models", "claude-opus-5-5"),
        "--json",
    )
    found = json.loads(shown.stdout)
    assert found["parts"]["low"] == {
        "cache_writes": 84.0,
        "cache_reads": 1.8,
        "input": 0.15,
        "output": 1.125,
        "total": 87.075,
    }
    assert found["total_usd"] == {"low": 87.075, "typical": 48.315, "high": 9.555}
    assert found["verdict"]["batch"] == "yes"
    assert [each["model"] for each in found["candidates"]] == ["claude-opus-5-5"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Name a WORKLOAD, or give --model"),
        (TICKETS, "Name a WORKLOAD"),
        ((*TICKETS, "--output-tokens", "1", "--models", "claude-none"), "has no price"),
        ((*TICKETS, "--output-tokens", "1", "--engineering-days", "3"), "go together"),
        (("questions", "--model", "claude-haiku-4-5"), "--models"),
    ],
)
def test_wrong_use_is_told_in_a_sentence(arguments: tuple[str, ...], said: str) -> None:
    shown = _call("estimate", *arguments)
    assert shown.exit_code == 2
    assert said in shown.stderr


def test_a_workload_is_estimated_offline(
    night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = night(gates={"max_cost_usd": 5})
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
    shown = _call("estimate", "questions", "--date", "2026-11-20", "--offline")
    assert shown.exit_code == 0
    assert "within the budget of $5.00" in shown.output
    assert "a guess" in shown.output
    assert "claude-opus-5-5" in shown.output


def test_prices_show_rates_thresholds_and_their_age() -> None:
    shown = _call("prices", "claude-haiku-5-5", "claude-sonnet-4-5")
    assert shown.exit_code == 0
    for text in ("> 100,000", "0.0625", "retires 2026-11-30", "Checked 2026-11-22"):
        assert text in shown.output


def test_prices_say_when_they_are_old_and_who_adds_to_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    more = tmp_path / "more.yaml"
    more.write_text(
        "models: {ours-1: {prices: [{effective_from: 2026-01-01, rates: "
        '{input: "1", output: "5"}}]}}'
    )
    monkeypatch.setenv("BATCH_PIPELINE_PRICES", str(more))
    monkeypatch.setattr(prices, "now", lambda: datetime(2027, 3, 1, tzinfo=UTC))
    shown = _call("prices")
    assert "99 days ago. WARNING" in shown.output
    assert "ours-1" in shown.output
    assert str(more) in shown.output


def test_prices_in_json_have_both_lanes() -> None:
    found: dict[str, Any] = json.loads(_call("prices", "claude-haiku-4-5", "--json").stdout)
    assert found["checked"] == "2026-11-22"
    (model,) = found["models"]
    assert model["prices"][0]["sync"]["output"] == 5.0
    assert model["prices"][0]["batch"]["cache_write_1h"] == 1.0


def test_a_model_without_a_price_is_told() -> None:
    shown = _call("prices", "claude-none")
    assert shown.exit_code == 2
    assert "BATCH_PIPELINE_PRICES" in shown.stderr
