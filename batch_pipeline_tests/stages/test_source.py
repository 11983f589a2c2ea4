"""source_rows: the load's rows, read once and kept, with the golden rows among them."""

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger import Ledger
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.stages.source import GOLDEN, KEY, ROW, SourceSummary, read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline.workload.spec import SourceSpec
from batch_pipeline.workload.workload import Workload
from batch_pipeline_tests.night import Night, account_of, rows, write_csv

MakeNight = Callable[..., Night]


def with_source(made: Night, **source: Any) -> Night:
    """The same load with another `source` section."""
    workload = made.context.workload
    spec = workload.spec.model_copy(update={"source": SourceSpec(key="id", **source)})
    context = replace(made.context, workload=Workload.build(spec, workload.folder))
    return Night(context)


def stored(night: Night, file: str = "source") -> list[dict[str, Any]]:
    folder = night.context.folder(night.context.record())
    path = getattr(folder, file)
    table: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return sorted(table, key=lambda row: row[ROW])


def production(night: Night) -> list[dict[str, Any]]:
    own = (ROW, GOLDEN, KEY)
    return [
        {name: value for name, value in row.items() if name not in own}
        for row in stored(night)
        if not row[GOLDEN]
    ]


def golden_places(night: Night) -> list[int]:
    return [row[ROW] for row in stored(night) if row[GOLDEN]]


def resent(night: Night, run: str) -> SourceSummary:
    return read_source(night.context, resend=True, requested_by=run)


# What is read


def test_csv_is_kept_as_text_in_the_files_order(night: MakeNight) -> None:
    lines = [
        {"id": "007", "text": "a\nb", "size": "1e3"},
        {"id": "01", "text": 'say "x"', "size": ""},
    ]
    made = night(source=lines, golden=0)
    summary = read_source(made.context)

    assert (summary.source_rows, summary.golden_rows, summary.read_now) == (2, 0, True)
    assert production(made) == [lines[0], {**lines[1], "size": None}]
    assert [row[KEY] for row in stored(made)] == ["007", "01"]


def test_parquet_keeps_its_types_nested_ones_too(night: MakeNight) -> None:
    made = with_source(night(golden=0), path="source.parquet")
    table = pa.table(
        {
            "id": [2**53 + 1, 1],
            "text": ["a", None],
            "tags": [["x", "y"], []],
            "place": [{"city": "Oslo", "lines": [1]}, None],
        }
    )
    pq.write_table(table, made.folder / "source.parquet")
    read_source(made.context)

    assert production(made) == table.to_pylist()
    assert [row[KEY] for row in stored(made)] == ["9007199254740993", "1"]


def test_ndjson_keeps_numbers_and_texts_apart(night: MakeNight) -> None:
    made = with_source(night(golden=0), path="source.ndjson")
    lines = [
        {"id": 1, "text": "2026-01-02", "tags": ["a"]},
        {"id": 2, "text": None, "tags": []},
    ]
    (made.folder / "source.ndjson").write_text("\n".join(map(json.dumps, lines)))
    read_source(made.context)

    assert production(made) == lines


def test_a_query_reads_files_beside_the_declaration_at_the_loads_date(night: MakeNight) -> None:
    sql = (
        "SELECT id, text || ' of ' || '{{ partition }}' AS text FROM 'source.csv' "
        "WHERE id <> 'r00001'; -- no more"
    )
    made = with_source(night(golden=0, count=3), sql=sql)
    read_source(made.context)

    assert production(made) == [
        {"id": row["id"], "text": f"{row['text']} of 2026-11-20"}
        for row in (rows(3)[0], rows(3)[2])
    ]


@pytest.mark.parametrize("table", ["source", "source.source", "source.main.source"])
def test_a_query_reads_the_tables_of_a_duckdb_file(night: MakeNight, table: str) -> None:
    made = with_source(night(golden=0), sql=f"SELECT * FROM {table}", database="w.duckdb")
    with duckdb.connect(made.folder / "w.duckdb") as connection:
        connection.execute("CREATE TABLE source AS SELECT 7 AS id, 'a' AS text")
    read_source(made.context)

    assert production(made) == [{"id": 7, "text": "a"}]


def test_the_file_of_the_loads_date_is_read(night: MakeNight) -> None:
    made = with_source(night(golden=0, count=2), path="day={{ partition }}/rows.csv")
    write_csv(made.folder / "day=2026-11-20" / "rows.csv", rows(3))
    assert read_source(made.context).source_rows == 3


def test_column_names_are_free_but_for_our_own(night: MakeNight) -> None:
    odd = [
        "place",
        "offset_in",
        "i",
        "position",
        "before",
        'a "quoted" name',
        "select",
        "draw",
        "n",
    ]
    made = night(
        source=[{"id": "1", "text": "a", **dict.fromkeys(odd, "x")}],
        prompt={"user": "{{ text }} {{ row['a \"quoted\" name'] }}"},
        golden=0,
    )
    read_source(made.context)
    assert production(made)[0] == {"id": "1", "text": "a", **dict.fromkeys(odd, "x")}


