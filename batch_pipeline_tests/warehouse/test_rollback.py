"""A load that is rolled back leaves the table as if it had never been promoted."""

from collections.abc import Callable
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_pipeline.errors import PipelineError
from batch_pipeline.warehouse import NotPromotedHereError, Rollback, roll_back, warehouse
from batch_pipeline.warehouse.place import Where
from batch_pipeline_tests.warehouse.test_promoted_table import FIELDS, promote, promoted

FIRST, SECOND, THIRD = "2026-01-01", "2026-01-02", "2026-01-03"


def undo(where: Where, load: str) -> Rollback | None:
    return roll_back(
        where, workload="questions", load=load, key="id", reason="it was wrong", by="ann"
    )


def undo_if_known(where: Where, load: str) -> Rollback | None:
    try:
        return undo(where, load)
    except NotPromotedHereError:
        return None


def history(where: Where, columns: str) -> list[Any]:
    with warehouse(where) as connection:
        return connection.execute(
            f"SELECT {columns} FROM promoted._promotions ORDER BY promoted_at"
        ).fetchall()


def test_it_counts_what_it_removed_restored_and_left_to_later_loads(where: Where) -> None:
    promote(where, FIRST, [("a", "x"), ("b", "x")])
    promote(where, SECOND, [("b", "y"), ("c", "y"), ("d", "y")])
    promote(where, THIRD, [("d", "z")])
    assert undo(where, SECOND) == Rollback(
        "promoted.questions", rows=3, removed=1, restored=1, kept=1
    )
    assert promoted(where) == [("a", "x", FIRST), ("b", "x", FIRST), ("d", "z", THIRD)]


def test_the_history_says_when_by_whom_and_why(where: Where) -> None:
    promote(where, FIRST, [("a", "x")])
    undo(where, FIRST)
    assert history(
        where, "load, rolled_back_at >= promoted_at, rolled_back_by, rollback_reason"
    ) == [(FIRST, True, "ann", "it was wrong")]


def test_what_is_not_promoted_now_is_nothing_to_roll_back(where: Where) -> None:
    promote(where, FIRST, [("a", "x")])
    undo(where, FIRST)
    assert undo(where, FIRST) is None
    assert promoted(where) == []


def test_a_warehouse_that_never_heard_of_the_load_is_not_the_one_it_was_promoted_to(
    where: Where,
) -> None:
    with pytest.raises(NotPromotedHereError, match="BATCH_PIPELINE_WAREHOUSE"):
        undo(where, FIRST)
    promote(where, FIRST, [("a", "x")])
    with pytest.raises(NotPromotedHereError):
        undo(where, SECOND)
    assert promoted(where) == [("a", "x", FIRST)]


def test_a_chain_of_loads_over_one_key_comes_apart_in_any_order(where: Where) -> None:
    for load, label in ((FIRST, "x"), (SECOND, "y"), (THIRD, "z")):
        promote(where, load, [("a", label)])
    undo(where, SECOND)
    assert promoted(where) == [("a", "z", THIRD)]
    undo(where, THIRD)
    assert promoted(where) == [("a", "x", FIRST)]


def test_a_load_that_was_promoted_late_comes_to_light_when_the_later_one_goes(where: Where) -> None:
    promote(where, SECOND, [("a", "y")])
    promote(where, FIRST, [("a", "x")])
    undo(where, SECOND)
    assert promoted(where) == [("a", "x", FIRST)]


def test_it_can_be_promoted_again_and_that_is_entered_again(where: Where) -> None:
    promote(where, FIRST, [("a", "x")])
    undo(where, FIRST)
    assert promote(where, FIRST, [("a", "x")]).written == 1
    assert promoted(where) == [("a", "x", FIRST)]
    assert history(where, "rolled_back_at IS NULL") == [(False,), (True,)]


def test_a_column_that_came_later_is_empty_in_what_comes_back(where: Where) -> None:
    promote(where, FIRST, [("a", "x"), ("b", "x")])
    promote(where, SECOND, [("a", "y")])
    promote(where, THIRD, [("a", "z", 0.5)], f"{FIELDS}, score DOUBLE")
    undo(where, THIRD)
    assert promoted(where, "id, label, score") == [("a", "y", None), ("b", "x", None)]


def by_an_earlier_release(where: Where) -> None:
    """As a table looks that no release with rollbacks has written: nothing is covered, nothing is complete."""
    with warehouse(where) as connection:
        connection.execute('DROP TABLE IF EXISTS promoted."_covered_questions"')
        connection.execute("UPDATE promoted._promotions SET complete = NULL")


def test_what_an_earlier_release_promoted_first_of_all_can_be_undone(where: Where) -> None:
    promote(where, FIRST, [("a", "x")])
    by_an_earlier_release(where)
    promote(where, SECOND, [("b", "y")])
    assert undo(where, FIRST) == Rollback(
        "promoted.questions", rows=1, removed=1, restored=0, kept=0
    )


def test_what_an_earlier_release_promoted_over_others_is_refused_until_those_are_promoted_again(
    where: Where,
) -> None:
    promote(where, FIRST, [("a", "x")])
    promote(where, SECOND, [("a", "y")])
    by_an_earlier_release(where)
    with pytest.raises(
        PipelineError, match=rf"kept nothing of the rows .* \({FIRST}; .*Nothing was changed"
    ):
        undo(where, SECOND)
    assert promoted(where) == [("a", "y", SECOND)]
    promote(where, FIRST, [("a", "x")])
    undo(where, SECOND)
    assert promoted(where) == [("a", "x", FIRST)]


def test_what_this_release_promoted_over_an_earlier_releases_rows_can_be_undone(
    where: Where,
) -> None:
    promote(where, FIRST, [("a", "x")])
    by_an_earlier_release(where)
    promote(where, SECOND, [("a", "y")])
    undo(where, SECOND)
    assert promoted(where) == [("a", "x", FIRST)]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from([FIRST, SECOND, THIRD]),
            st.none() | st.dictionaries(st.sampled_from("abcd"), st.sampled_from("xy"), max_size=4),
        ),
        min_size=1,
        max_size=7,
    )
)
def test_the_table_is_what_the_loads_that_are_promoted_say_in_whatever_order(
    new_warehouse: Callable[[], Where], steps: list[tuple[str, dict[str, str] | None]]
) -> None:
    """A step without answers rolls the load back."""
    where = new_warehouse()
    loads: dict[str, dict[str, str]] = {}
    for load, answers in steps:
        if answers is None:
            undone = undo_if_known(where, load)
            assert (undone is None) == (load not in loads)
            assert undone is None or undone.rows == len(loads.pop(load))
        else:
            promote(where, load, list(answers.items()))
            loads[load] = answers
    expected = {key: (label, load) for load in sorted(loads) for key, label in loads[load].items()}
    if any(answers is not None for _, answers in steps):
        assert promoted(where) == [(key, *expected[key]) for key in sorted(expected)]
        assert covered(where) == sum(len(rows) for rows in loads.values()) - len(expected)


def covered(where: Where) -> int:
    """How many rows are kept for later; each row of each load is in the table or here."""
    with warehouse(where) as connection:
        try:
            found = connection.execute('SELECT count(*) FROM promoted."_covered_questions"')
            return int((found.fetchone() or (0,))[0])
        except duckdb.CatalogException:
            return 0
