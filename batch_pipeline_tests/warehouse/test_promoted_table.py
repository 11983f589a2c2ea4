"""promoted.<workload>: one row per key, the newest load's answer, whole loads or nothing."""

from collections.abc import Sequence
from typing import Any

import duckdb
import pytest

from batch_pipeline.errors import PipelineError
from batch_pipeline.warehouse import Promotion, promote_rows, warehouse
from batch_pipeline.warehouse.place import Where, state_of

FIELDS = "id VARCHAR, label VARCHAR"
PROVENANCE = "_tier INTEGER, _model VARCHAR, _batch_id VARCHAR, _load VARCHAR"


def promote(
    where: Where,
    load: str,
    answers: Sequence[Sequence[Any]],
    fields: str = FIELDS,
    fingerprint: str = "f",
) -> Promotion:
    """Promotes rows of key and fields, as a load of that day."""
    file = state_of(where) / "incoming.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t ({fields}, {PROVENANCE})")
        marks = ", ".join("?" for _ in range(fields.count(",") + 5))
        for answer in answers:
            connection.execute(f"INSERT INTO t VALUES ({marks})", [*answer, 0, "m", "b", load])
        connection.execute(f"COPY t TO '{file}' (FORMAT parquet)")
    return promote_rows(
        where,
        workload="questions",
        load=load,
        key="id",
        rows=file,
        fingerprint=fingerprint,
        override_reason=None,
    )


def promoted(where: Where, columns: str = "id, label, _load") -> list[Any]:
    with warehouse(where) as connection:
        return connection.execute(
            f"SELECT {columns} FROM promoted.questions ORDER BY id"
        ).fetchall()


def test_a_load_of_no_rows_empties_what_it_had_promoted(where: Where) -> None:
    promote(where, "2026-01-01", [("a", "x")])
    assert promote(where, "2026-01-01", []).removed == 1
    assert promoted(where) == []


def test_a_promotion_counts_what_it_wrote_removed_and_left_to_newer_loads(where: Where) -> None:
    promote(where, "2026-01-02", [("a", "x"), ("b", "x"), ("c", "x")])
    promote(where, "2026-01-03", [("a", "y")])
    done = promote(where, "2026-01-02", [("a", "z"), ("b", "x"), ("d", "x")])
    assert done == Promotion("promoted.questions", rows=3, written=1, removed=1, superseded=1)
    assert promoted(where) == [
        ("a", "y", "2026-01-03"),
        ("b", "x", "2026-01-02"),
        ("d", "x", "2026-01-02"),
    ]


def test_a_key_that_a_corrected_load_lost_goes_back_to_the_load_that_had_it(where: Where) -> None:
    promote(where, "2026-01-01", [("a", "x")])
    promote(where, "2026-01-02", [("a", "y"), ("b", "y")])
    done = promote(where, "2026-01-02", [("b", "y")])
    assert (done.written, done.removed) == (0, 1)
    assert promoted(where) == [("a", "x", "2026-01-01"), ("b", "y", "2026-01-02")]


def test_a_field_that_the_contract_gains_becomes_a_column(where: Where) -> None:
    promote(where, "2026-01-01", [("a", "x"), ("b", "x")])
    wider = f"{FIELDS}, score DOUBLE"
    promote(where, "2026-01-02", [("b", "y", 0.5), ("c", "y", 0.7)], wider)
    assert promoted(where, "id, label, score") == [
        ("a", "x", None),
        ("b", "y", 0.5),
        ("c", "y", 0.7),
    ]


def test_a_field_that_the_contract_loses_is_null_where_a_newer_load_answers(where: Where) -> None:
    wider = f"{FIELDS}, score DOUBLE"
    promote(where, "2026-01-01", [("a", "x", 0.5), ("b", "x", 0.5)], wider)
    promote(where, "2026-01-02", [("b", "x")])
    assert promoted(where, "id, score") == [("a", 0.5), ("b", None)]


def test_a_name_that_only_changes_its_capitals_is_the_same_column(where: Where) -> None:
    promote(where, "2026-01-01", [("a", "x")])
    promote(where, "2026-01-02", [("a", "y")], "id VARCHAR, Label VARCHAR")
    assert promoted(where) == [("a", "y", "2026-01-02")]


@pytest.mark.parametrize(
    "fields", ["id VARCHAR, label INTEGER", "id BIGINT, label VARCHAR", "id VARCHAR, LABEL DOUBLE"]
)
def test_a_field_of_another_type_is_refused_in_a_sentence_and_changes_nothing(
    where: Where, fields: str
) -> None:
    promote(where, "2026-01-01", [("a", "x")])
    with pytest.raises(PipelineError, match=r"holds \w+ as VARCHAR and the load now has") as raised:
        promote(where, "2026-01-02", [(1, 2)], fields)
    assert "rename the field" in str(raised.value)
    assert promoted(where) == [("a", "x", "2026-01-01")]


def test_arrays_and_nulls_are_promoted_as_they_are(where: Where) -> None:
    fields = "id VARCHAR, tags VARCHAR[], note VARCHAR"
    rows = [("a", ["x", None], None), ("b", [], "n")]
    promote(where, "2026-01-01", rows, fields)
    assert promoted(where, "id, tags, note") == rows
    assert promote(where, "2026-01-01", rows, fields).written == 0


def test_names_that_sql_would_trip_over_are_fine(where: Where) -> None:
    promote(where, "2026-01-01", [("a", "x")], 'id VARCHAR, "sel""ect" VARCHAR')
    promote(where, "2026-01-02", [("a", "y")], 'id VARCHAR, "sel""ect" VARCHAR')
    assert promoted(where, '"sel""ect"') == [("y",)]


def test_each_set_of_rows_is_entered_once_in_the_history(where: Where) -> None:
    for fingerprint in ("one", "one", "two"):
        promote(where, "2026-01-01", [("a", "x")], fingerprint=fingerprint)
    with warehouse(where) as connection:
        history = connection.execute(
            "SELECT load, fingerprint, rows FROM promoted._promotions ORDER BY promoted_at"
        ).fetchall()
    assert history == [("2026-01-01", "one", 1), ("2026-01-01", "two", 1)]
