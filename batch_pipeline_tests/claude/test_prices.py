"""Prices against an independent table, and spend in SQL against prices."""

from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from genai_prices import Usage, calc_price

from batch_pipeline.claude.prices import (
    CATEGORIES,
    PriceTable,
    known_models,
    load_prices,
    price_for,
    register_prices,
    require_prices,
    spend_sql,
)
from batch_pipeline.errors import ConfigurationError

TODAY = date(2026, 11, 22)
MODELS = load_prices().known_models()
# The two restricted models that genai-prices has no entry for; they cost what their twins cost.
TWINS = {"claude-mythos-5": "claude-fable-5", "claude-mythos-5-1": "claude-fable-5-1"}
UNKNOWN_TO_GENAI_PRICES = set(TWINS)


def genai_price(model: str, *, batch: bool, tokens: dict[str, int]) -> Decimal:
    written = tokens["cache_write_5m"] + tokens["cache_write_1h"]
    usage = Usage(
        # There, input counts everything, and cache writes count both lifetimes.
        input_tokens=tokens["input"] + written + tokens["cache_read"],
        cache_write_tokens=written,
        cache_write_1h_tokens=tokens["cache_write_1h"],
        cache_read_tokens=tokens["cache_read"],
        output_tokens=tokens["output"],
    )
    priced = calc_price(
        usage,
        model_ref=model,
        provider_id="anthropic",
        genai_request_timestamp=datetime(2026, 11, 22, tzinfo=UTC),
        price_context={"processing": "batch"} if batch else None,
    )
    return Decimal(priced.total_price)


@pytest.mark.parametrize("batch", [False, True], ids=["standard", "batch"])
@pytest.mark.parametrize("model", [m for m in MODELS if m not in UNKNOWN_TO_GENAI_PRICES])
def test_every_rate_agrees_with_genai_prices(model: str, batch: bool) -> None:
    for category in CATEGORIES:
        tokens = dict.fromkeys(CATEGORIES, 0) | {category: 100_000}
        ours = price_for(model, TODAY, batch=batch, prompt_tokens=100_000)
        cost = ours.cost(**{f"{name}_tokens": n for name, n in tokens.items()})
        assert cost == genai_price(model, batch=batch, tokens=tokens), category


def test_the_models_that_genai_prices_lacks_are_these() -> None:
    lacking = set()
    for model in MODELS:
        try:
            genai_price(model, batch=True, tokens=dict.fromkeys(CATEGORIES, 1))
        except LookupError:
            lacking.add(model)
    assert lacking == UNKNOWN_TO_GENAI_PRICES


@pytest.mark.parametrize(("model", "twin"), list(TWINS.items()))
def test_a_restricted_model_costs_what_its_twin_costs(model: str, twin: str) -> None:
    ours, other = (price_for(name, TODAY, batch=True) for name in (model, twin))
    assert all(getattr(ours, name) == getattr(other, name) for name in CATEGORIES)


@pytest.mark.parametrize("prompt", [100_000, 100_001])
def test_the_length_of_a_haiku_5_5_prompt_decides_every_rate(prompt: int) -> None:
    tokens = {
        "input": prompt - 30,
        "cache_write_5m": 10,
        "cache_write_1h": 10,
        "cache_read": 10,
        "output": 7_000,
    }
    price = price_for("claude-haiku-5-5", TODAY, batch=True, prompt_tokens=prompt)
    cost = price.cost(**{f"{name}_tokens": n for name, n in tokens.items()})
    assert cost == genai_price("claude-haiku-5-5", batch=True, tokens=tokens)
    assert price.input == (Decimal("0.05") if prompt == 100_000 else Decimal("0.25"))


@pytest.mark.parametrize(("batch", "usd"), [(False, "250.00"), (True, "125.00")])
def test_half_a_million_short_requests_to_haiku_4_5(batch: bool, usd: str) -> None:
    price = price_for("claude-haiku-4-5", TODAY, batch=batch)
    cost = 500_000 * price.cost(input_tokens=400, output_tokens=20)
    assert cost == Decimal(usd)


