"""The metrics of earlier nights, as everybody but the writer reads them."""

import threading
from datetime import date, timedelta
from pathlib import Path
from random import randrange

import pyarrow.parquet as pq

from batch_pipeline.rows import replacing
from batch_pipeline.warehouse import GateRecord, LoadRecord, Measure, write_gate, write_metrics
from batch_pipeline.warehouse.history import graded_before, last_of_each, nights, since
from batch_pipeline.warehouse.place import Where, state_of
from batch_pipeline.warehouse.prometheus import write_prometheus


def grade(where: Where, load: str, *, workload: str = "questions", validity: float = 0.9) -> None:
    write_metrics(
        where,
        LoadRecord(workload, load, 1, "declaration"),
        fingerprint="f",
        measures=[Measure("validity", 10 * validity, 10.0, validity)],
        gate=GateRecord(True, ["all is well"], None),
    )


def test_no_nights_are_no_history(where: Where) -> None:
    assert nights(where, "questions") == []
    assert last_of_each(where, ["load"], 3) == []


def test_a_copy_that_another_load_replaces_meanwhile_is_read_as_it_was_or_is(
    tmp_path: Path,
) -> None:
    for day in range(1, 29):
        grade(tmp_path, f"2026-01-{day:02}")
    ended = threading.Event()

    def grade_others() -> None:
        copies = sorted((tmp_path / "metrics").glob("*.parquet"))
        while not ended.is_set():
            for copy in copies:  # of another length each time
                table = pq.read_table(copy.open("rb"))
                with replacing(copy) as temporary:
                    pq.write_table(table.slice(0, randrange(table.num_rows + 1)), temporary)
                with replacing(copy) as temporary:
                    pq.write_table(table, temporary, compression="zstd")

    other = threading.Thread(target=grade_others)
    other.start()
    try:
        for _ in range(60):
            assert len(nights(tmp_path, "questions")) <= 28
            assert len(last_of_each(tmp_path, ["load"], 99)) <= 28
            write_prometheus(tmp_path)
    finally:
        ended.set()
        other.join()


def test_each_graded_night_is_read_once_and_as_it_was_graded_last(where: Where) -> None:
    grade(where, "2026-01-01")
    grade(where, "2026-01-02", validity=0.5)
    grade(where, "2026-01-02", validity=0.8)
    grade(where, "2026-01-02", workload="others", validity=0.1)
    read = nights(where, "questions")
    assert [(n.load, n.promote, n.measures["validity"].value) for n in read] == [
        ("2026-01-01", True, 0.9),
        ("2026-01-02", True, 0.8),
    ]
    assert graded_before(where, "questions", "2026-01-02") == 1


def test_only_the_last_nights_are_looked_back_on(where: Where) -> None:
    days = [(date(2026, 1, 1) + timedelta(n)).isoformat() for n in range(5)]
    for day in days:
        grade(where, day)
    assert since(where, "questions", None, 3) == days[2]
    assert [n.load for n in nights(where, "questions", until=days[3], most=2)] == days[2:4]
    assert last_of_each(where, ["workload", "load"], 2) == [("questions", d) for d in days[3:]]


def test_a_decision_after_the_measuring_is_the_one_that_counts(where: Where) -> None:
    grade(where, "2026-01-01")
    write_gate(
        where,
        "questions",
        "2026-01-01",
        fingerprint="g",
        gate=GateRecord(False, ["the load was rolled back"], None),
    )
    assert [n.promote for n in nights(where, "questions")] == [False]


def test_prometheus_reads_the_newest_night(where: Where) -> None:
    grade(where, "2026-01-01", validity=0.5)
    grade(where, "2026-01-02", validity=0.8)
    written = write_prometheus(where)
    assert written.is_relative_to(state_of(where))
    assert 'batch_pipeline_validity{workload="questions"} 0.8' in written.read_text()
