"""Undoes a promotion: afterwards the table is as if that load had never been promoted."""

from dataclasses import dataclass
from datetime import UTC, datetime

import duckdb

from batch_pipeline.errors import PipelineError
from batch_pipeline.rows.query import quoted
from batch_pipeline.warehouse import covered_rows
from batch_pipeline.warehouse.connection import in_transaction
from batch_pipeline.warehouse.place import Where, lake_of
from batch_pipeline.warehouse.promoted import create_history, take_turn


class NotPromotedHereError(PipelineError):
    """The system of record that was looked at has never heard of the load."""

    def __init__(self, place: str, workload: str, load: str, setting: str) -> None:
        super().__init__(
            f"{place} knows of no promotion of {workload} {load}, and the ledger says that it was promoted; look "
            f"whether {setting} is what it was then. Nothing was changed."
        )


@dataclass(frozen=True)
class Rollback:
    """`rows` that the load had promoted.

    Of them `removed` from the table without another in their place; `restored` to the row of the load that had
    the key before; `kept` as they are, since later loads own their keys.
    """

    table: str
    rows: int
    removed: int
    restored: int
    kept: int


def roll_back(
    where: Where, *, workload: str, load: str, key: str, reason: str, by: str
) -> Rollback | None:
    """Takes a load out of `promoted.<workload>` in one transaction; None where that was done before.

    Each key that the load owned goes back to the newest other promoted load that has it.

    Raises:
        NotPromotedHereError: it was never promoted there.
        PipelineError: an earlier release promoted it, and did not keep what it replaced.
    """

    def work(connection: duckdb.DuckDBPyConnection) -> Rollback | None:
        create_history(connection)
        lines = connection.execute(
            "SELECT load, bool_and(coalesce(complete, false)), bool_or(coalesce(complete, false)) "
            "FROM promoted._promotions WHERE workload = ? AND rolled_back_at IS NULL AND load <= ? GROUP BY load "
            "ORDER BY load",
            [workload, load],
        ).fetchall()
        if not lines or lines[-1][0] != load:
            undone = connection.execute(
                "SELECT count(*) FROM promoted._promotions WHERE workload = ? AND load = ?",
                [workload, load],
            )
            if _count(undone):
                return None
            raise NotPromotedHereError(
                "The warehouse",
                workload,
                load,
                "BATCH_PIPELINE_WAREHOUSE, or BATCH_PIPELINE_STATE,",
            )
        *earlier, (_, complete, _) = lines
        # A load that was promoted again since has all its rows in the two tables.
        lost = [] if complete else [name for name, _, kept in earlier if not kept]
        if lost:
            raise PipelineError(_incomplete(workload, load, lost))
        done = _take_back(connection, workload, load, key)
        connection.execute(
            "UPDATE promoted._promotions SET rolled_back_at = ?, rolled_back_by = ?, rollback_reason = ? "
            "WHERE workload = ? AND load = ? AND rolled_back_at IS NULL",
            [datetime.now(UTC).replace(tzinfo=None), by, reason, workload, load],
        )
        if lake_of(where) is not None:
            take_turn(connection, workload, f"{load} rolled back")
        return done

    return in_transaction(where, work)


def _take_back(
    connection: duckdb.DuckDBPyConnection, workload: str, load: str, key: str
) -> Rollback:
    table, k = f"promoted.{quoted(workload)}", quoted(key)
    connection.execute(
        f"CREATE TEMP TABLE gone AS SELECT {k} FROM {table} WHERE _load = $load", {"load": load}
    )
    owned = _count(connection.execute(f"DELETE FROM {table} WHERE _load = ?", [load]))
    kept = restored = 0
    if covered_rows.exist(connection, workload):
        kept = _count(
            connection.execute(
                f"DELETE FROM {covered_rows.table(workload)} WHERE _load = ?", [load]
            )
        )
        restored = covered_rows.bring_back(connection, workload, key)
    return Rollback(f"promoted.{workload}", owned + kept, owned - restored, restored, kept)


def _incomplete(workload: str, load: str, lost: list[str]) -> str:
    few = ", ".join(lost[-3:])
    return (
        f"An earlier release promoted {workload} {load} and kept nothing of the rows that it replaced; promote the "
        f"loads before it once more first ({f'{few} the last of {len(lost)}' if len(lost) > 3 else few}; "
        f"`batch-pipeline promote {workload} --date {lost[-1]} --reason ...`), then roll it back. Nothing was changed."
    )


def _count(cursor: duckdb.DuckDBPyConnection) -> int:
    row = cursor.fetchone()
    return int(row[0]) if row else 0
