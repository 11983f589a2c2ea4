"""batch_results: nothing that the API answered is lost, and nothing is paid again because of it."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import zstandard

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.decode import Defects
from batch_pipeline.claude.errors import UnreachableError
from batch_pipeline.ledger import Batch, ChunkState
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.collect import collect_results
from batch_pipeline.stages.escalate import escalate
from batch_pipeline.stages.next_step import Action, next_step
from batch_pipeline.stages.poll import poll
from batch_pipeline.stages.read_back import DOWNLOADS, CollectSummary
from batch_pipeline.stages.scorecard import batches_reconcile
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline.stages.validate import validate_results
from batch_pipeline_tests.night import DAY, HAIKU, Night, rows
from batch_pipeline_tests.stages.watching import (
    Final,
    accepted,
    answering,
    ask,
    downloads,
    finals,
    posts,
    rows_of,
    sendings,
)

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

VALID = Final("validated", None, 0, 1)


def ended(night: Night) -> Night:
    """A load whose first batches have ended and were not read back yet."""
    night.submit()
    night.wait()
    return night


def collect(night: Night) -> CollectSummary:
    return collect_results(night.context, BatchesApi)


def batches(night: Night) -> list[Batch]:
    return night.ledger.batches(night.context.record())


def poll_once(night: Night) -> list[Batch]:
    grace = night.context.settings.grace_seconds
    return poll(night.ledger, night.context.record(), BatchesApi(), grace)


def defects_of(night: Night) -> list[dict[str, int]]:
    """What did not add up, batch by batch, without the zeros."""
    return [
        {name: n for name, n in asdict(Defects.from_json(b.defects)).items() if n}
        for b in batches(night)
        if b.defects
    ]


def finish(simulator: Simulator, night: Night, batch: Batch) -> None:
    """Ends a batch now. For scenarios in which all is done when a batch is canceled."""
    ask(simulator, "POST", f"{batch.batch_id}/cancel")
    for _ in range(400):
        poll_once(night)
        if next(b for b in batches(night) if b.batch_id == batch.batch_id).ready:
            return
        time.sleep(0.01)
    raise AssertionError("the batch did not end")


# What is kept


def test_results_belong_to_rows_by_custom_id_and_never_by_position(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate()
    n = night(count=30, golden=0)
    n.settle()
    n.publish()
    [batch] = batches(n)
    order = [
        int(json.loads(line)["custom_id"].split("-")[1])
        for line in ask(simulator, "GET", f"{batch.batch_id}/results").splitlines()
    ]
    assert order != sorted(order)
    promoted = n.context.folder(n.context.record()).promoted
    assert rows_of(promoted, "id, label") == [(row["id"], row["label"]) for row in rows(30)]


def test_the_raw_results_are_kept_byte_for_byte(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate(models={"*": {"refusal": 0.2, "server_error": 0.2, "expired": 0.2}})
    n = ended(night(count=20))
    collect(n)
    [batch] = batches(n)
    kept = n.context.folder(n.context.record()).raw(batch.chunk_id)
    with kept.open("rb") as file:
        content = zstandard.ZstdDecompressor().stream_reader(file).read()
    assert content == ask(simulator, "GET", f"{batch.batch_id}/results")


def test_reading_back_twice_downloads_once(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate()
    n = ended(night())
    assert collect(n).batches == 1
    assert collect(n).batches == 0
    assert downloads(simulator) == 1


def test_nothing_is_downloaded_while_nothing_has_ended(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(turnaround_seconds=60)
    n = night()
    n.submit()
    assert poll_once(n) == []
    assert collect(n) == CollectSummary()
    validate_results(n.context)
    assert escalate(n.context, BatchesApi).open_rows == 17
    assert next_step(n.ledger, "questions", DAY).action is Action.WAIT
    assert (downloads(simulator), posts(simulator)) == (0, 1)


def test_batches_are_read_back_as_they_end_and_escalated_without_waiting(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(
        turnaround_seconds=3600,
        done_when_stopped=1,
        rows=[{"contains": "question", "model": HAIKU, "fault": "refusal"}],
    )
    n = night(count=6, golden=0, limits={"max_requests": 3})
    n.submit()
    first, second = batches(n)
    finish(simulator, n, first)
    n.collect()
    climbed = {row["id"]: [(0, 1), (1, 1)] for row in rows(3)}
    assert sendings(n) == {**climbed, **{row["id"]: [(0, 1)] for row in rows(3, start=3)}}
    assert next_step(n.ledger, "questions", DAY).action is Action.WAIT
    finish(simulator, n, second)
    n.collect()
    for batch in batches(n)[2:]:
        finish(simulator, n, batch)
    n.collect()
    assert finals(n) == {row["id"]: Final("validated", None, 1, 2) for row in rows(6)}
    assert [b["requests"] for b in accepted(simulator)] == [3, 3, 3, 3]


# Downloads that fail


@pytest.mark.parametrize("at", ["line", "mid_line", "connection"])
def test_a_download_that_was_cut_short_is_made_again_and_not_paid_again(
    simulate: Simulate, night: MakeNight, at: str
) -> None:
    simulator = simulate(
        calls=[{"on": "results", "nth": 1, "fault": "cut_short", "at": at, "keep": 0.5}]
    )
    n = ended(night(count=20, golden=0))
    assert collect(n).results == {"succeeded": 20}
    assert defects_of(n) == []
    n.settle()
    assert finals(n) == {row["id"]: VALID for row in rows(20)}
    assert (posts(simulator), downloads(simulator)) == (1, 2)


def test_what_came_before_a_broken_connection_is_never_taken_for_everything(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(
        calls=[{"on": "results", "first": 2 * DOWNLOADS, "fault": "cut_short", "at": "connection"}]
    )
    n = ended(night(count=20, golden=0))
    summary = collect(n)
    [batch] = batches(n)
    assert "could not be downloaded" in summary.postponed[batch.batch_id]
    assert (summary.batches, summary.results) == (0, {})
    escalate(n.context, BatchesApi)
    n.settle()
    assert finals(n) == {row["id"]: VALID for row in rows(20)}
    assert (posts(simulator), downloads(simulator)) == (1, 2 * DOWNLOADS + 1)
    assert [(b.retries, b.doubted_since, b.defects) for b in batches(n)] == [(2, None, None)]


def test_a_download_that_failed_is_left_alone_until_its_time(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate(calls=[{"on": "results", "fault": "status", "status": 503}])
    monkeypatch.setenv("BATCH_PIPELINE_POLL_SECONDS", "30")
    n = ended(night(count=2, golden=0))
    collect(n)
    assert collect(n).postponed == {}
    assert downloads(simulator) == DOWNLOADS
    assert n.next() is Action.WAIT
    [batch] = batches(n)
    assert batch.retry_at is not None
    assert timedelta(seconds=50) < batch.retry_at - datetime.now(UTC) <= timedelta(seconds=60)


def test_results_that_answer_404_for_a_while_are_waited_for(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(
        calls=[{"on": "results", "first": DOWNLOADS, "fault": "status", "status": 404}]
    )
    n = ended(night())
    assert list(collect(n).postponed) == [batches(n)[0].batch_id]
    assert [batch.results_gone for batch in batches(n)] == [False]
    assert n.settle().dispositions["validated"] == 12
    assert posts(simulator) == 1


def test_a_batch_that_cannot_be_read_back_does_not_keep_the_others_waiting(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(calls=[{"on": "results", "first": DOWNLOADS, "fault": "status", "status": 500}])
    n = ended(night(count=6, golden=0, limits={"max_requests": 2}))
    summary = collect(n)
    first, *_ = batches(n)
    assert list(summary.postponed) == [first.batch_id]
    assert "500" in summary.postponed[first.batch_id]
    assert [batch.collected_at is None for batch in batches(n)] == [True, False, False]
    assert n.settle().dispositions["validated"] == 6


# Results that do not add up, however often they are fetched


@pytest.mark.parametrize(
    ("fault", "defects"),
    [
        ("absent", {"absent": 1, "miscounted": 1}),
        ("unparseable", {"unparseable": 1, "absent": 1, "miscounted": 1}),
        ("duplicate", {"duplicate": 1}),
        ("foreign", {"foreign": 1}),
    ],
)
def test_a_lasting_defect_costs_its_own_row_only_and_is_recorded(
    simulate: Simulate,
    night: MakeNight,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    defects: dict[str, int],
) -> None:
    simulator = simulate(rows=[{"contains": "number 3 of", "times": 1, "fault": fault}])
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.3")
    n = ended(night(count=10, golden=0))
    summary = collect(n)
    assert (summary.downloads, summary.batches) == (DOWNLOADS, 0)
    assert "do not add up" in summary.postponed[batches(n)[0].batch_id]
    n.settle()
    assert defects_of(n) == [defects]
    first, *_ = batches(n)
    assert first.collected_at is not None
    assert first.doubted_since is not None
    assert first.collected_at - first.doubted_since >= timedelta(seconds=0.3)
    lost = "absent" in defects
    assert finals(n) == {
        row["id"]: Final("validated", None, 0, 2 if lost and row["id"] == "r00003" else 1)
        for row in rows(10)
    }
    assert [b["requests"] for b in accepted(simulator)] == ([10, 1] if lost else [10])


def test_results_that_add_up_in_the_end_leave_no_defect(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(
        calls=[{"on": "results", "first": DOWNLOADS, "fault": "cut_short", "at": "line"}]
    )
    n = ended(night(count=20, golden=0))
    assert "10 rows absent" in collect(n).postponed[batches(n)[0].batch_id]
    n.settle()
    assert finals(n) == {row["id"]: VALID for row in rows(20)}
    assert defects_of(n) == []
    assert posts(simulator) == 1


def test_a_row_that_stays_absent_is_quarantined_as_absent(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.2")
    simulate(rows=[{"contains": "number 3 of", "fault": "absent"}])
    n = night(count=5, golden=0, limits={"attempts": 2})
    n.settle()
    assert finals(n)["r00003"] == Final("quarantined", "absent", 0, 2)
    assert len(defects_of(n)) == 2


def test_a_clean_load_has_no_defects_and_reconciles(simulate: Simulate, night: MakeNight) -> None:
    simulate(models={"*": {"server_error": 0.1, "expired": 0.1, "canceled": 0.1}})
    n = night(count=30, golden=0)
    card = n.settle()
    record = n.context.record()
    assert defects_of(n) == []
    assert card.batches_reconciled
    assert batches_reconcile(n.ledger.chunks(record), batches(n))
    assert sum(card.results.values()) == card.requests


# Batches that are not to be found


def test_a_new_batch_that_the_api_does_not_know_yet_is_waited_for(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate(
        calls=[
            {"on": "retrieve", "first": 3, "fault": "status", "status": 404},
            {"on": "list", "fault": "lag", "seconds": 3600},
        ]
    )
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "300")
    n = night()
    n.settle()
    assert set(finals(n).values()) == {VALID}
    assert posts(simulator) == 1
    assert [batch.missing_since for batch in batches(n)] == [None]


def test_a_list_that_lags_is_made_up_for_by_looking_at_each_batch(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(calls=[{"on": "list", "fault": "lag", "seconds": 3600}])
    n = night(limits={"max_requests": 5})
    assert n.settle().dispositions["validated"] == 12


def test_rows_of_a_deleted_batch_are_quarantined_after_the_grace_and_not_sent_again(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate(turnaround_seconds=0)
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.3")
    n = night(count=6, golden=0, limits={"max_requests": 3})
    n.submit()
    n.wait()
    deleted, _ = batches(n)
    ask(simulator, "DELETE", deleted.batch_id)
    assert list(collect(n).postponed) == [deleted.batch_id]
    # What it cost cannot be known any more, and that is said.
    assert n.settle().unpriced_requests == 3
    assert [batch.results_gone for batch in batches(n)] == [True, False]
    gone = Final("quarantined", "results_gone", 0, 1)
    assert finals(n) == {row["id"]: gone if row["id"] < "r00003" else VALID for row in rows(6)}
    assert posts(simulator) == 2


def test_a_batch_deleted_before_it_was_seen_to_end_is_given_up_after_the_grace(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate()
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.2")
    n = night(count=2, golden=0)
    n.submit()
    ask(simulator, "DELETE", batches(n)[0].batch_id)
    assert poll_once(n) == []
    assert next_step(n.ledger, "questions", DAY).action is Action.WAIT
    time.sleep(0.25)
    assert len(poll_once(n)) == 1
    n.collect()
    assert {f.reason for f in finals(n).values()} == {"results_gone"}


def test_rows_whose_results_were_archived_are_quarantined_at_once(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(results_kept_seconds=0.1)
    n = night(count=3, golden=0)
    n.submit()
    time.sleep(0.15)
    n.settle()
    assert set(finals(n).values()) == {Final("quarantined", "results_gone", 0, 1)}
    assert (posts(simulator), downloads(simulator)) == (1, 0)


def test_results_archived_between_the_poll_and_the_download_are_gone_too(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(results_kept_seconds=0.1)
    n = night(count=3, golden=0)
    n.submit()
    [batch] = batches(n)
    n.ledger.update_batch(batch.batch_id, status="ended", succeeded=3)
    time.sleep(0.15)
    n.collect()
    assert {f.reason for f in finals(n).values()} == {"results_gone"}


# Batches that were stopped


def test_rows_of_a_batch_that_expired_are_sent_again(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate(turnaround_seconds=9, expires_after_seconds=0.1, done_when_stopped=0.5)
    n = night(count=20, golden=0, limits={"attempts": 2})
    card = n.settle()
    assert {f.reason for f in finals(n).values()} == {None, "expired"}
    assert card.dispositions["validated"] + card.dispositions["quarantined"] == 20
    sent = sendings(n)
    for key, final in finals(n).items():
        assert final.attempts == len(sent[key])
        assert final.reason is None or final.attempts == 2
    assert posts(simulator) == 2


def test_a_batch_that_somebody_canceled_is_read_back_like_any_other(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(turnaround_seconds=3600)
    n = night(count=4, golden=0, limits={"attempts": 1})
    n.submit()
    finish(simulator, n, batches(n)[0])
    n.collect()
    assert set(finals(n).values()) == {Final("quarantined", "canceled", 0, 1)}
    assert batches(n)[0].canceled == 4


# Polling


@pytest.mark.parametrize("status", [401, 403, 429, 500, 529])
def test_a_poll_that_fails_loses_nothing(simulate: Simulate, night: MakeNight, status: int) -> None:
    simulator = simulate(
        calls=[{"on": ["list", "retrieve"], "first": 2, "fault": "status", "status": status}]
    )
    n = night()
    n.submit()
    before = batches(n)
    for _ in range(2):
        with pytest.raises(UnreachableError, match=str(status)):
            poll_once(n)
        assert batches(n) == before
    assert n.settle().dispositions["validated"] == 12
    assert posts(simulator) == 1


@pytest.mark.parametrize("answer", [b"<html></html>", b"null", b"{}", b'{"data":[{"id":1}]}'])
@pytest.mark.parametrize("kind", ["text/html", "application/json"])
def test_a_poll_whose_answer_cannot_be_read_loses_nothing(
    simulate: Simulate,
    night: MakeNight,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    answer: bytes,
) -> None:
    simulator = simulate()
    n = night(count=2, golden=0)
    n.submit()
    before = batches(n)
    with answering(kind, answer) as address, monkeypatch.context() as patch:
        patch.setenv("ANTHROPIC_BASE_URL", address)
        with pytest.raises(UnreachableError):
            poll_once(n)
    assert batches(n) == before
    monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
    assert n.settle().dispositions["validated"] == 2


def test_a_page_for_results_is_not_taken_for_results(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate()
    n = ended(night(count=2, golden=0))
    with answering("text/html", b"<html>gateway</html>") as address, monkeypatch.context() as patch:
        patch.setenv("ANTHROPIC_BASE_URL", address)
        [why] = collect(n).postponed.values()
    assert "could not be downloaded" in why
    assert n.settle().dispositions["validated"] == 2


def test_a_poll_that_cannot_connect_says_so(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate().stop()
    n = night(count=2, golden=0)
    read_source(n.context)
    assert "nothing was sent" in str(send_pending(n.context, BatchesApi).waits_for)
    assert [c.state for c in n.ledger.chunks(n.context.record())] == [ChunkState.NOT_CREATED]
    with pytest.raises(UnreachableError, match="could not be reached"):
        BatchesApi().retrieve("msgbatch_1")


# Stages in any order


def test_stages_may_be_repeated_at_any_moment(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate(
        rows=[
            {"contains": "number 1 of", "model": HAIKU, "fault": "not_json"},
            {"contains": "number 2 of", "times": 1, "fault": "overloaded"},
        ]
    )
    n = night(count=6, golden=0)

    def everything() -> None:
        n.submit()
        for _ in range(2):
            collect(n)
        for _ in range(2):
            validate_results(n.context)
        for _ in range(2):
            escalate(n.context, BatchesApi)
            send_pending(n.context, BatchesApi)

    everything()
    for _ in range(3):
        n.wait()
        everything()
    expected: dict[str, Any] = {row["id"]: VALID for row in rows(6)}
    expected["r00001"] = Final("validated", None, 1, 2)
    expected["r00002"] = Final("validated", None, 0, 2)
    assert finals(n) == expected
    assert sum(b["requests"] for b in accepted(simulator)) == 8
