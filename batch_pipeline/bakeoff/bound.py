"""What a bake-off could cost at most, guessed from the size of its requests, and held against what it may."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import duckdb

from batch_pipeline.bakeoff.candidates import Bakeoff
from batch_pipeline.claude.prices import load_prices
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import ChunkState
from batch_pipeline.measure.money import usd
from batch_pipeline.rows.query import querying, quoted
from batch_pipeline.stages.budget import Budget, month_budget, price_collected
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.requests import request_maker

# English has a token for every four bytes or so, JSON and many scripts one for every three: two leaves room, also
# for a prefix that is written into the cache.
BYTES_PER_TOKEN = 2
_ROWS_AT_A_TIME = 1_000
# The API accepted it, or nobody knows that it did not: it counts as spent or under way, and is not sent again.
_ACCEPTED = (ChunkState.INTENT, ChunkState.SUBMITTED)


@dataclass(frozen=True)
class Bound:
    """Requests, and what they cost at most in US dollars: long inputs, and every answer as long as it may be."""

    requests: int
    usd: Decimal


def bound(bakeoff: Bakeoff) -> dict[str, Bound]:
    """By model, for those of which nothing was sent yet."""
    with querying(bakeoff.candidates[0].scratch) as connection:
        return {
            model: _bound(connection, candidate, bakeoff.rows)
            for model, candidate in zip(bakeoff.models, bakeoff.candidates, strict=True)
            if not _sent(candidate)
        }


def checked_bound(bakeoff: Bakeoff, max_usd: float | None = None, *, option: str) -> str | None:
    """What remains to be sent, in a sentence; None where nothing does.

    Args:
        bakeoff: of which something may have been sent.
        max_usd: most that it may cost, in US dollars; the workload's gates.max_cost_usd_per_month holds besides.
        option: what `max_usd` is called where it was given.

    Raises ConfigurationError where it could cost more than either leaves.
    """
    if bakeoff.finished:
        return None
    guesses = bound(bakeoff)
    requests = sum(each.requests for each in guesses.values())
    if not requests:
        return None
    total = sum((each.usd for each in guesses.values()), Decimal(0))
    nothing = "Nothing more was sent" if len(guesses) < len(bakeoff.models) else "Nothing was sent"
    said = (
        f"{requests:,} requests to {_models(len(guesses))} cost at most about {usd(total)}, guessed from their "
        "size"
    )
    if max_usd is not None and total > Decimal(str(max_usd)):
        raise ConfigurationError(
            f"{said}: more than {option} {max_usd:g}. {nothing}; name fewer models, or allow more."
        )
    month = _month(bakeoff)
    if month is not None and total + Decimal(str(month.committed)) > month.limit:
        left, spent = "", ""
        if month.committed:
            left, spent = "is left of ", f", of which {usd(month.committed)} are spent or under way"
        raise ConfigurationError(
            f"{said}: more than {left}the {usd(month.limit)} that {month.option} allows {month.what}{spent}. "
            f"{nothing}; name fewer models, raise it, or wait for the next month."
        )
    return f"{said}."


def _month(bakeoff: Bakeoff) -> Budget | None:
    one = bakeoff.candidates[0]
    # The candidates have no budget of their own: it is their workload's.
    context = replace(one, workload=bakeoff.workload)
    # What was read back and not priced yet would count with its bound.
    price_collected(context)
    return month_budget(context.workload, context.ledger)


def _sent(candidate: LoadContext) -> bool:
    record = candidate.ledger.load(candidate.workload.name, candidate.load)
    return record is not None and any(
        chunk.state in _ACCEPTED for chunk in candidate.ledger.chunks(record)
    )


def _models(count: int) -> str:
    return "1 model" if count == 1 else f"{count:,} models"


def _bound(connection: duckdb.DuckDBPyConnection, candidate: LoadContext, rows: Path) -> Bound:
    workload = candidate.workload
    tier, columns = workload.spec.tiers[0], workload.prompt.columns
    request_of = request_maker(workload, 0)
    prices, today = load_prices(candidate.settings.prices), datetime.now(UTC).date()
    more = prices.facts(tier.model).us_multiplier if tier.inference_geo == "us" else Decimal(1)
    named = ", ".join(quoted(column) for column in columns)
    reader = connection.sql(
        f"SELECT {named} FROM read_parquet(?)", params=[str(rows)]
    ).to_arrow_reader(_ROWS_AT_A_TIME)
    requests, most = 0, Decimal(0)
    for block in reader:
        for row in block.to_pylist():
            try:
                size = len(request_of("", row))
            except Exception:  # noqa: BLE001, S112 - a template may raise anything at a row; it is not sent then
                continue
            tokens = -(-size // BYTES_PER_TOKEN)
            price = prices.price_for(tier.model, today, batch=True, prompt_tokens=tokens)
            most += price.cost(input_tokens=tokens, output_tokens=tier.max_tokens) * more
            requests += 1
    return Bound(requests, most)