def test_a_dated_id_is_the_model_without_its_date() -> None:
    dated = price_for("claude-haiku-4-5-20251001", TODAY, batch=True)
    assert dated == price_for("claude-haiku-4-5", TODAY, batch=True)


def test_a_price_changes_on_its_day() -> None:
    before = price_for("claude-sonnet-5-5", date(2026, 10, 6), batch=False)
    after = price_for("claude-sonnet-5-5", date(2026, 10, 7), batch=False)
    assert (before.cache_read, after.cache_read) == (Decimal("0.20"), Decimal("0.10"))


def test_a_day_before_the_first_price_has_the_first_price() -> None:
    assert price_for("claude-opus-5-5", date(2020, 1, 1), batch=False).input == Decimal(4)


def test_a_batch_costs_half_in_every_category() -> None:
    for model in MODELS:
        standard, batch = (price_for(model, TODAY, batch=each) for each in (False, True))
        for name in CATEGORIES:
            assert getattr(batch, name) * 2 == getattr(standard, name)


def test_an_unknown_model_is_refused_with_the_way_to_add_one() -> None:
    with pytest.raises(ConfigurationError, match="BATCH_PIPELINE_PRICES") as error:
        price_for("claude-imaginary-9", TODAY, batch=True)
    assert "claude-haiku-4-5" in str(error.value)


def test_the_table_knows_when_a_model_retires_and_how_much_it_reads() -> None:
    facts = load_prices().facts("claude-sonnet-4-5-20250929")
    assert (facts.retires, facts.context_tokens) == (date(2026, 11, 30), 200_000)
    assert load_prices().facts("claude-haiku-4-5").min_cacheable_tokens == 4096


OWN = """
models:
  claude-imaginary-9:
    prices:
      - {effective_from: 2026-01-01, rates: {input: 2, output: 8.5}}
      - {effective_from: 2026-06-01, rates: {input: "1", output: "5", cache_read: "0.02"}}
"""


@pytest.fixture
def own_prices(tmp_path: Path) -> Path:
    path = tmp_path / "prices.yaml"
    path.write_text(OWN)
    return path


def test_a_file_of_ones_own_adds_a_model_with_the_usual_cache_rates(own_prices: Path) -> None:
    table = load_prices(own_prices)
    price = table.price_for("claude-imaginary-9", date(2026, 2, 1), batch=False)
    assert (price.output, price.cache_write_5m, price.cache_write_1h, price.cache_read) == (
        Decimal("8.5"),
        Decimal("2.5"),
        Decimal(4),
        Decimal("0.2"),
    )
    later = table.price_for("claude-imaginary-9", TODAY, batch=False)
    assert later.cache_read == Decimal("0.02")
    assert set(MODELS) < set(table.known_models())