# How golden rows are woven in


@settings(max_examples=15, deadline=None)
@given(
    count=st.integers(1, 60),
    golden=st.integers(1, 90),
    day=st.dates(date(2026, 1, 1), date(2026, 11, 20)).map(date.isoformat),
)
def test_each_equal_stretch_of_the_source_carries_one_golden_row(
    tmp_path_factory: pytest.TempPathFactory, count: int, golden: int, day: str
) -> None:
    made = Night.make(tmp_path_factory.mktemp("night"), count=count, golden=golden, day=day)
    read_source(made.context)
    kept = stored(made)

    assert [row[ROW] for row in kept] == list(range(count + golden))
    assert production(made) == rows(count)
    before = [row[ROW] - rank for rank, row in enumerate(row for row in kept if row[GOLDEN])]
    for rank, at in enumerate(before):
        # The stretch of golden row n of g goes from n·c/g to (n+1)·c/g; what precedes it is a whole number.
        assert rank * count / golden <= at < (rank + 1) * count / golden + 1


def test_where_they_lie_is_decided_by_the_date_alone(night: MakeNight) -> None:
    def places(day: str, name: str) -> list[tuple[int, str]]:
        made = night(count=500, golden=20, day=day, name=name)
        read_source(made.context)
        return [(row[ROW], row[KEY]) for row in stored(made) if row[GOLDEN]]

    monday, again, tuesday = (
        places("2026-11-16", "a"),
        places("2026-11-16", "b"),
        places("2026-11-17", "a"),
    )
    assert monday == again
    assert [place for place, _ in monday] != [place for place, _ in tuesday]
    assert [key for _, key in monday] != [key for _, key in tuesday]
    assert {key for _, key in monday} == {key for _, key in tuesday}


def test_the_right_answers_are_in_a_file_of_their_own(night: MakeNight) -> None:
    made = night(
        source=[{**row, "expected_label": "billing", "expected_by": "today"} for row in rows(9)]
    )
    read_source(made.context)

    truth = {row["id"]: row["label"] for row in rows(5, start=100_000)}
    keys = {row[ROW]: row[KEY] for row in stored(made) if row[GOLDEN]}
    assert stored(made, "golden") == [
        {ROW: place, "expected_label": truth[keys[place]]} for place in sorted(keys)
    ]
    assert {row["expected_label"] for row in stored(made) if row[GOLDEN]} == {None}


def test_a_golden_row_has_its_key_from_its_file_or_a_name_by_its_position(
    night: MakeNight,
) -> None:
    made = night(golden=3)
    read_source(made.context)
    assert {row[KEY] for row in stored(made) if row[GOLDEN]} == {
        row["id"] for row in rows(3, start=100_000)
    }

    write_csv(made.folder / "golden.csv", [{"text": t, "expected_label": "bug"} for t in "ab"])
    read_source(made.context)
    assert {(row[KEY], row["text"]) for row in stored(made) if row[GOLDEN]} == {
        ("golden-0", "a"),
        ("golden-1", "b"),
    }


def test_golden_rows_take_the_sources_types(night: MakeNight) -> None:
    made = with_source(
        night(golden=1, prompt={"user": "{{ text }} {{ size }}"}), path="source.parquet"
    )
    pq.write_table(
        pa.table({"id": [1, 2], "text": ["a", "b"], "size": [1, 2], "tags": [["x"], []]}),
        made.folder / "source.parquet",
    )
    write_csv(
        made.folder / "golden.csv",
        [{"id": "g-1", "text": "c", "size": "3", "tags": "none", "expected_label": "bug"}],
    )
    read_source(made.context)
    (golden,) = (row for row in stored(made) if row[GOLDEN])

    assert golden[KEY] == "g-1"
    assert {name: golden[name] for name in ("id", "text", "size", "tags")} == {
        # Nothing asks for the key and the tags of a golden row, so what does not fit is left out.
        "id": None,
        "text": "c",
        "size": 3,
        "tags": None,
    }


def test_a_golden_row_may_have_the_key_of_a_source_row(
    night: MakeNight, simulate: Callable[..., Simulator]
) -> None:
    simulate()
    made = night(count=6)
    write_csv(
        made.folder / "golden.csv",
        [{"id": r["id"], "text": r["text"], "expected_label": r["label"]} for r in rows(3)],
    )
    card = made.settle()

    assert card.dispositions == {"validated": 6, "quarantined": 0, "human_review": 0}
    assert card.golden is not None
    assert (card.golden.correct, card.golden.n) == (3, 3)
    assert made.publish().promotion.rows == 6


