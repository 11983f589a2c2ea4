"""One synchronous request, and what each answer to it means."""

from collections.abc import Callable
from typing import Any

import orjson
import pytest

from batch_pipeline.claude.errors import NotCreatedError, NotNowError
from batch_pipeline.claude.messages import MessagesApi, is_lost
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.made_up_answers import simulate_made_up
from batch_pipeline_tests.night import HAIKU, account_of
from batch_pipeline_tests.security.hosts import Answer, gateway

PARAMS = orjson.dumps(
    {"model": HAIKU, "max_tokens": 16, "messages": [{"role": "user", "content": "hello"}]}
)


simulate = pytest.fixture(simulate_made_up)


def faulty(simulate: Callable[..., Simulator], fault: str, **rule: Any) -> Simulator:
    return simulate(calls=[{"on": "messages", "fault": fault, **rule}])


def asked(simulator: Simulator) -> int:
    """How many requests reached the API, whatever became of them."""
    return int(account_of(simulator)["arrived"].get("messages", 0))


def error_of(result: bytes) -> dict[str, str]:
    value = orjson.loads(result)
    assert value["type"] == "errored"
    assert value["error"]["type"] == "error"
    error: dict[str, str] = value["error"]["error"]
    return error


def test_an_answer_has_the_form_of_a_batchs_result(simulate: Callable[..., Simulator]) -> None:
    simulate()
    result = MessagesApi().answer(PARAMS)
    assert b"\n" not in result
    value = orjson.loads(result)
    assert value["type"] == "succeeded"
    assert value["message"]["type"] == "message"
    assert value["message"]["usage"]["output_tokens"] > 0


def test_params_and_answer_pass_byte_for_byte(
    simulate: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bytes] = []

    def keep(_method: str, _path: str, answer: Answer) -> Answer:
        seen.append(answer[2])
        return answer

    with gateway(simulate().base_url, keep) as address:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        result = MessagesApi().answer(b" " + PARAMS)
    assert result == b'{"type":"succeeded","message":' + seen[0] + b"}"


def test_an_answer_on_several_lines_becomes_one(
    simulate: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    def indent(_method: str, _path: str, answer: Answer) -> Answer:
        return *answer[:2], orjson.dumps(orjson.loads(answer[2]), option=orjson.OPT_INDENT_2)

    with gateway(simulate().base_url, indent) as address:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        result = MessagesApi().answer(PARAMS)
    assert b"\n" not in result
    assert orjson.loads(result)["message"]["type"] == "message"


@pytest.mark.parametrize("status", [400, 413])
def test_a_refused_request_is_an_invalid_one(
    simulate: Callable[..., Simulator], status: int
) -> None:
    faulty(simulate, "status", status=status, message="tools: too many")
    result = MessagesApi().answer(PARAMS)
    assert error_of(result) == {"type": "invalid_request_error", "message": "tools: too many"}
    assert not is_lost(result)


@pytest.mark.parametrize("status", [401, 404])
def test_what_concerns_every_request_waits_for_a_person(
    simulate: Callable[..., Simulator], status: int
) -> None:
    faulty(simulate, "status", status=status)
    with pytest.raises(NotCreatedError, match=str(status)):
        MessagesApi().answer(PARAMS)


@pytest.mark.parametrize(
    "rule",
    [
        {"status": 429, "error_code": "contract_spend_limit_reached"},
        {"status": 400, "message": "You have reached your specified API usage limits."},
        {"status": 400, "message": "Your credit balance is too low to access the API."},
    ],
    ids=["contract", "usage limits", "credit"],
)
def test_money_that_has_run_out_waits_for_a_person(
    simulate: Callable[..., Simulator], rule: dict[str, Any]
) -> None:
    faulty(simulate, "status", **rule)
    with pytest.raises(NotCreatedError):
        MessagesApi().answer(PARAMS)


@pytest.mark.parametrize(("status", "wait"), [(429, 7.0), (503, 7.0), (529, None)])
def test_a_full_api_may_be_asked_later(
    simulate: Callable[..., Simulator], status: int, wait: float | None
) -> None:
    faulty(simulate, "status", status=status, retry_after=wait)
    with pytest.raises(NotNowError) as caught:
        MessagesApi().answer(PARAMS)
    assert caught.value.retry_after == wait


def test_an_api_that_cannot_be_reached_may_be_asked_later(
    simulate: Callable[..., Simulator],
) -> None:
    simulate().stop()
    with pytest.raises(NotNowError, match="nothing was sent"):
        MessagesApi().answer(PARAMS)


@pytest.mark.parametrize(
    ("fault", "rule", "kind"),
    [
        ("status", {"status": 500}, "api_error"),
        ("status", {"status": 503}, "api_error"),
        ("status", {"status": 504}, "timeout_error"),
        ("drop_after_accepting", {}, "api_error"),
        ("hang", {"seconds": 5, "when": "after_accepting"}, "timeout_error"),
    ],
)
def test_what_may_have_been_paid_is_an_error_and_sent_once(
    simulate: Callable[..., Simulator], fault: str, rule: dict[str, Any], kind: str
) -> None:
    simulator = faulty(simulate, fault, **rule)
    result = MessagesApi(timeout=0.3).answer(PARAMS)
    assert error_of(result)["type"] == kind
    assert is_lost(result)
    assert asked(simulator) <= 1
    assert sum(sum(kinds.values()) for kinds in account_of(simulator)["faults"].values()) == 1


def test_an_answer_that_is_no_message_is_an_error(
    simulate: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    with gateway(simulate().base_url, lambda *_: (200, {}, b"<html>")) as address:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        assert error_of(MessagesApi().answer(PARAMS))["type"] == "api_error"


def test_a_redirect_is_not_followed(
    simulate: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate()
    elsewhere = {"location": f"{simulator.base_url}/v1/messages"}
    with gateway(simulator.base_url, lambda *_: (307, elsewhere, b"")) as address:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        with pytest.raises(NotCreatedError, match="307"):
            MessagesApi().answer(PARAMS)
    assert asked(simulator) == 1
