"""The golden score: who is right, and the exact line at which quality has dropped too far."""

from decimal import Decimal
from fractions import Fraction

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_pipeline.measure.golden import GoldenScore, golden_score, grade_rows
from batch_pipeline.workload.contract import Contract


def shares() -> st.SearchStrategy[Decimal]:
    return st.decimals(0, 1, places=4, allow_nan=False)


@pytest.mark.parametrize(
    ("correct", "n", "baseline", "dropped"),
    [
        (11, 100, "0.14", True),
        (12, 100, "0.14", False),
        (87, 100, "0.90", True),
        (88, 100, "0.90", False),
        (29, 50, "0.61", True),
        (67, 100, "0.70", True),
        (97, 100, "1.00", True),
        (98, 100, "1.00", False),
        (869, 1000, "0.899", True),
        (870, 1000, "0.899", False),
        (1, 3, "0.3633", False),
        (1, 3, "0.3634", True),
    ],
)
def test_a_drop_of_exactly_three_points_is_a_drop(
    correct: int, n: int, baseline: str, *, dropped: bool
) -> None:
    assert GoldenScore(correct, n, Decimal(baseline)).dropped_by(Decimal(3)) is dropped


@given(
    n=st.integers(1, 5000),
    share=st.floats(0, 1),
    baseline=shares(),
    points=st.decimals("0.01", 100, places=2),
)
def test_the_line_agrees_with_exact_arithmetic(
    n: int, share: float, baseline: Decimal, points: Decimal
) -> None:
    correct = int(share * n)
    # Without division: 100 * baseline * n - 100 * correct >= points * n.
    exact = 100 * Fraction(baseline) * n - 100 * correct >= Fraction(points) * n
    assert GoldenScore(correct, n, baseline).dropped_by(points) is exact


@given(n=st.integers(1, 300), baseline=shares())
def test_a_better_score_never_closes_the_line(n: int, baseline: Decimal) -> None:
    dropped = [GoldenScore(k, n, baseline).dropped_by(Decimal(3)) for k in range(n + 1)]
    assert dropped == sorted(dropped, reverse=True)


def test_a_score_above_its_baseline_has_a_negative_drop() -> None:
    score = GoldenScore(95, 100, Decimal("0.9"))
    assert (score.score, score.drop_points) == (0.95, -5)


def test_there_is_no_score_of_nothing() -> None:
    assert GoldenScore(0, 0, Decimal("0.9")).score is None


CONTRACT = Contract.from_declaration(
    {
        "label": {"type": "string", "enum": ["a", "b"]},
        "urgency": {"type": "integer"},
        "share": {"type": "number"},
        "urgent": {"type": "boolean"},
        "note": {"type": ["string", "null"]},
    }
)


def grade(answer: str, expected: str, match: list[str]) -> bool:
    """Whether one golden row counts as right. Both are SQL: a struct of the fields, and columns."""
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE rows AS SELECT 0 AS row, 'k' AS key, 0 AS tier, "
            "'validated' AS disposition, true AS golden"
        )
        connection.execute(f"CREATE TABLE answers AS SELECT 0 AS row, {answer} AS fields")
        connection.execute(f"CREATE TABLE golden AS SELECT 0 AS row, {expected}")
        grade_rows(connection, CONTRACT, match)
        score = golden_score(connection, Decimal("0.9"))
    assert score.n == 1
    return score.correct == 1


ANSWER = "{'label': 'a', 'urgency': 3::BIGINT, 'share': 0.5::DOUBLE, 'urgent': true, 'note': NULL::VARCHAR}"


@pytest.mark.parametrize(
    ("expected", "field", "right"),
    [
        ("'a' AS expected_label", "label", True),
        ("'b' AS expected_label", "label", False),
        ("'A' AS expected_label", "label", False),
        ("'3' AS expected_urgency", "urgency", True),
        ("3 AS expected_urgency", "urgency", True),
        ("'4' AS expected_urgency", "urgency", False),
        ("'many' AS expected_urgency", "urgency", False),
        ("'0.50' AS expected_share", "share", True),
        ("'True' AS expected_urgent", "urgent", True),
        ("'false' AS expected_urgent", "urgent", False),
        ("NULL AS expected_note", "note", True),
        ("'x' AS expected_note", "note", False),
        ("NULL AS expected_label", "label", False),
    ],
)
def test_values_are_compared_as_the_contracts_type(
    expected: str, field: str, *, right: bool
) -> None:
    assert grade(ANSWER, expected, [field]) is right


def test_every_field_that_is_matched_must_be_right() -> None:
    expected = "'a' AS expected_label, '3' AS expected_urgency"
    assert grade(ANSWER, expected, ["label", "urgency"])
    assert not grade(ANSWER, "'a' AS expected_label, '9' AS expected_urgency", ["label", "urgency"])
    assert grade(ANSWER, "'a' AS expected_label, '9' AS expected_urgency", ["label"])
