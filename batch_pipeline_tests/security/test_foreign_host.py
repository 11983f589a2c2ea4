"""The key and the rows go to the configured host, whatever the API says."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from click.testing import CliRunner

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.errors import UnreachableError, UnresolvedError
from batch_pipeline.claude.same_origin import ForeignHostError, SameOrigin
from batch_pipeline.cli import main
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import DAY, Night, account_of
from batch_pipeline_tests.security.hosts import Answer, Listener, gateway


@pytest.fixture
def foreign() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


def pointing_results_to(host: str) -> Callable[[str, str, Answer], Answer]:
    """Every results_url names `host`."""
    place = re.compile(rb'("results_url":\s*")http://[^/"]*')

    def change(_method: str, _path: str, answer: Answer) -> Answer:
        status, headers, body = answer
        return status, headers, place.sub(rb"\g<1>http://" + host.encode(), body)

    return change


def redirecting(
    method: str, ending: str, to: str, status: int = 307
) -> Callable[[str, str, Answer], Answer]:
    """A call is answered with a redirect, after it took effect."""

    def change(called: str, path: str, answer: Answer) -> Answer:
        if called == method and path.partition("?")[0].endswith(ending):
            return status, {"location": f"{to}{path}"}, b""
        return answer

    return change


def test_a_listener_does_hear_who_calls_it(foreign: Listener) -> None:
    httpx2.get(f"http://{foreign.address}/v1", headers={"x-api-key": "k"})

    assert len(foreign.received) == 1
    assert b"x-api-key: k" in foreign.received[0]


def test_a_results_url_on_another_host_is_not_called(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    foreign: Listener,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    api = simulate().base_url
    with gateway(api, pointing_results_to(foreign.address)) as address:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        load = night()
        load.submit()
        load.wait()
        (batch,) = load.ledger.batches(load.context.record())

        with pytest.raises(ForeignHostError) as refused:
            BatchesApi().download(batch.batch_id, tmp_path / "results")

    assert foreign.address in str(refused.value)
    assert address.removeprefix("http://") in str(refused.value)
    assert "set ANTHROPIC_BASE_URL" in str(refused.value)
    assert foreign.received == []


def test_a_results_url_that_is_no_address_is_an_unusable_answer(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    with gateway(simulate().base_url, pointing_results_to("a:b:c")) as address:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        load = night()
        load.submit()
        load.wait()
        (batch,) = load.ledger.batches(load.context.record())

        with pytest.raises(UnreachableError):
            BatchesApi().download(batch.batch_id, tmp_path / "results")


def test_a_load_whose_results_lie_elsewhere_stops_in_words_and_goes_on_when_that_is_mended(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    foreign: Listener,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator = simulate()
    api = simulator.base_url
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night().folder.parent))
    with gateway(api, pointing_results_to(foreign.address)) as address:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        stopped = CliRunner().invoke(main, ["run", "questions", "--date", DAY, "--max-wait", "1"])
    monkeypatch.setenv("ANTHROPIC_BASE_URL", api)
    mended = CliRunner().invoke(main, ["run", "questions", "--date", DAY])

    assert stopped.exit_code == 4, stopped.output
    assert f"The API pointed to http://{foreign.address}" in stopped.stderr
    assert mended.exit_code == 0, mended.output
    assert foreign.received == []
    assert len(account_of(simulator)["batches"]) == 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_another_host_is_refused_before_anything_is_sent(
    simulate: Callable[..., Simulator],
    foreign: Listener,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    change = redirecting("GET", "/batches", f"http://{foreign.address}", status)
    with gateway(simulate().base_url, change) as address:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        with pytest.raises(ConfigurationError, match="The API pointed to"):
            BatchesApi().check_access()

    assert foreign.received == []


@pytest.mark.parametrize("status", [301, 303, 307, 308])
@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_create_call_that_is_redirected_is_unresolved_and_not_made_again(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    foreign: Listener,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    status: int,
    elsewhere: bool,
) -> None:
    simulator = simulate()
    body = tmp_path / "body.json"
    body.write_text('{"requests": []}')
    to = f"http://{foreign.address}" if elsewhere else ""
    with gateway(simulator.base_url, redirecting("POST", "/batches", to, status)) as address:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        with pytest.raises(UnresolvedError, match=str(status)):
            BatchesApi().create(body)

    assert foreign.received == []
    assert sum(account_of(simulator)["calls"]["create"].values()) == 1


def test_a_redirect_within_the_host_is_followed(
    simulate: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(_method: str, path: str, answer: Answer) -> Answer:
        if "again" in path:
            return answer
        return 307, {"location": f"{path}&again=1"}, b""

    with gateway(simulate().base_url, change) as address:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        BatchesApi().check_access()


@pytest.mark.parametrize(
    ("url", "same"),
    [
        ("https://api.example.com/v1/x", True),
        ("https://API.example.com:443/v1/x", True),
        ("https://user:word@api.example.com/x", True),
        ("http://api.example.com/v1/x", False),
        ("https://api.example.com:8443/v1/x", False),
        ("https://api.example.com.evil.test/v1/x", False),
        ("https://api.example.com@evil.test/v1/x", False),
        ("https://evil.test/?https://api.example.com/", False),
        ("https://xn--pi-7ka.example.com/", False),
    ],
)
def test_scheme_host_and_port_decide(url: str, same: bool) -> None:
    guard = SameOrigin(httpx2.URL("https://api.example.com/base"))
    request = httpx2.Request("GET", url)
    if same:
        guard(request)
        return
    with pytest.raises(ForeignHostError) as refused:
        guard(request)
    assert "word" not in str(refused.value)


def test_the_refusal_names_no_path_query_or_password() -> None:
    guard = SameOrigin(httpx2.URL("https://user:hush@api.example.com/base"))
    with pytest.raises(ForeignHostError) as refused:
        guard(httpx2.Request("GET", "https://me:hush@evil.test/hush?token=hush"))

    assert "https://evil.test" in str(refused.value)
    assert "hush" not in str(refused.value)