def test_the_environment_names_the_file(own_prices: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_PRICES", str(own_prices))
    assert "claude-imaginary-9" in known_models()
    assert price_for("claude-imaginary-9", TODAY, batch=True).input == Decimal("0.5")


def one_day(rates: str) -> str:
    return f"models: {{m: {{prices: [{{effective_from: 2026-01-01, rates: {{{rates}}}}}]}}}}"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("models: [", "cannot be read"),
        ("models: 3", "models must hold"),
        ("model: {}", "model is unknown"),
        ("models: {m: {}}", "prices must be a list"),
        ("models: {m-20260101: {prices: [1]}}", "without its date"),
        ("models: {m: {prices: [{rates: {input: 1, output: 1}}]}}", "effective_from is missing"),
        ("models: {m: {prices: [{effective_from: x, rates: {}}]}}", "must be a day"),
        (one_day("input: 1"), "output must"),
        (
            one_day("input: -1, output: 1"),
            "input must be a number",
        ),
        (
            one_day("input: .nan, output: 1"),
            "input must be a number",
        ),
        (
            one_day("input: 0.1234567, output: 1"),
            "at most 6 decimals",
        ),
        (
            one_day("input: 1, output: 1, reasoning: 1"),
            "reasoning is unknown",
        ),
    ],
)
def test_a_wrong_file_is_refused_with_file_and_place(
    tmp_path: Path, content: str, said: str
) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(content)
    with pytest.raises(ConfigurationError, match=said) as error:
        load_prices(path)
    assert "own.yaml" in str(error.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        load_prices(tmp_path / "none.yaml")


def spend(
    lines: list[dict[str, Any]], *, batch: bool = True, on: date = TODAY
) -> list[dict[str, Decimal]]:
    """What each line costs, from SQL."""
    standard = {
        "result": "succeeded",
        "stop_reason": "end_turn",
        "answer": "{}",
        "model": "claude-haiku-4-5",
        "inference_geo": None,
        **{f"{name}_tokens": 0 for name in CATEGORIES},
    }
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE results (n INTEGER, result VARCHAR, stop_reason VARCHAR, answer VARCHAR,"
        " model VARCHAR, inference_geo VARCHAR, "
        + ", ".join(f"{name}_tokens BIGINT" for name in CATEGORIES)
        + ")"
    )
    for n, line in enumerate(lines):
        values = [n, *(standard | line).values()]
        marks = ", ".join("?" for _ in values)
        connection.execute(f"INSERT INTO results VALUES ({marks})", values)
    register_prices(connection, on, batch=batch)
    names = ["usd", *(f"usd_{name}" for name in CATEGORIES)]
    rows = connection.execute(
        f"SELECT {', '.join(names)} FROM ({spend_sql('results')}) ORDER BY n"
    ).fetchall()
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_each_category_is_charged_at_its_rate() -> None:
    (cost,) = spend([{f"{name}_tokens": 1_000_000 for name in CATEGORIES}])
    assert cost == {
        "usd_input": Decimal("0.5"),
        "usd_output": Decimal("2.5"),
        "usd_cache_write_5m": Decimal("0.625"),
        "usd_cache_write_1h": Decimal(1),
        "usd_cache_read": Decimal("0.05"),
        "usd": Decimal("4.675"),
    }


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("batch", [False, True], ids=["standard", "batch"])
def test_sql_charges_what_the_price_says(model: str, batch: bool) -> None:
    tokens = {
        f"{name}_tokens": n
        for name, n in zip(CATEGORIES, (1_234, 567, 89, 1_011, 60_213), strict=True)
    }
    (cost,) = spend([{"model": model, **tokens}], batch=batch)
    price = price_for(model, TODAY, batch=batch, prompt_tokens=1_234 + 89 + 1_011 + 60_213)
    assert cost["usd"] == price.cost(**tokens)


def test_a_long_prompt_is_charged_at_the_upper_rates_counting_its_cached_part() -> None:
    line = {"model": "claude-haiku-5-5", "output_tokens": 1_000_000}
    low, high = spend(
        [
            {**line, "input_tokens": 1, "cache_read_tokens": 99_999},
            {**line, "input_tokens": 1, "cache_read_tokens": 100_000},
        ]
    )
    assert (low["usd_output"], high["usd_output"]) == (Decimal("0.25"), Decimal("1.25"))


def test_inference_in_the_us_costs_a_tenth_more_from_claude_4_6_on() -> None:
    lines = [
        {"model": model, "inference_geo": geo, "input_tokens": 1_000_000}
        for model in ("claude-sonnet-4-6", "claude-haiku-4-5")
        for geo in (None, "global", "us")
    ]
    costs = [cost["usd"] for cost in spend(lines)]
    assert costs == [Decimal(usd) for usd in ("1.5", "1.5", "1.65", "0.5", "0.5", "0.5")]


@pytest.mark.parametrize(
    "line",
    [
        {"result": "errored"},
        {"result": "expired", "model": None},
        {"result": None},
        {"stop_reason": "refusal", "answer": ""},
        {"stop_reason": "refusal", "answer": None},
    ],
)
def test_what_is_not_billed_costs_nothing(line: dict[str, Any]) -> None:
    (cost,) = spend([{"input_tokens": 1_000, "output_tokens": 10, **line}])
    assert cost["usd"] == 0


@pytest.mark.parametrize(
    "line",
    [
        {"stop_reason": "refusal", "answer": "I"},
        {"stop_reason": "max_tokens", "answer": ""},
        {"stop_reason": None, "answer": None},
        {"model": "claude-haiku-4-5-20251001"},
    ],
)
def test_what_is_billed_costs_its_tokens(line: dict[str, Any]) -> None:
    (cost,) = spend([{"output_tokens": 1_000_000, **line}])
    assert cost["usd"] == Decimal("2.5")


def test_missing_counts_are_zero() -> None:
    (cost,) = spend([{"input_tokens": 1_000_000, "cache_read_tokens": None, "output_tokens": None}])
    assert cost["usd"] == Decimal("0.5")


def test_a_billed_line_without_a_price_is_an_error_and_never_zero() -> None:
    with pytest.raises(duckdb.Error, match="no price for model claude-imaginary-9"):
        spend([{"model": "claude-imaginary-9", "input_tokens": 1}])


def test_models_without_a_price_are_named_beforehand() -> None:
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE results AS SELECT 'succeeded' AS result, 'end_turn' AS stop_reason,"
        " '{}' AS answer, 'claude-imaginary-9' AS model"
    )
    with pytest.raises(ConfigurationError, match="claude-imaginary-9"):
        require_prices(connection, "results")
    connection.execute("UPDATE results SET result = 'errored'")
    require_prices(connection, "results")


