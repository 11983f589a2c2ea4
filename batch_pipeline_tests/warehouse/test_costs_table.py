"""metrics.costs, and the savings by load and by month that are read off it."""

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb

from batch_pipeline.measure.savings import CostLine, Savings
from batch_pipeline.measure.spend import TOKENS
from batch_pipeline.stages.cost_history import costs_table, savings_by_load
from batch_pipeline.warehouse import GateRecord, LoadRecord, Measure, warehouse, write_metrics
from batch_pipeline.warehouse.history import cost_lines, month_savings
from batch_pipeline_tests.old_state.restore import restore_warehouse

# As fine as a price gets, and a sum that no binary float holds.
USD = Decimal("0.00000000000001")
LINE = CostLine(
    "first_answers",
    0,
    "batch",
    "claude-haiku-4-5",
    "validated",
    requests=3,
    tokens={kind: 1 + n for n, kind in enumerate(TOKENS)},
    usd={kind: 1000 * USD + n * USD for n, kind in enumerate(TOKENS)},
    saved_batch_usd=Decimal(12345678) + USD,
    saved_cache_usd=-USD,
    plain_input_usd=Decimal("0.5"),
)
LINES = (
    replace(LINE, part="golden"),
    LINE,
    replace(LINE, part="retries", tier=1, disposition="quarantined"),
    replace(LINE, part="asked_once", disposition=None, shared_rows=4, asked_once_usd=Decimal(2)),
)


def write(state: Path, load: str, lines: tuple[CostLine, ...] = LINES, good: int = 10) -> None:
    write_metrics(
        state,
        LoadRecord("questions", load, 1, "declared"),
        fingerprint="f",
        measures=[Measure("cost_per_good_row_usd", 5.0, good, 5.0 / good)],
        gate=GateRecord(promote=True, reasons=["all is well"], override_reason=None),
        costs=costs_table(Savings(lines), 1),
    )


def query(state: Path, sql: str) -> list[Any]:
    with warehouse(state) as connection:
        return connection.execute(sql).fetchall()


def test_lines_are_kept_to_the_last_digit(tmp_path: Path) -> None:
    write(tmp_path, "2026-11-20")

    assert savings_by_load(tmp_path, "questions")["2026-11-20"].lines == LINES
    assert savings_by_load(tmp_path, "questions", until="2026-11-19") == {}


def test_a_load_that_is_graded_again_replaces_its_lines(tmp_path: Path) -> None:
    write(tmp_path, "2026-11-20")
    write(tmp_path, "2026-11-20", LINES[:1])

    assert query(tmp_path, "SELECT part FROM metrics.costs") == [("golden",)]


def test_a_month_sums_its_loads_and_the_good_rows_weigh_their_cost(tmp_path: Path) -> None:
    write(tmp_path, "2026-10-31")
    write(tmp_path, "2026-11-01", good=10)
    write(tmp_path, "2026-11-30", good=30)
    spent = 4 * sum(LINE.usd.values())

    assert query(
        tmp_path,
        "SELECT month, loads, spent_usd, quarantined_usd, asked_once_usd, asked_once_rows, good_rows "
        "FROM metrics.savings_by_month ORDER BY month",
    ) == [
        ("2026-10", 1, spent, spent / 4, 2, 4, 10),
        ("2026-11", 2, 2 * spent, spent / 2, 4, 8, 40),
    ]
    assert query(
        tmp_path,
        "SELECT count(*) FROM metrics.savings "
        "WHERE synchronous_usd <> spent_usd + saved_batch_usd + saved_cache_usd",
    ) == [(0,)]
    months = month_savings(tmp_path, "questions", "2026-11-30")
    assert [line["load"] for line in months] == ["2026-11-01", "2026-11-30"]


def test_the_copies_of_the_savings_need_no_warehouse(tmp_path: Path) -> None:
    write(tmp_path, "2026-11-20")
    for name in ("costs", "savings", "savings_by_month"):
        copy = tmp_path / "metrics" / f"{name}.parquet"
        assert duckdb.execute("FROM read_parquet(?)", [str(copy)]).fetchall() == query(
            tmp_path, f"FROM metrics.{name} ORDER BY ALL"
        )


def test_an_old_warehouse_gets_the_table_and_its_old_loads_have_no_lines(tmp_path: Path) -> None:
    restore_warehouse(tmp_path)
    assert cost_lines(tmp_path, "questions") == {}
    write(tmp_path, "2026-11-20")

    assert list(cost_lines(tmp_path, "questions")) == ["2026-11-20"]
    assert query(tmp_path, "SELECT load FROM metrics.savings") == [("2026-11-20",)]
    assert ("2026-11-16",) in query(tmp_path, "SELECT load FROM metrics.nights")
