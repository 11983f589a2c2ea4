"""What a load cost and saved, from its result files, earlier sendings included."""

from datetime import date
from decimal import Decimal

import duckdb

from batch_pipeline.claude.prices import load_prices
from batch_pipeline.ledger import ChunkState, Load
from batch_pipeline.measure.savings import (
    CostLine,
    Savings,
    line_of_spend,
    mean_price,
    measure_costs,
    merged,
    resent_lines,
    shared_lines,
)
from batch_pipeline.rows import LoadFolder
from batch_pipeline.rows.query import read_parquets
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.cost_history import savings_by_load
from batch_pipeline.stages.load_tables import RESULT_COLUMNS
from batch_pipeline.stages.plan import kept_plan


def costs_of(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load, on: date
) -> Savings:
    """Every dollar of a load, by what it was spent on, and what was saved.

    Args:
        connection: has the table `rows` of the load.
        context: the load.
        record: its record.
        on: the day its requests were made.

    Raises ConfigurationError where a model that answered has no price.
    """
    prices = load_prices(context.settings.prices)
    before = _paid_results(connection, context, record)
    lines = measure_costs(
        connection, "(SELECT * FROM cost_results WHERE NOT taken_over)", prices, on
    )
    shared = connection.execute(
        """
        WITH taken AS (
            SELECT row, coalesce(tier, 0) AS tier FROM cost_results
            WHERE taken_over AND part NOT IN ('resent', 'paid_twice')
              AND result IN ('succeeded', 'reused') AND NOT asked_after_all
        ), firsts AS (SELECT row, min(tier) AS tier FROM taken GROUP BY row)
        SELECT taken.tier, count(*), count(*) FILTER (firsts.tier = taken.tier)
        FROM taken JOIN firsts USING (row) GROUP BY taken.tier ORDER BY taken.tier
        """
    ).fetchall()
    if shared:
        lines += shared_lines(shared, lines, _expected(context, record))
    return Savings(tuple(merged([*before, *lines])))


def _paid_results(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load
) -> list[CostLine]:
    """Makes the temporary view `cost_results`; returns what sendings cost whose files were purged.

    Its columns: those of results, part, lane, disposition; taken_over: it is another request's answer; and
    asked_after_all: it was carried over from an earlier load, and the row was sent all the same.
    """
    from batch_pipeline.stages.kept_scorecards import kept_scorecard

    before: list[CostLine] = []
    paths: list[str] = []
    chunks: list[tuple[str, int, str, str]] = []
    for one in context.ledger.generations(record.workload, record.load):
        if one.purged_at is not None:
            # It counts its own sending and those before it.
            card = kept_scorecard(context.shared, one)
            paths, chunks, before = [], [], []
            if card.savings is not None:
                before = resent_lines(card.savings.lines)
            elif card.spend is not None:
                before = [line_of_spend(card.spend, load_prices(context.settings.prices))]
            continue
        folder = LoadFolder.configured(context.settings, one.workload, one.load, one.generation)
        paths += sorted(str(path) for path in folder.results("x").parent.glob("[!.]*.parquet"))
        chunks += [
            (c.chunk_id, c.generation, c.lane.value, c.state.value)
            for c in context.ledger.chunks(one)
        ]
    # Not through Arrow: an array of values imports pandas, and the scorecard needs it for nothing else.
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE cost_chunks AS SELECT unnest(?::VARCHAR[]) AS chunk_id, "
        "unnest(?::BIGINT[]) AS generation, unnest(?::VARCHAR[]) AS lane, unnest(?::VARCHAR[]) AS state",
        [list(column) for column in zip(*chunks, strict=True)] or [[]] * 4,
    )
    reused, counts = ChunkState.REUSED.value, (ChunkState.SUBMITTED.value, ChunkState.REUSED.value)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP VIEW cost_results AS
        SELECT r.*, coalesce(c.lane, 'batch') AS lane,
               coalesce(rows.disposition, 'open') AS disposition,
               coalesce(r.shared, false) OR coalesce(c.state = '{reused}', false) AS taken_over,
               coalesce(c.state = '{reused}' AND rows.chunk_id <> r.chunk_id, false) AS asked_after_all,
               CASE WHEN coalesce(c.generation, {record.generation}) < {record.generation} THEN 'resent'
                    WHEN coalesce(c.state, '') NOT IN {counts} THEN 'paid_twice'
                    WHEN rows.golden THEN 'golden'
                    WHEN r.attempt > 1 THEN 'retries'
                    WHEN r.tier >= 1 THEN 'escalations'
                    ELSE 'first_answers' END AS part
        FROM {read_parquets(paths, RESULT_COLUMNS)} AS r
        LEFT JOIN cost_chunks AS c USING (chunk_id)
        LEFT JOIN rows ON rows.row = r.row AND c.generation = {record.generation}
        """
    )
    return before


def _expected(context: LoadContext, record: Load) -> dict[int, Decimal]:
    """A request's price by tier: as it was planned, or else as on the last night that paid for one."""
    found: dict[int, Decimal] = {}
    for load, savings in sorted(
        savings_by_load(context.settings, record.workload, record.load).items()
    ):
        if load < record.load:
            found |= mean_price(savings.lines)
    plan = kept_plan(context.folder(record))
    planned = {
        tier: Decimal(repr(each.row_usd)) for tier, each in enumerate(plan.tiers if plan else ())
    }
    return found | planned
