from __future__ import annotations

import anthropic
import httpx2
import pytest

from batch_pipeline.simulator import Simulator

from .asking import VERSION, client_of
from .conftest import Simulate


def _list(simulator: Simulator, headers: dict[str, str]) -> httpx2.Response:
    return httpx2.get(f"{simulator.base_url}/v1/messages/batches", headers=headers)


@pytest.mark.parametrize(
    "headers", [{"authorization": "Bearer anything"}, {"x-api-key": "anything"}]
)
def test_a_key_may_come_either_way(simulator: Simulator, headers: dict[str, str]) -> None:
    assert _list(simulator, {**headers, "anthropic-version": VERSION}).status_code == 200


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Basic eA=="}, {"x-api-key": "an-invalid-key"}]
)
def test_without_a_good_key_there_is_401(simulator: Simulator, headers: dict[str, str]) -> None:
    answer = _list(simulator, {**headers, "anthropic-version": VERSION})
    assert answer.status_code == 401
    assert answer.json()["error"]["type"] == "authentication_error"


def test_the_sdk_sees_an_authentication_error(simulator: Simulator) -> None:
    with pytest.raises(anthropic.AuthenticationError):
        client_of(simulator, key="an-invalid-key").messages.batches.list()


def test_x_api_key_wins_over_authorization(simulator: Simulator) -> None:
    both = {"x-api-key": "invalid", "authorization": "Bearer good", "anthropic-version": VERSION}
    assert _list(simulator, both).status_code == 401


def test_only_listed_keys_are_taken_if_some_are_listed(simulate: Simulate) -> None:
    simulator = simulate(keys=["one"])
    client_of(simulator, key="one").messages.batches.list()
    with pytest.raises(anthropic.AuthenticationError):
        client_of(simulator, key="two").messages.batches.list()


def test_the_version_header_is_required(simulator: Simulator) -> None:
    answer = _list(simulator, {"x-api-key": "k"})
    assert answer.status_code == 400
    assert "anthropic-version" in answer.json()["error"]["message"]


def test_people_need_no_key(simulator: Simulator) -> None:
    answer = httpx2.get(f"{simulator.base_url}/simulator")
    assert answer.status_code == 200
    assert "simulator" in answer.text
