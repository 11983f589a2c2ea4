"""What is left of the budgets for a load that is estimated, as `run` would reckon; writes nothing down."""

from collections.abc import Iterator
from dataclasses import replace

import duckdb

from batch_pipeline.claude.prices import load_prices
from batch_pipeline.ledger import Chunk, Lane, Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.ledger.transactions import now
from batch_pipeline.rows import LoadFolder
from batch_pipeline.stages.bakeoff_name import bakeoff_name
from batch_pipeline.stages.budget import Budget, budgets
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.load_tables import Paid, paid_for

_A_LOAD = "gates.max_cost_usd"


def cost_so_far(connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load) -> float:
    """US dollars of a load's answers that were read back, its earlier generations included."""
    table = load_prices(context.settings.prices)
    spend = paid_for(context, record).measure(connection, table, record.created_at.date())
    return float(spend.total_usd)


def budgets_before(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load, *, begun: bool
) -> list[Budget]:
    """The declared budgets, and what is committed of them beside the load that is estimated.

    Of a settled load the next one like it is estimated: it has a load's budget to itself, and shares the month
    with it. Of a load that is under way its own batches are part of the estimate, and are not counted twice.
    """
    first = now().replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    known = list(_known_now(connection, context))
    settled = begun and record.phase is Phase.SETTLED
    found = []
    for budget in budgets(context, record):
        of_load = budget.option == _A_LOAD
        since = None if of_load else first
        if of_load and settled:
            committed = 0.0
        else:
            committed = budget.committed + sum(
                more
                for chunk, more in known
                if (not of_load or _is_of(chunk, record))
                and (since is None or chunk.intended_at >= since)
                and (settled or not begun or not _is_of(chunk, record))
            )
            if begun and not settled:
                committed -= context.ledger.committed_usd(
                    record.workload, load=record.load, since=since
                )
        found.append(replace(budget, committed=max(committed, 0.0)))
    return found


def _is_of(chunk: Chunk, record: Load) -> bool:
    return (chunk.workload, chunk.load) == (record.workload, record.load)


def _known_now(
    connection: duckdb.DuckDBPyConnection, context: LoadContext
) -> Iterator[tuple[Chunk, float]]:
    """By how much each batch that was read back differs from the bound with which it still counts."""
    ledger, name = context.ledger, context.workload.name
    table = load_prices(context.settings.prices)
    for chunk, batch in ledger.unpriced(name) + ledger.unpriced(bakeoff_name(name)):
        folder = LoadFolder.configured(
            context.settings, chunk.workload, chunk.load, chunk.generation
        )
        path = folder.results(chunk.chunk_id)
        if not path.is_file():
            continue
        here, none = [str(path)], list[str]()
        files = (none, here) if chunk.lane is Lane.SYNC else (here, none)
        bound = chunk.bound_usd or 0.0
        paid = Paid(*files, None, {chunk.chunk_id: bound / max(chunk.requests, 1)})
        spent = paid.measure(connection, table, batch.created_at.date()).total_usd
        _, unknown = paid.unpriced(connection)
        yield chunk, float(spent) + (unknown or 0.0) - bound
