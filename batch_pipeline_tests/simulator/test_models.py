from __future__ import annotations

from typing import get_args

import anthropic
import pytest
from anthropic import Anthropic
from anthropic.types import ModelParam


def test_every_model_of_the_sdk_is_offered(client: Anthropic) -> None:
    for name in get_args(get_args(ModelParam)[0]):
        assert client.models.retrieve(name).id.startswith(name)


def test_the_list_has_dated_names_and_pages(client: Anthropic) -> None:
    listed = [m.id for m in client.models.list(limit=5)]
    assert len(listed) == len(set(listed)) == 18
    assert listed[0] == "claude-fable-5-2"
    assert "claude-haiku-4-5-20251001" in listed
    assert "claude-mythos-preview" not in listed
    before = client.models.list(limit=2, before_id=listed[4])
    assert [m.id for m in before.data] == listed[2:4]


def test_a_model_says_what_it_can(client: Anthropic) -> None:
    model = client.models.retrieve("claude-haiku-4-5")
    assert (model.max_input_tokens, model.max_tokens) == (200_000, 64_000)
    assert (model.line, model.lifecycle, model.display_name) == (
        "haiku",
        "active",
        "Claude Haiku 4.5",
    )
    able = model.capabilities
    assert able is not None
    assert able.batch.supported
    assert able.structured_outputs.supported
    assert able.thinking.types.enabled.supported
    assert not able.thinking.types.adaptive.supported
    assert not able.effort.supported


def test_a_model_on_its_way_out_says_when(client: Anthropic) -> None:
    model = client.models.retrieve("claude-sonnet-4-5")
    assert model.lifecycle == "deprecated"
    assert model.retires_at is not None
    assert model.retires_at.date().isoformat() == "2026-11-30"


def test_an_unknown_model_is_not_found(client: Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude-haiku-9")
