"""The tables behind a load's measures, made from its files and the ledger."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date

import duckdb

from batch_pipeline.claude.messages import LOST
from batch_pipeline.claude.price_table import PriceTable
from batch_pipeline.ledger import ChunkState, Lane, Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.measure.spend import TOKENS, Spend, measure_spend
from batch_pipeline.rows import LoadFolder, Place
from batch_pipeline.rows.folder import present
from batch_pipeline.rows.query import read_parquets
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.states import derive_states, live_chunks
from batch_pipeline.workload.data_file import literal

RESULT_COLUMNS = {
    "row": "BIGINT",
    "chunk_id": "VARCHAR",
    "tier": "INTEGER",
    "attempt": "INTEGER",
    "sending": "INTEGER",
    "result": "VARCHAR",
    "stop_reason": "VARCHAR",
    "answer": "VARCHAR",
    "model": "VARCHAR",
    "inference_geo": "VARCHAR",
    "shared": "BOOLEAN",
    "error_type": "VARCHAR",
    **{f"{kind}_tokens": "BIGINT" for kind in TOKENS},
}


def load_tables(connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load) -> None:
    """Makes `rows`, one line per row of the load, `sendings`, one per result, and `source`, what was sent."""
    folder = context.folder(record)
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW source AS FROM read_parquet({literal(str(folder.source))})"
    )
    chunks = live_chunks(context.ledger.chunks(record))
    again = [literal(c.chunk_id) for c in chunks if c.state is ChunkState.REUSED]
    reused = f"coalesce(chunk_id IN ({', '.join(again) or 'NULL'}), false) AS reused"
    if record.phase is Phase.SETTLED:
        connection.execute(
            f"CREATE TEMP TABLE rows AS SELECT *, {reused} FROM read_parquet(?)",
            [str(folder.dispositions)],
        )
    else:
        derive_states(connection, context, record)
        connection.execute(
            "CREATE TEMP TABLE rows AS SELECT row, golden, key, disposition, "
            "disposition_reason AS reason, tier, top_tier, attempt, coalesce(sending, 0) AS attempts, "
            f"chunk_id, {reused} FROM states"
        )
    results = read_parquets(present(folder.results(c.chunk_id) for c in chunks), RESULT_COLUMNS)
    verdicts = read_parquets(
        present(folder.verdicts(c.chunk_id) for c in chunks),
        {"row": "BIGINT", "chunk_id": "VARCHAR", "outcome": "VARCHAR"},
    )
    connection.execute(
        "CREATE TEMP VIEW sendings AS SELECT r.* REPLACE (coalesce(r.shared, false) AS shared), "
        f"rows.golden, v.outcome FROM {results} AS r "
        f"JOIN rows USING (row) LEFT JOIN {verdicts} AS v ON v.row = r.row AND v.chunk_id = r.chunk_id"
    )


def load_answers(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load, folder: LoadFolder
) -> None:
    """Makes the temporary view `answers`: row, chunk_id and the struct `fields` of each final valid answer."""
    contract = context.workload.contract
    struct = ", ".join(f'"{f.name}" {contract.duckdb_type(f)}' for f in contract.fields)
    answering = (ChunkState.SUBMITTED, ChunkState.REUSED)
    answered = [c for c in context.ledger.chunks(record) if c.state in answering]
    verdicts = read_parquets(
        present(folder.verdicts(c.chunk_id) for c in answered),
        {
            "row": "BIGINT",
            "chunk_id": "VARCHAR",
            "outcome": "VARCHAR",
            "fields": f"STRUCT({struct})",
        },
    )
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW answers AS SELECT v.row, v.chunk_id, v.fields FROM {verdicts} AS v "
        "JOIN rows ON rows.row = v.row AND rows.chunk_id = v.chunk_id "
        "WHERE v.outcome = 'valid' AND rows.disposition = 'validated'"
    )


@dataclass(frozen=True)
class Paid:
    """Result files that were paid for, by the lane whose price they have; and what those cost that were purged."""

    batch: list[str]
    sync: list[str]
    before: Spend | None
    # What a request of each chunk should cost at most; None where nobody has estimated it.
    bounds: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def files(self) -> list[str]:
        return [*self.batch, *self.sync]

    def unpriced(self, connection: duckdb.DuckDBPyConnection) -> tuple[int, float | None]:
        """Requests whose cost nobody knows, and what they cost at most (None where that is not known either).

        Their results are gone from the API, or their synchronous answer was lost.
        """
        batch, sync = (read_parquets(paths, RESULT_COLUMNS) for paths in (self.batch, self.sync))
        found = connection.execute(
            f"SELECT chunk_id, count(*) FROM {batch} WHERE result = 'gone' AND NOT coalesce(shared, false) "
            f"GROUP BY ALL UNION ALL SELECT chunk_id, count(*) FROM {sync} WHERE (result = 'gone' OR "
            f"result = 'errored' AND error_type IN {LOST}) AND NOT coalesce(shared, false) GROUP BY ALL"
        ).fetchall()
        most = [self.bounds.get(chunk_id) for chunk_id, _ in found]
        usd = sum(n * bound for (_, n), bound in zip(found, most, strict=True) if bound is not None)
        return sum(n for _, n in found), None if None in most else usd

    def measure(self, connection: duckdb.DuckDBPyConnection, prices: PriceTable, on: date) -> Spend:
        """What all of it cost. Raises ConfigurationError as `measure_spend`."""
        batch, sync = (read_parquets(paths, RESULT_COLUMNS) for paths in (self.batch, self.sync))
        spend = measure_spend(connection, batch, prices, on)
        if self.sync:
            spend += measure_spend(connection, sync, prices, on, batch=False)
        return spend if self.before is None else spend + self.before


def paid_for(context: LoadContext, record: Load) -> Paid:
    """All results of a load that were paid for.

    Rows that were sent again on purpose were paid for before, too. A kept scorecard counts its own
    generation and those before it.
    """
    from batch_pipeline.stages.kept_scorecards import kept_scorecard

    batch: list[str] = []
    sync: list[str] = []
    before: Spend | None = None
    bounds: dict[str, float | None] = {}
    for one in context.ledger.generations(record.workload, record.load):
        if one.purged_at is not None:
            batch, sync, before = [], [], kept_scorecard(context.shared, one).spend
            continue
        folder = LoadFolder.configured(context.settings, one.workload, one.load, one.generation)
        chunks = context.ledger.chunks(one)
        at_full_price = {c.chunk_id for c in chunks if c.lane is Lane.SYNC}
        bounds |= {
            c.chunk_id: None if c.bound_usd is None else c.bound_usd / max(c.requests, 1)
            for c in chunks
        }
        found: list[Place] = list(folder.results("x").parent.glob("[!.]*.parquet"))
        for path in sorted(found, key=str):
            (sync if path.stem in at_full_price else batch).append(str(path))
    return Paid(batch, sync, before, bounds)
