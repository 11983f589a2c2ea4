"""metrics.*: a load's measures as one long table and one line of the wide view."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from batch_pipeline.warehouse import GateRecord, Measure, warehouse, write_metrics
from batch_pipeline.warehouse.metrics import WIDE

PASSED = GateRecord(promote=True, reasons=["all is well"], override_reason=None)
HELD = GateRecord(promote=False, reasons=["it's too dear"], override_reason=None)


def write(state: Path, load: str = "2026-01-01", **changes: Any) -> None:
    arguments: dict[str, Any] = {
        "workload": "questions",
        "load": load,
        "fingerprint": "f",
        "measures": [Measure("validity", 19, 20, 0.95), Measure("cost_usd", 0.5, None, 0.5)],
        "golden_outcomes": None,
        "gate": PASSED,
        **changes,
    }
    write_metrics(state, **arguments)


def query(state: Path, sql: str) -> list[Any]:
    with warehouse(state) as connection:
        return connection.execute(sql).fetchall()


def outcomes(*keys: str) -> pa.Table:
    return pa.table(
        {
            "key": list(keys),
            "tier": pa.array([0 for _ in keys], pa.int32()),
            "disposition": ["validated" for _ in keys],
            "correct": [True for _ in keys],
        }
    )


def test_a_measure_keeps_its_numerator_denominator_and_value(tmp_path: Path) -> None:
    write(tmp_path)
    assert query(
        tmp_path,
        "SELECT * EXCLUDE (measured_at) FROM metrics.measures ORDER BY measure",
    ) == [
        ("questions", "2026-01-01", "cost_usd", 0.5, None, 0.5, "f"),
        ("questions", "2026-01-01", "validity", 19, 20, 0.95, "f"),
    ]


def test_the_wide_view_has_a_line_per_load_and_null_for_what_was_not_measured(
    tmp_path: Path,
) -> None:
    write(tmp_path)
    write(tmp_path, "2026-01-02", measures=[Measure("validity", 1, 1, 1.0)])
    write(tmp_path, workload="other", measures=[Measure("validity", 0, 1, 0.0)])
    assert query(
        tmp_path,
        "SELECT workload, load, validity, cost_usd, golden_score FROM metrics.scorecards ORDER BY ALL",
    ) == [
        ("other", "2026-01-01", 0.0, None, None),
        ("questions", "2026-01-01", 0.95, 0.5, None),
        ("questions", "2026-01-02", 1.0, None, None),
    ]


def test_the_wide_views_columns_are_the_ones_announced(tmp_path: Path) -> None:
    write(tmp_path)
    columns = [row[0] for row in query(tmp_path, "DESCRIBE metrics.scorecards")]
    assert columns == ["workload", "load", *WIDE, "measured_at"]


def test_writing_a_load_again_replaces_it_and_leaves_the_others(tmp_path: Path) -> None:
    write(tmp_path, golden_outcomes=outcomes("a", "b"))
    write(tmp_path, "2026-01-02", golden_outcomes=outcomes("a"))
    write(
        tmp_path,
        measures=[Measure("validity", 20, 20, 1.0)],
        golden_outcomes=outcomes("c"),
        fingerprint="g",
    )
    assert query(
        tmp_path, "SELECT load, measure, value, fingerprint FROM metrics.measures ORDER BY ALL"
    ) == [
        ("2026-01-01", "validity", 1.0, "g"),
        ("2026-01-02", "cost_usd", 0.5, "f"),
        ("2026-01-02", "validity", 0.95, "f"),
    ]
    assert query(tmp_path, "SELECT load, key FROM metrics.golden_outcomes ORDER BY ALL") == [
        ("2026-01-01", "c"),
        ("2026-01-02", "a"),
    ]


def test_a_load_without_a_golden_set_loses_the_outcomes_it_had(tmp_path: Path) -> None:
    write(tmp_path, golden_outcomes=outcomes("a"))
    write(tmp_path)
    assert query(tmp_path, "FROM metrics.golden_outcomes") == []


def test_decisions_of_the_gate_are_kept_once_each(tmp_path: Path) -> None:
    for gate in (HELD, HELD, PASSED, PASSED):
        write(tmp_path, gate=gate)
    assert query(tmp_path, "SELECT promote, reasons FROM metrics.gates ORDER BY decided_at") == [
        (False, ["it's too dear"]),
        (True, ["all is well"]),
    ]


def test_a_write_that_fails_changes_nothing(tmp_path: Path) -> None:
    write(tmp_path, golden_outcomes=outcomes("a"))
    before = query(tmp_path, "FROM metrics.measures ORDER BY ALL")
    with pytest.raises(Exception, match="correct"):
        write(
            tmp_path,
            measures=[Measure("validity", 1, 1, 1.0)],
            golden_outcomes=pa.table({"key": ["b"]}),
        )
    assert query(tmp_path, "FROM metrics.measures ORDER BY ALL") == before
    assert query(tmp_path, "SELECT key FROM metrics.golden_outcomes") == [("a",)]
