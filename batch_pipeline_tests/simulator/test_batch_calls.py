"""The batch calls as the SDK sees them, without faults."""

from __future__ import annotations

import time
from datetime import timedelta
from urllib.parse import urlsplit

import anthropic
import httpx2
import pytest
from anthropic import Anthropic

from batch_pipeline.simulator import Scenario, Simulator

from .asking import VERSION, account, client_of, ended, lines, params, requests, results, send
from .conftest import Simulate


def test_a_new_batch_is_all_in_processing(client: Anthropic) -> None:
    batch = client.messages.batches.create(requests=requests("a", "b"))  # type: ignore[arg-type]
    assert batch.processing_status == "in_progress"
    assert batch.request_counts.processing == 2
    assert batch.results_url is None
    assert batch.ended_at is None
    assert batch.expires_at - batch.created_at == timedelta(hours=24)


def test_an_ended_batch_counts_by_type(client: Anthropic) -> None:
    batch = send(client, [*requests("a"), {"custom_id": "bad", "params": params(model="none")}])
    counts = batch.request_counts
    assert (counts.processing, counts.succeeded, counts.errored) == (0, 1, 1)
    assert (counts.canceled, counts.expired) == (0, 0)
    assert batch.ended_at is not None


def test_counts_stay_in_processing_until_the_turnaround_is_over(simulate: Simulate) -> None:
    client = client_of(simulate(turnaround_seconds=60))
    batch = client.messages.batches.create(requests=requests("a"))  # type: ignore[arg-type]
    time.sleep(0.2)
    batch = client.messages.batches.retrieve(batch.id)
    assert batch.processing_status == "in_progress"
    assert batch.request_counts.processing == 1
    with pytest.raises(anthropic.AnthropicError, match="results_url"):
        client.messages.batches.results(batch.id)


def test_turnaround_is_drawn_from_a_range(simulate: Simulate) -> None:
    client = client_of(simulate(turnaround_seconds=[0.1, 0.3]))
    batch = send(client, requests("a"))
    assert batch.ended_at is not None
    assert 0.1 <= (batch.ended_at - batch.created_at).total_seconds() <= 0.3


def test_results_come_from_the_simulators_own_host(client: Anthropic, simulator: Simulator) -> None:
    batch = send(client, requests("a"))
    assert batch.results_url is not None
    assert urlsplit(batch.results_url).netloc == urlsplit(simulator.base_url).netloc


def test_every_request_has_one_result(client: Anthropic) -> None:
    found = results(client, requests(*(f"row {i}" for i in range(50))))
    assert set(found) == {f"r{i}" for i in range(50)}
    assert all(r.type == "succeeded" for r in found.values())


def test_results_are_not_in_the_order_of_requests(client: Anthropic) -> None:
    batch = send(client, requests(*(f"row {i}" for i in range(50))))
    order = [line.custom_id for line in client.messages.batches.results(batch.id)]
    assert order != [f"r{i}" for i in range(50)]


def test_a_batch_larger_than_one_block_arrives_whole(client: Anthropic) -> None:
    found = results(client, requests(*(f"row {i} " + "x" * 2_000 for i in range(1_500))))
    assert len(found) == 1_500


def test_the_list_is_newest_first_and_pages_both_ways(simulate: Simulate) -> None:
    client = client_of(simulate())
    created = [send(client, requests("a")).id for _ in range(5)]
    newest_first = created[::-1]

    assert [b.id for b in client.messages.batches.list(limit=2)] == newest_first

    first = client.messages.batches.list(limit=2)
    assert [b.id for b in first.data] == newest_first[:2]
    assert (first.has_more, first.first_id, first.last_id) == (True, *newest_first[:2])

    last = client.messages.batches.list(limit=2, after_id=newest_first[3])
    assert [b.id for b in last.data] == newest_first[4:]
    assert last.has_more is False

    before = client.messages.batches.list(limit=2, before_id=newest_first[3])
    assert [b.id for b in before.data] == newest_first[1:3]
    assert before.has_more is True


@pytest.mark.parametrize("limit", [0, 1_001])
def test_a_page_has_1_to_1000_batches(client: Anthropic, limit: int) -> None:
    with pytest.raises(anthropic.BadRequestError, match="limit"):
        client.messages.batches.list(limit=limit)


def test_a_canceled_batch_ends_with_canceled_results(simulate: Simulate) -> None:
    client = client_of(simulate(turnaround_seconds=60))
    batch = client.messages.batches.create(requests=requests("a", "b"))  # type: ignore[arg-type]
    canceling = client.messages.batches.cancel(batch.id)
    assert canceling.processing_status == "canceling"
    assert canceling.cancel_initiated_at is not None
    assert ended(client, batch.id).request_counts.canceled == 2
    assert {r.result.type for r in client.messages.batches.results(batch.id)} == {"canceled"}


def test_canceling_takes_its_time(simulate: Simulate) -> None:
    client = client_of(simulate(turnaround_seconds=60, cancel_seconds=60))
    batch = client.messages.batches.create(requests=requests("a"))  # type: ignore[arg-type]
    client.messages.batches.cancel(batch.id)
    time.sleep(0.2)
    assert client.messages.batches.retrieve(batch.id).processing_status == "canceling"


