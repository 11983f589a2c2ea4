"""metrics.*: a load's measures as one long table and one line of the wide view."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from prometheus_client.parser import text_string_to_metric_families

from batch_pipeline.warehouse import GateRecord, LoadRecord, Measure, warehouse, write_metrics
from batch_pipeline.warehouse.metrics import COPIED, WIDE
from batch_pipeline.warehouse.prometheus import write_prometheus

PASSED = GateRecord(promote=True, reasons=["all is well"], override_reason=None)
HELD = GateRecord(promote=False, reasons=["it's too dear"], override_reason=None)


def write(
    state: Path, load: str = "2026-01-01", workload: str = "questions", **changes: Any
) -> None:
    arguments: dict[str, Any] = {
        "record": LoadRecord(workload, load, 1, "declared"),
        "fingerprint": "f",
        "measures": [Measure("validity", 19, 20, 0.95), Measure("cost_usd", 0.5, None, 0.5)],
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


def test_the_copies_can_be_read_while_another_process_writes_to_the_warehouse(
    tmp_path: Path,
) -> None:
    write(tmp_path, golden_outcomes=outcomes("a", "b"))
    code = f"import duckdb; print(duckdb.sql(\"FROM '{tmp_path}/metrics/nights.parquet'\").fetchall()[0][:2])"
    with warehouse(tmp_path):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
    assert done.stdout.strip() == "('questions', '2026-01-01')"


def test_every_table_and_the_nights_have_a_copy_that_holds_the_same(tmp_path: Path) -> None:
    write(tmp_path, golden_outcomes=outcomes("a", "b"))
    write(tmp_path, "2026-01-02")
    for name in COPIED:
        copy = duckdb.execute(
            "FROM read_parquet(?)", [str(tmp_path / "metrics" / f"{name}.parquet")]
        ).fetchall()
        assert sorted(map(repr, copy)) == sorted(
            map(repr, query(tmp_path, f"FROM metrics.{name}"))
        ), name


def test_prometheus_reads_the_newest_load_of_each_workload(tmp_path: Path) -> None:
    write(tmp_path, "2026-01-02", measures=[Measure("validity", 1, 2, 0.5)])
    write(tmp_path, "2026-01-01")
    write(tmp_path, workload="other", gate=HELD)
    families = text_string_to_metric_families(write_prometheus(tmp_path).read_text())
    found = {
        (sample.name, sample.labels["workload"]): sample.value
        for family in families
        for sample in family.samples
    }
    assert found["batch_pipeline_validity", "questions"] == 0.5
    assert found["batch_pipeline_promote", "questions"] == 1
    assert found["batch_pipeline_promote", "other"] == 0
    assert ("batch_pipeline_cost_usd", "questions") not in found
    assert found["batch_pipeline_load_timestamp_seconds", "questions"] == 1_767_312_000
