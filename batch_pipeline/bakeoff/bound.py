"""What a bake-off could cost at most, guessed from the size of its requests before any is sent."""

from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb

from batch_pipeline.bakeoff.candidates import Bakeoff, begun
from batch_pipeline.claude.prices import load_prices
from batch_pipeline.rows.query import querying, quoted
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.requests import request_maker

# English has a token for every four bytes or so, JSON and many scripts one for every three: two leaves room, also
# for a prefix that is written into the cache.
BYTES_PER_TOKEN = 2
_ROWS_AT_A_TIME = 1_000


@dataclass(frozen=True)
class Bound:
    """Requests, and what they cost at most in US dollars: long inputs, and every answer as long as it may be."""

    requests: int
    usd: Decimal


def bound(bakeoff: Bakeoff) -> dict[str, Bound]:
    """By model, for those that are not begun yet."""
    with querying(bakeoff.candidates[0].scratch) as connection:
        return {
            model: _bound(connection, candidate, bakeoff.rows)
            for model, candidate in zip(bakeoff.models, bakeoff.candidates, strict=True)
            if not begun(candidate)
        }


def _bound(connection: duckdb.DuckDBPyConnection, candidate: LoadContext, rows: Path) -> Bound:
    workload = candidate.workload
    tier, columns = workload.spec.tiers[0], workload.prompt.columns
    request_of = request_maker(workload, 0, "none", 0)
    prices, today = load_prices(candidate.settings.prices), datetime.now(UTC).date()
    more = prices.facts(tier.model).us_multiplier if tier.inference_geo == "us" else Decimal(1)
    named = ", ".join(quoted(column) for column in columns)
    reader = connection.sql(
        f"SELECT {named} FROM read_parquet(?)", params=[str(rows)]
    ).to_arrow_reader(_ROWS_AT_A_TIME)
    requests, usd = 0, Decimal(0)
    for block in reader:
        for row in block.to_pylist():
            try:
                size = len(request_of("", row))
            except Exception:  # noqa: BLE001, S112 - a template may raise anything at a row; it is not sent then
                continue
            tokens = -(-size // BYTES_PER_TOKEN)
            price = prices.price_for(tier.model, today, batch=True, prompt_tokens=tokens)
            usd += price.cost(input_tokens=tokens, output_tokens=tier.max_tokens) * more
            requests += 1
    return Bound(requests, usd)
