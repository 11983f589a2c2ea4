"""Tokens and prompt caching, as billed."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic import Anthropic
from hypothesis import given
from hypothesis import strategies as st

from batch_pipeline.simulator.models import find_model
from batch_pipeline.simulator.usage import PromptCache

from .asking import account, client_of, one_result, requests, results
from .conftest import Simulate

LONG = "s" * 20_000  # 5,000 tokens, above every model's minimum


def _system(text: str = LONG, ttl: str = "1h") -> list[dict[str, Any]]:
    return [
        {"type": "text", "text": text, "cache_control": {"type": "ephemeral", "ttl": ttl}},
        {"type": "text", "text": "t" * 400},
    ]


def test_four_characters_are_a_token(client: Anthropic) -> None:
    usage = one_result(client, "x" * 101, system="y" * 100).message.usage
    assert usage.input_tokens == 51
    assert usage.service_tier == "batch"


def test_count_tokens_agrees(client: Anthropic) -> None:
    counted = client.messages.count_tokens(
        model="claude-haiku-4-5",
        system="y" * 100,
        messages=[{"role": "user", "content": "x" * 101}],
    )
    assert counted.input_tokens == 51


def test_the_first_request_writes_and_later_ones_read(simulate: Simulate) -> None:
    client = client_of(simulate(cache_hit_rate=1))
    found = results(client, requests(*(f"row {i}" for i in range(10)), system=_system()))
    usages = [r.message.usage for r in found.values()]
    assert sorted(u.cache_creation_input_tokens for u in usages) == [0] * 9 + [5_000]
    assert sorted(u.cache_read_input_tokens for u in usages) == [0] + [5_000] * 9
    assert {u.input_tokens for u in usages} == {102}


def test_the_cache_outlives_a_batch(simulate: Simulate) -> None:
    client = client_of(simulate(cache_hit_rate=1))
    assert one_result(client, system=_system()).message.usage.cache_read_input_tokens == 0
    assert one_result(client, system=_system()).message.usage.cache_read_input_tokens == 5_000


def test_several_requests_may_write_before_the_first_reads(simulate: Simulate) -> None:
    client = client_of(simulate(cache_hit_rate=1, cache_first_writes=3))
    found = results(client, requests(*(f"row {i}" for i in range(10)), system=_system()))
    reads = [r.message.usage.cache_read_input_tokens > 0 for r in found.values()]
    assert sum(reads) == 7


def test_the_hit_rate_holds_about(simulate: Simulate) -> None:
    client = client_of(simulate(cache_hit_rate=0.5))
    found = results(client, requests(*(f"row {i}" for i in range(200)), system=_system()))
    reads = [r.message.usage.cache_read_input_tokens > 0 for r in found.values()]
    assert 70 <= sum(reads) <= 130


@pytest.mark.parametrize(("ttl", "short", "long"), [("5m", 5_000, 0), ("1h", 0, 5_000)])
def test_writes_are_told_apart_by_ttl(client: Anthropic, ttl: str, short: int, long: int) -> None:
    usage = one_result(client, system=_system("u" * 20_000, ttl)).message.usage
    assert usage.cache_creation.ephemeral_5m_input_tokens == short
    assert usage.cache_creation.ephemeral_1h_input_tokens == long
    assert usage.cache_creation_input_tokens == short + long


@pytest.mark.parametrize(
    ("model", "cached"), [("claude-haiku-4-5", False), ("claude-sonnet-4-6", True)]
)
def test_below_the_models_minimum_nothing_is_cached(
    client: Anthropic, model: str, cached: bool
) -> None:
    usage = one_result(client, model=model, system=_system("m" * 8_000)).message.usage
    assert (usage.cache_creation_input_tokens > 0) is cached


def test_another_model_does_not_read_the_prefix(simulate: Simulate) -> None:
    client = client_of(simulate(cache_hit_rate=1))
    one_result(client, system=_system())
    other = one_result(client, model="claude-sonnet-4-6", system=_system())
    assert other.message.usage.cache_read_input_tokens == 0


def test_a_longer_prefix_writes_only_what_is_new(simulate: Simulate) -> None:
    client = client_of(simulate(cache_hit_rate=1))
    control = {"type": "ephemeral", "ttl": "5m"}
    system = [
        {"type": "text", "text": LONG, "cache_control": control},
        {"type": "text", "text": "more" * 1_000, "cache_control": control},
    ]
    one_result(client, system=system[:1])
    usage = one_result(client, system=system).message.usage
    assert usage.cache_read_input_tokens == 5_000
    assert usage.cache_creation_input_tokens == 1_000


def test_tools_and_messages_can_be_cached_too(simulate: Simulate) -> None:
    client = client_of(simulate(cache_hit_rate=1))
    tool = {
        "name": "t",
        "description": LONG,
        "input_schema": {"type": "object"},
        "cache_control": {"type": "ephemeral"},
    }
    content = [{"type": "text", "text": LONG, "cache_control": {"type": "ephemeral"}}]
    asked: dict[str, Any] = {"tools": [tool], "messages": [{"role": "user", "content": content}]}
    first = one_result(client, **asked).message.usage
    second = one_result(client, **asked).message.usage
    assert first.cache_creation_input_tokens > 10_000
    assert second.cache_read_input_tokens == first.cache_creation_input_tokens
    assert second.input_tokens == 0


def test_cache_control_on_the_request_caches_all_of_it(simulate: Simulate) -> None:
    client = client_of(simulate(cache_hit_rate=1))
    asked: dict[str, Any] = {"cache_control": {"type": "ephemeral"}}
    assert one_result(client, LONG, **asked).message.usage.cache_creation_input_tokens == 5_000
    assert one_result(client, LONG, **asked).message.usage.cache_read_input_tokens == 5_000


def test_an_entry_ends_with_its_ttl_and_is_kept_alive_by_use() -> None:
    model = find_model("claude-haiku-4-5")
    assert model is not None
    cache = PromptCache(hit_rate=1, first_writes=1)
    asked = {
        "system": _system(ttl="5m"),
        "messages": [{"role": "user", "content": "x"}],
    }

    def read_at(now: float) -> int:
        return cache.charge(asked, model, now, 0.5).read

    assert [read_at(t) for t in (0, 200, 450, 800)] == [0, 5_000, 5_000, 0]


def test_the_account_sums_what_the_results_say(simulate: Simulate) -> None:
    simulator = simulate(rows=[{"contains": "row 3", "fault": "refusal"}])
    found = results(
        client_of(simulator), requests(*(f"row {i}" for i in range(9)), system=_system())
    )
    billed = [r.message.usage for r in found.values() if r.message.stop_reason != "refusal"]
    assert len(billed) == 8
    assert account(simulator)["tokens"] == {
        "claude-haiku-4-5": {
            "input": sum(u.input_tokens for u in billed),
            "cache_write_5m": 0,
            "cache_write_1h": sum(u.cache_creation_input_tokens for u in billed),
            "cache_read": sum(u.cache_read_input_tokens for u in billed),
            "output": sum(u.output_tokens for u in billed),
        }
    }


@given(
    sizes=st.lists(st.integers(0, 30_000), min_size=1, max_size=4),
    draws=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=6),
)
def test_parts_add_up_to_the_whole_prompt(sizes: list[int], draws: list[float]) -> None:
    model = find_model("claude-haiku-4-5")
    assert model is not None
    cache = PromptCache(hit_rate=0.5, first_writes=1)
    asked = {
        "system": [
            {"type": "text", "text": "z" * n, "cache_control": {"type": "ephemeral"}} for n in sizes
        ],
        "messages": [{"role": "user", "content": "question"}],
    }
    for draw in draws:
        charged = cache.charge(asked, model, 0, draw)
        assert charged.total == cache.count(asked)
        assert min(charged.uncached, charged.read, charged.written_5m, charged.written_1h) >= 0
