"""What the ledger says is wrong."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from batch_pipeline.alerts.conditions import Condition, condition_key, ledger_conditions
from batch_pipeline.ledger import Ledger, Load
from batch_pipeline.ledger.transactions import now
from batch_pipeline.settings import Settings
from batch_pipeline_tests.ledger.test_ledger import begun, chunk, submit

DAY = "2026-11-20"


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "300")
    return Ledger(Settings.from_environment().state)


def found(ledger: Ledger, *workloads: str) -> list[Condition]:
    return list(ledger_conditions(ledger, Settings.from_environment(), workloads or ["w"]))


def held(ledger: Ledger, generation: int = 1) -> Load:
    record = begun(ledger, generation)
    ledger.record_gate(record, promote=False, fingerprint="f")
    return record


def test_a_held_load_pages_and_links_to_its_score(ledger: Ledger) -> None:
    held(ledger)
    [condition] = found(ledger)
    assert condition.key == f"gate:w:{DAY}:g1"
    assert (condition.kind, condition.severity) == ("leading", "page")
    assert condition.title == f"w {DAY} is held by its gate"
    assert "batch-pipeline promote" in condition.sentence
    assert condition.link == f"assets/w/golden_score?partition={DAY}"


@pytest.mark.parametrize(
    "mended",
    [
        lambda ledger, record: ledger.record_promotion(record, rows=1, fingerprint="f"),
        lambda ledger, _record: begun(ledger, 2),
        lambda ledger, record: ledger.update_load(record, cancelled_at=now()),
        lambda ledger, record: ledger.update_load(record, purged_at=now()),
    ],
    ids=["promoted", "sent again", "cancelled", "purged"],
)
def test_a_held_load_is_over_when_it_was_dealt_with(
    ledger: Ledger, mended: Callable[[Ledger, Load], Any]
) -> None:
    mended(ledger, held(ledger))
    assert found(ledger) == []


def test_a_load_that_is_held_again_after_it_was_sent_again_is_another_alert(ledger: Ledger) -> None:
    held(ledger)
    [first] = found(ledger)
    held(ledger, generation=2)
    [second] = found(ledger)
    assert first.key != second.key


def test_batches_that_age_alike_are_one_condition_whatever_their_age(ledger: Ledger) -> None:
    record = begun(ledger)
    keys = set()
    for hours in (26, 27, 200):
        for name in ("c1", "c2", "c3"):
            if hours == 26:
                ledger.record_intent(chunk(record, name))
                submit(ledger, name, f"msgbatch_{name}")
            ledger.update_batch(f"msgbatch_{name}", created_at=now() - timedelta(hours=hours))
        [condition] = found(ledger)
        assert condition.severity == "page"
        assert condition.sentence.endswith("And 2 more like it.")
        keys.add(condition.key)
    assert len(keys) == 1


def test_different_findings_of_a_load_are_different_conditions(ledger: Ledger) -> None:
    record = begun(ledger)
    ledger.record_intent(chunk(record))
    ledger.update_load(record, stopped="The API answered 402: no credit.")
    stopped, lost = sorted(found(ledger), key=lambda each: each.severity, reverse=True)
    assert stopped.title == f"w {DAY}: sending has stopped"
    assert stopped.severity == "page"
    assert lost.title == f"w {DAY}: a lost answer is looked for"
    assert lost.severity == "log"
    assert stopped.key != lost.key


@pytest.mark.parametrize(
    ("changes", "title"),
    [
        ({"created_at": timedelta(hours=26)}, "a batch has not ended"),
        ({"created_at": timedelta(days=21)}, "results that were not read back will be deleted"),
        ({"missing_since": timedelta(hours=1)}, "the API does not know a batch"),
    ],
)
def test_a_batchs_alert_says_in_its_title_what_is_wrong(
    ledger: Ledger, changes: dict[str, timedelta], title: str
) -> None:
    ledger.record_intent(chunk(begun(ledger)))
    submit(ledger, "c1", "msgbatch_c1")
    times = {"created_at": timedelta(), **changes}
    ledger.update_batch("msgbatch_c1", **{name: now() - age for name, age in times.items()})
    [condition] = found(ledger)
    assert condition.title == f"w {DAY}: {title}"


def test_loads_of_other_workloads_are_not_looked_at(ledger: Ledger) -> None:
    held(ledger)
    assert found(ledger, "other") == []


def test_a_long_key_stays_within_its_column_and_apart_from_others() -> None:
    one, other = (condition_key("check", "w" * 64, "c" * 300 + end) for end in "ab")
    assert len(one) == len(other) == 256
    assert one != other