def test_what_was_done_before_the_cancellation_is_billed(simulate: Simulate) -> None:
    simulator = simulate(turnaround_seconds=60, done_when_stopped=0.5)
    client = client_of(simulator)
    asked = requests(*(f"row {i}" for i in range(100)))
    batch = client.messages.batches.create(requests=asked)  # type: ignore[arg-type]
    client.messages.batches.cancel(batch.id)
    counts = ended(client, batch.id).request_counts
    assert counts.succeeded + counts.canceled == 100
    assert 20 < counts.succeeded < 80
    assert account(simulator)["requests"]["billed"] == counts.succeeded


def test_an_ended_batch_cannot_be_canceled(client: Anthropic) -> None:
    batch = send(client, requests("a"))
    with pytest.raises(anthropic.BadRequestError, match="ended"):
        client.messages.batches.cancel(batch.id)


def test_a_deleted_batch_is_gone_but_stays_in_the_account(simulate: Simulate) -> None:
    simulator = simulate()
    client = client_of(simulator)
    batch = send(client, requests("a"))
    assert client.messages.batches.delete(batch.id).type == "message_batch_deleted"
    with pytest.raises(anthropic.NotFoundError):
        client.messages.batches.retrieve(batch.id)
    assert list(client.messages.batches.list()) == []
    assert account(simulator)["batches"][0]["status"] == "deleted"
    assert account(simulator)["requests"]["billed"] == 1


def test_a_batch_in_progress_cannot_be_deleted(simulate: Simulate) -> None:
    client = client_of(simulate(turnaround_seconds=60))
    batch = client.messages.batches.create(requests=requests("a"))  # type: ignore[arg-type]
    with pytest.raises(anthropic.BadRequestError, match="in progress"):
        client.messages.batches.delete(batch.id)


def test_a_batch_that_takes_too_long_expires(simulate: Simulate) -> None:
    simulator = simulate(turnaround_seconds=60, expires_after_seconds=0.1)
    client = client_of(simulator)
    batch = client.messages.batches.create(requests=requests("a", "b"))  # type: ignore[arg-type]
    lasts = (batch.expires_at - batch.created_at).total_seconds()
    assert lasts == pytest.approx(0.1, abs=0.001)
    assert ended(client, batch.id).request_counts.expired == 2
    assert account(simulator)["requests"]["billed"] == 0


def test_results_are_archived_counted_from_creation(simulate: Simulate) -> None:
    simulator = simulate(results_kept_seconds=0.4)
    client = client_of(simulator)
    batch = send(client, requests("a"))
    url = batch.results_url
    assert url is not None
    time.sleep(0.5)
    batch = client.messages.batches.retrieve(batch.id)
    assert batch.archived_at is not None
    assert (batch.archived_at - batch.created_at).total_seconds() == pytest.approx(0.4, abs=1e-5)
    assert batch.results_url is None
    assert batch.processing_status == "ended"
    gone = httpx2.get(url, headers={"x-api-key": "k", "anthropic-version": VERSION})
    assert gone.status_code == 404


@pytest.mark.parametrize("call", ["retrieve", "cancel", "delete", "results"])
def test_an_unknown_batch_is_not_found(client: Anthropic, call: str) -> None:
    with pytest.raises(anthropic.NotFoundError) as caught:
        getattr(client.messages.batches, call)("msgbatch_unknown")
    assert caught.value.type == "not_found_error"


def test_every_answer_has_a_request_id_and_the_simulators_name(simulator: Simulator) -> None:
    client = client_of(simulator)
    raw = client.messages.batches.with_raw_response.list()
    assert raw.headers["request-id"].startswith("req_")
    assert raw.headers["server"] == "batch-pipeline-simulator"
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.messages.batches.retrieve("msgbatch_unknown")
    assert caught.value.request_id == caught.value.response.headers["request-id"]
    assert caught.value.body["request_id"] == caught.value.request_id  # type: ignore[index]


def test_an_unknown_path_is_not_found_in_the_apis_way(simulator: Simulator) -> None:
    answer = httpx2.get(f"{simulator.base_url}/v1/complete")
    assert answer.status_code == 404
    assert answer.json()["error"]["type"] == "not_found_error"


def test_the_results_file_is_jsonl(client: Anthropic, simulator: Simulator) -> None:
    batch = send(client, requests("a", "b"))
    assert [line[:14] for line in lines(simulator, batch.id)] == ['{"custom_id":"'] * 2


def test_the_same_calls_answer_at_an_address_that_says_simulator() -> None:
    with Simulator(Scenario(turnaround_seconds=0)) as simulator:
        client = Anthropic(base_url=simulator.telling_url, api_key="key", max_retries=0)
        batch = client.messages.batches.create(requests=requests("a"))  # type: ignore[arg-type]
        ended_batch = client.messages.batches.retrieve(batch.id)
        assert batch.id.startswith("msgbatch_simulator_")
        assert str(ended_batch.results_url).startswith(simulator.telling_url)
        assert [line.custom_id for line in client.messages.batches.results(batch.id)] == ["r0"]
