"""promoted.<workload>: one row per key, the newest load's answer, whole loads or nothing."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_pipeline.errors import PipelineError
from batch_pipeline.warehouse import Promotion, promote_rows, warehouse

FIELDS = "id VARCHAR, label VARCHAR"
PROVENANCE = "_tier INTEGER, _model VARCHAR, _batch_id VARCHAR, _load VARCHAR"


def promote(
    state: Path,
    load: str,
    answers: Sequence[Sequence[Any]],
    fields: str = FIELDS,
    fingerprint: str = "f",
) -> Promotion:
    """Promotes rows of key and fields, as a load of that day."""
    file = state / "incoming.parquet"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE t ({fields}, {PROVENANCE})")
        marks = ", ".join("?" for _ in range(fields.count(",") + 5))
        for answer in answers:
            connection.execute(f"INSERT INTO t VALUES ({marks})", [*answer, 0, "m", "b", load])
        connection.execute(f"COPY t TO '{file}' (FORMAT parquet)")
    return promote_rows(
        state,
        workload="questions",
        load=load,
        key="id",
        rows=file,
        fingerprint=fingerprint,
        override_reason=None,
    )


def promoted(state: Path, columns: str = "id, label, _load") -> list[Any]:
    with warehouse(state) as connection:
        return connection.execute(
            f"SELECT {columns} FROM promoted.questions ORDER BY id"
        ).fetchall()


def test_a_load_of_no_rows_empties_what_it_had_promoted(tmp_path: Path) -> None:
    promote(tmp_path, "2026-01-01", [("a", "x")])
    assert promote(tmp_path, "2026-01-01", []).removed == 1
    assert promoted(tmp_path) == []


def test_a_promotion_counts_what_it_wrote_removed_and_left_to_newer_loads(tmp_path: Path) -> None:
    promote(tmp_path, "2026-01-02", [("a", "x"), ("b", "x"), ("c", "x")])
    promote(tmp_path, "2026-01-03", [("a", "y")])
    done = promote(tmp_path, "2026-01-02", [("a", "z"), ("b", "x"), ("d", "x")])
    assert done == Promotion("promoted.questions", rows=3, written=1, removed=1, superseded=1)
    assert promoted(tmp_path) == [
        ("a", "y", "2026-01-03"),
        ("b", "x", "2026-01-02"),
        ("d", "x", "2026-01-02"),
    ]


def test_a_field_that_the_contract_gains_becomes_a_column(tmp_path: Path) -> None:
    promote(tmp_path, "2026-01-01", [("a", "x"), ("b", "x")])
    wider = f"{FIELDS}, score DOUBLE"
    promote(tmp_path, "2026-01-02", [("b", "y", 0.5), ("c", "y", 0.7)], wider)
    assert promoted(tmp_path, "id, label, score") == [
        ("a", "x", None),
        ("b", "y", 0.5),
        ("c", "y", 0.7),
    ]


def test_a_field_that_the_contract_loses_is_null_where_a_newer_load_answers(tmp_path: Path) -> None:
    wider = f"{FIELDS}, score DOUBLE"
    promote(tmp_path, "2026-01-01", [("a", "x", 0.5), ("b", "x", 0.5)], wider)
    promote(tmp_path, "2026-01-02", [("b", "x")])
    assert promoted(tmp_path, "id, score") == [("a", 0.5), ("b", None)]


def test_a_name_that_only_changes_its_capitals_is_the_same_column(tmp_path: Path) -> None:
    promote(tmp_path, "2026-01-01", [("a", "x")])
    promote(tmp_path, "2026-01-02", [("a", "y")], "id VARCHAR, Label VARCHAR")
    assert promoted(tmp_path) == [("a", "y", "2026-01-02")]


@pytest.mark.parametrize(
    "fields", ["id VARCHAR, label INTEGER", "id BIGINT, label VARCHAR", "id VARCHAR, LABEL DOUBLE"]
)
def test_a_field_of_another_type_is_refused_in_a_sentence_and_changes_nothing(
    tmp_path: Path, fields: str
) -> None:
    promote(tmp_path, "2026-01-01", [("a", "x")])
    with pytest.raises(PipelineError, match=r"holds \w+ as VARCHAR and the load now has") as raised:
        promote(tmp_path, "2026-01-02", [(1, 2)], fields)
    assert "rename the field" in str(raised.value)
    assert promoted(tmp_path) == [("a", "x", "2026-01-01")]


def test_arrays_and_nulls_are_promoted_as_they_are(tmp_path: Path) -> None:
    fields = "id VARCHAR, tags VARCHAR[], note VARCHAR"
    rows = [("a", ["x", None], None), ("b", [], "n")]
    promote(tmp_path, "2026-01-01", rows, fields)
    assert promoted(tmp_path, "id, tags, note") == rows
    assert promote(tmp_path, "2026-01-01", rows, fields).written == 0


def test_names_that_sql_would_trip_over_are_fine(tmp_path: Path) -> None:
    promote(tmp_path, "2026-01-01", [("a", "x")], 'id VARCHAR, "sel""ect" VARCHAR')
    promote(tmp_path, "2026-01-02", [("a", "y")], 'id VARCHAR, "sel""ect" VARCHAR')
    assert promoted(tmp_path, '"sel""ect"') == [("y",)]


def test_each_set_of_rows_is_entered_once_in_the_history(tmp_path: Path) -> None:
    for fingerprint in ("one", "one", "two"):
        promote(tmp_path, "2026-01-01", [("a", "x")], fingerprint=fingerprint)
    with warehouse(tmp_path) as connection:
        history = connection.execute(
            "SELECT load, fingerprint, rows FROM promoted._promotions ORDER BY promoted_at"
        ).fetchall()
    assert history == [("2026-01-01", "one", 1), ("2026-01-01", "two", 1)]


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    promotions=st.lists(
        st.tuples(
            st.sampled_from(["2026-01-01", "2026-01-02", "2026-01-03"]),
            st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xy"), max_size=4),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_the_table_is_what_the_loads_say_in_whatever_order_they_come(
    tmp_path_factory: pytest.TempPathFactory, promotions: list[tuple[str, dict[str, str]]]
) -> None:
    state = tmp_path_factory.mktemp("warehouse")
    expected: dict[str, tuple[str, str]] = {}
    for load, answers in promotions:
        promote(state, load, list(answers.items()))
        expected = {k: v for k, v in expected.items() if v[1] != load or k in answers}
        for key, label in answers.items():
            if key not in expected or expected[key][1] <= load:
                expected[key] = (label, load)
    assert promoted(state) == [(key, *expected[key]) for key in sorted(expected)]
