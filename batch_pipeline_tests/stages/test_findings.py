"""What a person is told of a load's sending, and what pages. Ages are made by writing older times down."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import update

from batch_pipeline.ledger import Ledger
from batch_pipeline.ledger.tables import chunks
from batch_pipeline.ledger.transactions import now
from batch_pipeline.settings import Settings
from batch_pipeline.stages.findings import Finding, findings
from batch_pipeline_tests.ledger.test_ledger import begun, chunk, submit

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """One load with one batch that was just created."""
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "300")
    made = Ledger(Settings.from_environment().state)
    made.record_intent(chunk(begun(made)))
    submit(made, "c1", "b1")
    made.update_batch("b1", created_at=now())
    return made


def found(ledger: Ledger) -> list[Finding]:
    record = ledger.load("w", "2026-11-20")
    assert record is not None
    return findings(ledger, record, Settings.from_environment())


def only(ledger: Ledger) -> Finding:
    [finding] = found(ledger)
    return finding


def change_chunk(ledger: Ledger, **changes: Any) -> None:
    ledger._write(update(chunks).where(chunks.c.chunk_id == "c1").values(**changes))


def test_a_load_whose_batch_runs_has_nothing_to_say(ledger: Ledger) -> None:
    assert found(ledger) == []


def test_a_stop_pages_with_what_the_api_said_and_what_to_do(ledger: Ledger) -> None:
    ledger.update_load(begun(ledger), stopped="The API answered 402: no credit.")
    assert only(ledger) == Finding(
        "stopped",
        "Sending has stopped: The API answered 402: no credit. Mend that, then launch the submit job (or call "
        "`batch-pipeline run`) again.",
        page=True,
    )


def test_a_cancelled_load_is_not_to_be_launched_again(ledger: Ledger) -> None:
    ledger.update_load(begun(ledger), stopped="The API answered 402.", cancelled_at=now())
    assert found(ledger) == []


def test_waiting_says_until_when_and_why_and_pages_nobody(ledger: Ledger) -> None:
    until = now() + HOUR
    ledger.update_load(begun(ledger), not_before=until, waits_for="The API answered 429.")
    assert only(ledger) == Finding(
        "waits",
        f"Sending waits until {until:%Y-%m-%d %H:%M:%S} UTC: The API answered 429. Nothing is to be done.",
        page=False,
    )
    ledger.update_load(begun(ledger), not_before=now())
    assert found(ledger) == []


@pytest.mark.parametrize(("seconds", "page"), [(0, False), (599, False), (601, True)])
def test_a_lost_answer_pages_when_it_is_looked_for_longer_than_it_should(
    ledger: Ledger, seconds: int, page: bool
) -> None:
    since = now() - timedelta(seconds=seconds)
    change_chunk(ledger, state="intent", looked_for_since=since, note="it was answered 500")
    finding = only_of(ledger, "A chunk of 12 requests")
    assert f"(it was answered 500); its batch is looked for since {since:%H:%M:%S} UTC" in (
        finding.sentence
    )
    assert "nothing more of the load is sent until that is settled" in finding.sentence
    assert finding.page is page


def test_an_intent_that_nobody_looked_for_yet_is_of_a_process_that_ended(ledger: Ledger) -> None:
    change_chunk(ledger, state="intent")
    finding = only_of(ledger, "A chunk of 12 requests")
    assert "(the process ended)" in finding.sentence
    assert not finding.page


def test_a_duplicate_pages_and_says_how_to_prevent_the_next(ledger: Ledger) -> None:
    change_chunk(ledger, state="duplicate")
    assert only(ledger) == Finding(
        "paid_twice",
        "A batch of 12 requests appeared after its rows had been sent again: they are paid twice. Raise "
        "BATCH_PIPELINE_GRACE_SECONDS, since the API's list lags by more than that.",
        page=True,
    )


@pytest.mark.parametrize(
    ("age", "said", "page"),
    [
        (24 * HOUR, None, False),
        (25 * HOUR, "Batch b1 is 25 h old and has not ended, though the API ends every batch after 24 h", True),
        (20 * DAY - HOUR, "Batch b1 is 479 h old and has not ended", True),
        (20 * DAY, "Batch b1 is 20 days old and was not read back; its results are deleted in 8 days", True),
        (28.5 * DAY, "Batch b1 is 28 days old and was not read back; its results are deleted in 0 days", True),
        (40 * DAY, "Batch b1 is 40 days old and was not read back; its results are deleted in 0 days", True),
    ],
)  # fmt: skip
def test_an_open_batch_is_reported_by_its_age(
    ledger: Ledger, age: timedelta, said: str | None, page: bool
) -> None:
    ledger.update_batch("b1", created_at=now() - age)
    assert [(f.sentence[: len(said or "")], f.page) for f in found(ledger)] == (
        [(said, page)] if said else []
    )


def test_a_batch_that_has_ended_is_not_late_until_its_results_are_near_their_end(
    ledger: Ledger,
) -> None:
    ledger.update_batch("b1", status="ended", created_at=now() - 19 * DAY)
    assert found(ledger) == []
    ledger.update_batch("b1", created_at=now() - 21 * DAY, retry_reason="The API answered 500.")
    finding = only(ledger)
    assert finding.page
    assert "(last: The API answered 500.)" in finding.sentence


def test_what_was_read_back_is_never_reported(ledger: Ledger) -> None:
    ledger.update_batch(
        "b1", created_at=now() - 28 * DAY, missing_since=now() - DAY, collected_at=now()
    )
    assert found(ledger) == []


@pytest.mark.parametrize(("seconds", "page"), [(10, False), (301, True)])
def test_a_batch_that_the_api_does_not_know_pages_after_the_grace_period(
    ledger: Ledger, seconds: int, page: bool
) -> None:
    since = now() - timedelta(seconds=seconds)
    ledger.update_batch("b1", missing_since=since)
    finding = only(ledger)
    assert finding.page is page
    assert finding.sentence == (
        f"The API does not know batch b1 since {since:%Y-%m-%d %H:%M:%S} UTC. If that lasts, check that "
        "ANTHROPIC_API_KEY is of the workspace that sent it."
    )


@pytest.mark.parametrize(("retries", "said"), [(2, False), (3, True)])
def test_results_that_cannot_be_taken_are_told_and_page_nobody(
    ledger: Ledger, retries: int, said: bool
) -> None:
    ledger.update_batch("b1", status="ended", retries=retries, retry_reason="The API answered 500.")
    assert [(f.sentence, f.page) for f in found(ledger)] == (
        [
            (
                (
                    "The results of batch b1 could not be taken 3 times (last: The API answered 500.); "
                    "they are asked for again by themselves."
                ),
                False,
            )
        ]
        if said
        else []
    )


def only_of(ledger: Ledger, begins: str) -> Finding:
    [finding] = [f for f in found(ledger) if f.sentence.startswith(begins)]
    return finding
