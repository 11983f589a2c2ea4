"""What was saved, against a plain computation request by request that shares no code with it but the price table."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_pipeline.claude.prices import load_prices
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.measure.savings import (
    PARTS,
    CostLine,
    Savings,
    line_of_spend,
    measure_costs,
    merged,
    resent_lines,
    shared_lines,
)
from batch_pipeline.measure.spend import TOKENS, measure_spend

DAY = date(2026, 11, 20)
PRICES = load_prices()
MODELS = PRICES.known_models()
MILLION = Decimal(1_000_000)
INPUTS = ("input", "cache_write_5m", "cache_write_1h", "cache_read")
SCHEMA = pa.schema(
    [
        *((n, pa.string()) for n in ("part", "lane", "disposition", "result", "stop_reason")),
        *((n, pa.string()) for n in ("answer", "model", "inference_geo")),
        ("tier", pa.int32()),
        *((f"{kind}_tokens", pa.int64()) for kind in TOKENS),
    ]
)


@dataclass(frozen=True)
class Request:
    """One result, as its line says."""

    model: str
    tokens: tuple[int, int, int, int, int]
    lane: str = "batch"
    geo: str | None = None
    part: str = "first_answers"
    disposition: str = "validated"
    tier: int = 0
    result: str = "succeeded"
    refused: bool = False
    answer: str | None = "{}"

    def line(self) -> dict[str, Any]:
        return {
            "part": self.part,
            "lane": self.lane,
            "disposition": self.disposition,
            "result": self.result,
            "stop_reason": "refusal" if self.refused else "end_turn",
            "answer": self.answer,
            "model": self.model,
            "inference_geo": self.geo,
            "tier": self.tier,
            **{f"{kind}_tokens": n for kind, n in zip(TOKENS, self.tokens, strict=True)},
        }

    @property
    def billed(self) -> bool:
        return self.result == "succeeded" and not (self.refused and not self.answer)

    def amounts(self) -> tuple[Decimal, Decimal, Decimal, Decimal]:
        """synchronous, spent, saved by batching, saved by caching: each by its own definition."""
        if not self.billed:
            return (Decimal(0),) * 4
        tokens = dict(zip(TOKENS, self.tokens, strict=True))
        prompt = sum(tokens[kind] for kind in INPUTS)
        full = PRICES.price_for(self.model, DAY, batch=False, prompt_tokens=prompt)
        paid = PRICES.price_for(self.model, DAY, batch=self.lane == "batch", prompt_tokens=prompt)
        us = PRICES.facts(self.model).us_multiplier if self.geo == "us" else Decimal(1)
        usage = {f"{kind}_tokens": n for kind, n in tokens.items()}
        synchronous = (full.input * prompt + full.output * tokens["output"]) / MILLION * us
        cached, spent = full.cost(**usage) * us, paid.cost(**usage) * us
        return synchronous, spent, cached - spent, synchronous - cached


tokens_of_a_request = st.one_of(
    st.tuples(*[st.integers(0, 30_000)] * 5),
    # About where Haiku 5.5 becomes five times as dear.
    st.tuples(*[st.integers(24_990, 25_010)] * 4, st.integers(0, 9)),
)
requests = st.builds(
    Request,
    model=st.sampled_from([*MODELS, "claude-haiku-4-5-20251001"]),
    tokens=tokens_of_a_request,
    lane=st.sampled_from(["batch", "sync"]),
    geo=st.sampled_from([None, "us", "global"]),
    part=st.sampled_from(PARTS),
    disposition=st.sampled_from(["validated", "quarantined", "human_review", "open"]),
    tier=st.integers(0, 2),
    result=st.sampled_from(["succeeded", "succeeded", "succeeded", "errored", "expired", "gone"]),
    refused=st.booleans(),
    answer=st.sampled_from(["{}", "", None]),
)


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def measured(connection: duckdb.DuckDBPyConnection, *asked: Request) -> Savings:
    connection.register("asked", pa.Table.from_pylist([each.line() for each in asked], SCHEMA))
    return Savings(tuple(merged(measure_costs(connection, "asked", PRICES, DAY))))


@settings(max_examples=60, deadline=None)
@given(st.lists(requests, max_size=12))
@example([Request(model, (10, 20, 30, 40, 5), geo="us") for model in MODELS])
@example([Request("claude-haiku-5-5", (100_001, 0, 0, 0, 50)), Request("claude-haiku-5-5", (100_000, 0, 0, 0, 50))])  # fmt: skip
def test_every_amount_is_that_of_the_requests_and_they_add_up(
    asked: list[Request],
) -> None:
    with duckdb.connect() as connection:
        savings = measured(connection, *asked)
    each = [request.amounts() for request in asked]
    synchronous, spent, batching, caching = (
        sum((amounts[n] for amounts in each), Decimal(0)) for n in range(4)
    )

    assert savings.synchronous_usd == synchronous
    assert savings.spent_usd == spent
    assert savings.saved_batch_usd == batching
    assert savings.saved_cache_usd == caching
    assert savings.synchronous_usd == spent + savings.saved_batch_usd + savings.saved_cache_usd
    assert sum(savings.parts.values()) == spent
    for part in PARTS:
        assert savings.parts[part] == sum(
            (amounts[1] for r, amounts in zip(asked, each, strict=True) if r.part == part),
            Decimal(0),
        )
    for end in ("quarantined", "human_review"):
        assert savings.on(end) == sum(
            (
                amounts[1]
                for r, amounts in zip(asked, each, strict=True)
                if r.disposition == end and r.part not in ("golden", "resent")
            ),
            Decimal(0),
        )


@settings(max_examples=20, deadline=None)
@given(st.lists(requests.map(lambda r: replace(r, lane="batch")), min_size=1, max_size=8))
def test_what_was_spent_is_what_the_spend_says(
    asked: list[Request],
) -> None:
    with duckdb.connect() as connection:
        savings = measured(connection, *asked)
        spend = measure_spend(connection, "asked", PRICES, DAY)

    assert float(savings.spent_usd) == pytest.approx(spend.total_usd, abs=1e-15, rel=1e-12)


def test_requests_that_read_and_wrote_are_counted(connection: duckdb.DuckDBPyConnection) -> None:
    savings = measured(
        connection,
        Request("claude-haiku-4-5", (10, 0, 5000, 0, 1)),
        *[Request("claude-haiku-4-5", (10, 0, 0, 5000, 1))] * 3,
        *[Request("claude-haiku-4-5", (10, 0, 0, 0, 1))] * 4,
        Request("claude-haiku-4-5", (10, 0, 0, 5000, 1), result="errored"),
    )

    assert savings.prefix_hit_share == 0.75
    assert savings.request_hit_share == 0.75
    # Three reads save 0.9 of 5,000 tokens each, the write costs as much again as plain input.
    assert savings.saved_cache_usd == Decimal("0.0085")
    assert savings.saved_cache_share == pytest.approx(8500 / 20_080)


def test_writes_that_nobody_reads_lose(connection: duckdb.DuckDBPyConnection) -> None:
    savings = measured(connection, *[Request("claude-haiku-4-5", (0, 0, 5000, 0, 0))] * 2)

    assert savings.saved_cache_usd == Decimal("-0.01")
    assert savings.lines[0].write_premium_usd == Decimal("0.01")
    assert savings.synchronous_usd == Decimal("0.01")
    assert savings.spent_usd == Decimal("0.01")


def test_a_model_without_a_price_is_refused(connection: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ConfigurationError, match="claude-imaginary-9 has no price"):
        measured(connection, Request("claude-imaginary-9", (1, 0, 0, 0, 1)))


def test_rows_that_were_asked_once_are_worth_the_mean_request_of_their_tier(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    paid = measured(
        connection,
        Request("claude-haiku-4-5", (1000, 0, 0, 0, 0)),
        Request("claude-haiku-4-5", (3000, 0, 0, 0, 0), part="retries"),
        Request("claude-haiku-4-5", (9000, 0, 0, 0, 0), part="golden"),
        Request("claude-sonnet-4-6", (1000, 0, 0, 0, 0), tier=1, part="escalations"),
    )
    shared = shared_lines([(0, 10, 10), (1, 2, 2), (2, 3, 3)], paid.lines, {2: Decimal("0.5")})
    savings = Savings((*paid.lines, *shared))

    # 10 at the mean of 2,000 tokens, 2 at 1,000 tokens of the dearer model, 3 at what was expected.
    assert savings.asked_once_usd == Decimal("0.01") + Decimal("0.003") + Decimal("1.5")
    assert savings.asked_once_rows == 15
    assert savings.spent_usd == paid.spent_usd
    assert savings.synchronous_usd == paid.synchronous_usd


def test_an_earlier_sending_is_a_part_of_its_own(connection: duckdb.DuckDBPyConnection) -> None:
    earlier = measured(
        connection,
        Request("claude-haiku-4-5", (1000, 0, 0, 0, 10)),
        Request("claude-haiku-4-5", (1000, 0, 0, 0, 10), part="golden", disposition="quarantined"),
    )
    again = Savings(
        tuple(
            resent_lines([*earlier.lines, CostLine("asked_once", 0, "", "", None, shared_rows=3)])
        )
    )

    assert again.parts["resent"] == again.spent_usd == earlier.spent_usd
    assert again.saved_batch_usd == earlier.saved_batch_usd
    assert again.on("quarantined") == 0
    assert again.asked_once_rows == 0


def test_of_an_old_sending_the_spend_is_known_and_half_price(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    asked = [Request("claude-haiku-4-5", (1000, 0, 500, 200, 10))] * 3
    known = measured(connection, *asked)
    spend = measure_spend(connection, "asked", PRICES, DAY)
    old = Savings((line_of_spend(spend, PRICES),))

    assert old.spent_usd == old.parts["resent"] == known.spent_usd
    assert old.saved_batch_usd == known.saved_batch_usd
    assert old.saved_cache_usd == 0
