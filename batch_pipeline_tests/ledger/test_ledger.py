"""The ledger: small facts that must survive, committed one transition at a time."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from threading import Barrier

import pytest
from sqlalchemy.exc import IntegrityError

from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Chunk, ChunkState, Ledger, Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.settings import Settings

DAY = "2026-11-20"
MOMENT = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)


def begun(ledger: Ledger, generation: int = 1, day: str = DAY, by: str | None = None) -> Load:
    ledger.record_load(
        "w",
        day,
        generation=generation,
        fingerprint="f",
        source_rows=10,
        golden_rows=2,
        requested_by=by,
    )
    record = ledger.load("w", day)
    assert record is not None
    return record


def chunk(record: Load, name: str = "c1") -> Chunk:
    return Chunk(
        chunk_id=name,
        workload=record.workload,
        load=record.load,
        generation=record.generation,
        wave=1,
        tier=0,
        model="m",
        token=f"t{name}",
        requests=12,
        bytes=1000,
        sha256="s",
        state=ChunkState.INTENT,
        api=None,
        intended_at=MOMENT,
        looked_for_since=None,
        closed_at=None,
        note=None,
    )


def submit(ledger: Ledger, name: str, batch_id: str) -> None:
    ledger.record_submitted(
        name,
        batch_id=batch_id,
        request_id="r",
        api="http://127.0.0.1",
        status="in_progress",
        created_at=MOMENT,
        expires_at=None,
    )


def test_looking_for_a_ledger_makes_none(tmp_path: Path) -> None:
    settings = Settings.from_environment().embedded_in(tmp_path)
    assert Ledger.existing(settings) is None
    assert list(tmp_path.iterdir()) == []


def test_a_load_is_what_was_recorded_last_of_its_latest_generation(
    opened: Callable[[], Ledger],
) -> None:
    ledger = opened()
    begun(ledger)
    begun(ledger, generation=2)
    record = opened().load("w", DAY)
    assert record is not None
    assert (record.generation, record.phase, record.source_rows) == (2, Phase.SENDING, 10)
    assert ledger.load("w", "2026-11-19") is None
    assert ledger.load("v", DAY) is None


def test_reading_a_source_again_keeps_who_asked_for_the_generation(
    opened: Callable[[], Ledger],
) -> None:
    ledger = opened()
    begun(ledger, generation=2, by="run 1")
    assert begun(ledger, generation=2).requested_by == "run 1"


def test_an_intent_is_on_disk_before_anything_else_happens(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.record_intent(chunk(begun(ledger)))
    # A connection that shares nothing with ours.
    with sqlite3.connect(tmp_path / "ledger.sqlite") as other:
        assert other.execute("SELECT chunk_id, state, requests FROM chunks").fetchall() == [
            ("c1", "intent", 12)
        ]


def test_commits_wait_for_the_disk(tmp_path: Path) -> None:
    with Ledger(tmp_path)._home.engine.connect() as connection:
        settings = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous")
        ]
    assert settings == ["wal", 2]


def test_a_chunk_that_was_accepted_has_its_batch_or_nothing_changes(
    opened: Callable[[], Ledger],
) -> None:
    ledger = opened()
    record = begun(ledger)
    for name in ("c1", "c2"):
        ledger.record_intent(chunk(record, name))
    submit(ledger, "c1", "b1")
    with pytest.raises(IntegrityError):
        submit(ledger, "c2", "b1")
    assert {c.chunk_id: c.state for c in ledger.chunks(record)} == {
        "c1": ChunkState.SUBMITTED,
        "c2": ChunkState.INTENT,
    }
    assert [(b.batch_id, b.chunk_id) for b in ledger.batches(record)] == [("b1", "c1")]


def test_a_token_is_never_used_twice(opened: Callable[[], Ledger]) -> None:
    ledger = opened()
    record = begun(ledger)
    ledger.record_intent(chunk(record))
    with pytest.raises(IntegrityError):
        ledger.record_intent(replace(chunk(record, "c2"), token="tc1"))


def test_a_generation_sees_its_own_chunks_and_batches_only(opened: Callable[[], Ledger]) -> None:
    ledger = opened()
    first = begun(ledger)
    ledger.record_intent(chunk(first))
    submit(ledger, "c1", "b1")
    second = begun(ledger, generation=2)
    assert ledger.chunks(second) == []
    assert ledger.batches(second) == []
    assert len(ledger.batches(first)) == 1


def test_times_come_back_in_utc_whatever_zone_they_had(opened: Callable[[], Ledger]) -> None:
    ledger = opened()
    record = begun(ledger)
    elsewhere = MOMENT.astimezone(timezone(timedelta(hours=9)))
    ledger.record_intent(replace(chunk(record), intended_at=elsewhere))
    [found] = ledger.chunks(record)
    assert found.intended_at == MOMENT
    assert found.intended_at.utcoffset() == timedelta(0)


def test_a_load_that_opens_again_forgets_its_old_decision(opened: Callable[[], Ledger]) -> None:
    ledger = opened()
    record = begun(ledger)
    ledger.set_phase(record, Phase.SETTLED)
    ledger.record_gate(record, promote=False, fingerprint="f1")
    ledger.set_phase(record, Phase.WAITING)
    found = ledger.load("w", DAY)
    assert found is not None
    assert (found.gate, found.gate_fingerprint, found.settled_at) == (None, None, None)


def test_unfinished_loads_are_the_ones_neither_promoted_nor_held(
    opened: Callable[[], Ledger],
) -> None:
    ledger = opened()
    days = [f"2026-11-{day}" for day in (10, 11, 12, 13)]
    open_, held, promoted, resent = (begun(ledger, day=day) for day in days)
    ledger.record_gate(held, promote=False, fingerprint="f")
    ledger.record_promotion(promoted, rows=10, fingerprint="f")
    ledger.record_promotion(resent, rows=10, fingerprint="f")
    begun(ledger, generation=2, day=resent.load)
    assert [(r.load, r.generation) for r in ledger.unfinished_loads("w")] == [
        (open_.load, 1),
        (resent.load, 2),
    ]
    assert ledger.newest_load("w") == days[3]


def test_the_first_reason_given_for_an_override_stands(opened: Callable[[], Ledger]) -> None:
    ledger = opened()
    record = begun(ledger)
    for reason in ("first", "second"):
        ledger.record_override(record, fingerprint="f", reason=reason, requested_by="kim")
    found = ledger.override("w", DAY, "f")
    assert found is not None
    assert found.reason == "first"
    assert ledger.override("w", DAY, "g") is None


def test_a_load_is_held_by_one_at_a_time(opened: Callable[[], Ledger]) -> None:
    ledger = opened()
    with ledger.hold("w", DAY):
        with (
            pytest.raises(PipelineError, match="Another process is working on w 2026-11-20"),
            opened().hold("w", DAY, wait_seconds=0.05),
        ):
            pass
        with opened().hold("w", "2026-11-19", wait_seconds=0.05):
            pass
    with opened().hold("w", DAY, wait_seconds=0.05):
        pass


def test_many_may_open_a_new_ledger_at_once(tmp_path: Path) -> None:
    openers = 8
    start = Barrier(openers)

    def open_(state: Path) -> Load | None:
        start.wait()
        return Ledger(state).load("w", DAY)

    with ThreadPoolExecutor(openers) as pool:
        for n in range(5):
            assert list(pool.map(open_, [tmp_path / str(n)] * openers)) == [None] * openers


# Lost answers


def test_a_chunk_becomes_one_batch_and_only_while_its_fate_is_open(
    opened: Callable[[], Ledger],
) -> None:
    ledger = opened()
    record = begun(ledger)
    for name in ("c1", "c2"):
        ledger.record_intent(chunk(record, name))
    ledger.record_not_created("c2", "refused")
    submit(ledger, "c1", "b1")
    for name, batch_id in (("c1", "b2"), ("c2", "b3")):
        with pytest.raises(PipelineError, match=batch_id):
            submit(ledger, name, batch_id)
    assert [(b.chunk_id, b.batch_id) for b in ledger.batches(record)] == [("c1", "b1")]
    assert [c.state for c in ledger.chunks(record)] == [
        ChunkState.SUBMITTED,
        ChunkState.NOT_CREATED,
    ]


def test_the_first_moment_and_reason_of_a_lost_answer_stand(opened: Callable[[], Ledger]) -> None:
    ledger = opened()
    record = begun(ledger)
    ledger.record_intent(chunk(record))
    ledger.record_lost_answer("c1", "answered 500")
    [first] = ledger.chunks(record)
    ledger.record_lost_answer("c1", "looked for again")
    assert ledger.chunks(record) == [first]
    assert (first.note, first.looked_for_since is None) == ("answered 500", False)


def test_a_chunk_that_was_given_up_for_lost_may_still_become_a_batch(
    opened: Callable[[], Ledger],
) -> None:
    ledger = opened()
    record = begun(ledger)
    ledger.record_intent(chunk(record))
    ledger.record_not_found("c1", "no such batch")
    assert ledger.intents() == []
    submit(ledger, "c1", "b1")
    assert [c.state for c in ledger.chunks(record)] == [ChunkState.SUBMITTED]


@pytest.mark.parametrize("foreign", [True, False])
def test_an_adoption_that_is_taken_back_leaves_an_intent_and_no_batch(
    opened: Callable[[], Ledger], foreign: bool
) -> None:
    ledger = opened()
    record = begun(ledger)
    ledger.record_intent(chunk(record))
    submit(ledger, "c1", "b1")
    [batch] = ledger.batches(record)
    ledger.disown(batch, foreign=foreign, note="it carries other requests")
    assert ledger.batches(record) == []
    assert [c.chunk_id for c in ledger.intents()] == ["c1"]
    # What is proven to be somebody else's is never looked at again.
    assert ledger.known(["b1"]) == ({"b1"} if foreign else set())


def test_requests_in_flight_are_those_of_open_intents_and_of_batches_that_run(
    opened: Callable[[], Ledger],
) -> None:
    ledger = opened()
    first, second = begun(ledger), begun(ledger, day="2026-11-19")
    for n, record in enumerate((first, first, first, second, second, second)):
        ledger.record_intent(replace(chunk(record, f"c{n}"), requests=10**n))
    assert ledger.in_flight() == 111_111
    for n in range(4):
        submit(ledger, f"c{n}", f"b{n}")
    assert ledger.in_flight() == 111_111
    ledger.update_batch("b0", status="ended")
    ledger.update_batch("b1", results_gone=1)
    ledger.update_batch("b2", collected_at=MOMENT)
    ledger.record_not_created("c4", "refused")
    assert ledger.in_flight() == 101_000


def test_a_promoted_load_with_a_batch_that_is_not_read_back_is_unfinished(
    opened: Callable[[], Ledger],
) -> None:
    ledger = opened()
    record = begun(ledger)
    ledger.record_intent(chunk(record))
    submit(ledger, "c1", "b1")
    ledger.record_promotion(record, rows=10, fingerprint="f")
    assert [r.load for r in ledger.unfinished_loads("w")] == [DAY]
    ledger.update_batch("b1", collected_at=MOMENT)
    assert ledger.unfinished_loads("w") == []


def test_a_chunk_given_up_for_lost_keeps_its_load_in_view_for_two_days(
    opened: Callable[[], Ledger], monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = opened()
    record = begun(ledger)
    ledger.record_intent(chunk(record))
    ledger.record_not_found("c1", "no such batch")
    ledger.record_promotion(record, rows=10, fingerprint="f")
    assert len(ledger.unfinished_loads("w")) == 1
    monkeypatch.setattr("batch_pipeline.ledger.store.LATE_ARRIVALS", timedelta(0))
    assert ledger.unfinished_loads("w") == []


def test_of_a_load_that_was_sent_again_only_the_newest_generation_is_among_the_newest(
    opened: Callable[[], Ledger],
) -> None:
    ledger = opened()
    for day in ("2026-01-01", "2026-01-02"):
        ledger.record_gate(begun(ledger, day=day), promote=True, fingerprint="f")
    again = begun(ledger, generation=2, day="2026-01-02")
    assert ledger.newest_loads("w", 5, graded=True) == ["2026-01-01"]
    assert ledger.newest_loads("w", 5, graded=False) == ["2026-01-02", "2026-01-01"]
    ledger.update_load(again, cancelled_at=MOMENT)
    assert ledger.newest_loads("w", 5, graded=False) == ["2026-01-01"]