# When it is read again


def test_until_something_was_sent_a_mended_source_is_read(night: MakeNight) -> None:
    made = night(count=3)
    read_source(made.context)
    write_csv(made.folder / "source.csv", rows(7))

    assert read_source(made.context).read_now
    assert made.context.record().source_rows == 7
    assert len(production(made)) == 7


def test_a_batch_that_was_refused_was_not_sent(
    night: MakeNight, simulate: Callable[..., Simulator]
) -> None:
    simulate(calls=[{"on": "create", "nth": 1, "fault": "status", "status": 400}])
    made = night(count=3)
    read_source(made.context)
    with pytest.raises(PipelineError, match="not accepted"):
        send_pending(made.context, BatchesApi)
    write_csv(made.folder / "source.csv", rows(7))

    assert read_source(made.context).read_now
    assert made.settle().source_rows == 7


def test_what_was_sent_stays_as_it_was_read(
    night: MakeNight, simulate: Callable[..., Simulator]
) -> None:
    simulate()
    made = night(count=3)
    made.submit()
    before = stored(made)
    (made.folder / "source.csv").unlink()

    summary = read_source(made.context)
    assert (summary.source_rows, summary.generation, summary.read_now) == (3, 1, False)
    assert stored(made) == before


def test_sending_again_reads_the_source_anew_once_for_each_run_that_asks(
    night: MakeNight, simulate: Callable[..., Simulator]
) -> None:
    simulate()
    made = night(count=3)
    made.settle()
    first = stored(made)
    write_csv(made.folder / "source.csv", rows(5))

    assert resent(made, "run-1").generation == 2
    assert resent(made, "run-1").generation == 2
    assert len(production(made)) == 5
    made.settle()
    assert resent(made, "run-2").generation == 3
    folder = Path(str(made.context.folder(made.context.record()).root)).with_name("g1")
    assert len(first) == 8
    assert pq.read_table(folder / "source.parquet").num_rows == 8


def test_resending_what_was_never_begun_is_a_first_reading(night: MakeNight) -> None:
    assert resent(night(), "run-1").generation == 1


def test_a_source_that_fails_leaves_the_load_as_it_was(night: MakeNight) -> None:
    made = night(count=3)
    read_source(made.context)
    before = made.context.record()
    write_csv(made.folder / "source.csv", [*rows(2), *rows(1)])

    with pytest.raises(ConfigurationError, match="not unique"):
        read_source(made.context)
    assert made.context.record() == before
    assert len(production(made)) == 3


def test_no_temporary_file_stays_behind(night: MakeNight) -> None:
    made = night(count=3)
    (made.folder / "source.csv").write_text("id,text\n1,a\n2\n")
    with pytest.raises(ConfigurationError):
        read_source(made.context)
    state: Path = made.context.settings.state
    assert [path for path in (state / "rows").rglob("*") if path.is_file()] == []


def test_a_load_is_not_sent_again_while_batches_of_it_are_out(
    simulate: Callable[..., Simulator], night: Callable[..., Night]
) -> None:
    simulator = simulate(turnaround_seconds=3600)
    made = night()
    made.submit()

    with pytest.raises(PipelineError, match="1 of its batches are out and are paid for"):
        read_source(made.context, resend=True, requested_by="a run")

    assert made.context.record().generation == 1
    assert len(account_of(simulator)["batches"]) == 1


def test_an_integer_too_wide_for_parquet_is_refused_not_rounded(night: MakeNight) -> None:
    made = with_source(night(golden=0), sql="SELECT 'a' AS id, sum(1) AS text")
    with pytest.raises(
        ConfigurationError, match=r"'text' .* is of type HUGEINT.*cast it to BIGINT"
    ):
        read_source(made.context)


def test_a_load_that_the_ledger_forgot_is_not_sent_again(
    night: MakeNight, simulate: Callable[..., Simulator]
) -> None:
    simulator = simulate()
    made = night()
    made.submit()
    state = made.context.settings.state
    for path in state.glob("ledger.sqlite*"):
        path.unlink()
    forgotten = Night(replace(made.context, ledger=Ledger(state)))

    with pytest.raises(PipelineError, match="the ledger knows nothing of this load"):
        forgotten.submit()
    assert len(account_of(simulator)["batches"]) == 1


def test_a_damaged_file_is_named_in_one_sentence(
    night: MakeNight, simulate: Callable[..., Simulator]
) -> None:
    simulate()
    made = night()
    made.settle()
    (results,) = made.context.folder(made.context.record()).results("x").parent.glob("*.parquet")
    Path(str(results)).write_bytes(results.read_bytes()[:200])

    with pytest.raises(PipelineError, match="is damaged or missing; restore it"):
        measure_load(made.context)