def test_a_sum_over_many_lines_is_exact() -> None:
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE results AS SELECT 'succeeded' AS result, 'end_turn' AS stop_reason,"
        " '{}' AS answer, 'claude-haiku-4-5' AS model, NULL::VARCHAR AS inference_geo,"
        " 400 AS input_tokens, 20 AS output_tokens, 0 AS cache_write_5m_tokens,"
        " 0 AS cache_write_1h_tokens, 0 AS cache_read_tokens FROM range(500_000)"
    )
    for batch, usd in ((False, Decimal(250)), (True, Decimal(125))):
        register_prices(connection, TODAY, batch=batch)
        found = connection.execute(f"SELECT sum(usd) FROM ({spend_sql('results')})").fetchone()
        assert found == (usd,)


def _with(tmp_path: Path, text: str) -> PriceTable:
    path = tmp_path / "newer.yaml"
    path.write_text(text)
    return load_prices(path)


def test_newer_prices_of_a_known_model_leave_the_rest_of_what_is_known(tmp_path: Path) -> None:
    shipped = load_prices().facts("claude-haiku-5-5")
    own = _with(
        tmp_path,
        "models: {claude-haiku-5-5: {prices: "
        '[{effective_from: 2027-06-01, rates: {input: "9", output: "9"}}]}}',
    ).facts("claude-haiku-5-5")
    assert replace(own, prices=shipped.prices) == shipped
    assert own.prices[: len(shipped.prices)] == shipped.prices
    # A price of the future does not count before its day.
    assert own.on(date(2027, 5, 31)) == shipped.on(date(2027, 5, 31))
    assert own.on(date(2027, 6, 1)).rates.input == 9


def test_a_price_of_the_same_day_replaces_the_shipped_one(tmp_path: Path) -> None:
    shipped = load_prices().facts("claude-haiku-4-5")
    day = shipped.prices[-1].effective_from
    own = _with(
        tmp_path,
        f"models: {{claude-haiku-4-5: {{prices: [{{effective_from: {day}, "
        'rates: {input: "3", output: "4"}}]}}',
    ).facts("claude-haiku-4-5")
    assert len(own.prices) == len(shipped.prices)
    assert own.on(TODAY).rates.output == 4


def test_a_fact_may_be_changed_alone_or_taken_back(tmp_path: Path) -> None:
    own = _with(
        tmp_path,
        "models: {claude-haiku-4-5: {retires: 2027-01-31, min_cacheable_tokens: null}}",
    ).facts("claude-haiku-4-5")
    shipped = load_prices().facts("claude-haiku-4-5")
    assert (own.retires, own.min_cacheable_tokens) == (date(2027, 1, 31), None)
    assert own.prices == shipped.prices
