"""What tokens cost: the price of one request, and the spend of a file of results in SQL."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_pipeline.claude.price_table import (
    MILLION,
    ModelFacts,
    Price,
    PriceTable,
    Rates,
    read_table,
    unknown_model,
)
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import Settings

if TYPE_CHECKING:
    import duckdb

__all__ = [
    "CATEGORIES",
    "ModelFacts",
    "Price",
    "PriceTable",
    "Rates",
    "known_models",
    "load_prices",
    "price_for",
    "priced_sql",
    "register_prices",
    "require_prices",
    "spend_sql",
]

CATEGORIES = ("input", "output", "cache_write_5m", "cache_write_1h", "cache_read")

_SHIPPED = Path(__file__).with_name("prices.yaml")
# 6 decimals per million tokens, one more when halved for a batch and another times 1.1: 14 per token.
_SQL_TYPE = "DECIMAL(18, 14)"
_ALIAS = "regexp_replace({}, '-[0-9]{{8}}$', '')"


def load_prices(extra: Path | None = None) -> PriceTable:
    """The shipped table, with the models of `extra` added, and its prices and facts put over what is known.

    A model of `extra` may leave out what it does not know; cache rates are then the usual 1.25, 2 and
    0.1 times its input rate.

    Raises:
        ConfigurationError: `extra` is not readable or not such a table; names the model and the key.
    """
    shipped = _shipped()
    return shipped if extra is None else read_table(extra, shipped)


def price_for(model: str, on: date, *, batch: bool, prompt_tokens: int | None = None) -> Price:
    """`PriceTable.price_for` of the table that the environment asks for."""
    return _configured().price_for(model, on, batch=batch, prompt_tokens=prompt_tokens)


def known_models() -> tuple[str, ...]:
    """The models of the table that the environment asks for."""
    return _configured().known_models()


def register_prices(
    connection: duckdb.DuckDBPyConnection,
    on: date,
    *,
    batch: bool,
    prices: PriceTable | None = None,
) -> None:
    """Makes the temporary table `prices`, which `spend_sql` reads: USD per token on that day.

    Rates are DECIMAL, so that a sum is exact and the same in whatever order threads add it up.

    Args:
        connection: where the table is made, or made again.
        on: the day the batches are processed.
        batch: at half price.
        prices: the table; by default the one that the environment asks for.
    """
    table = prices or _configured()
    factor = (table.batch_multiplier if batch else Decimal(1)) / MILLION
    lines: list[tuple[Any, ...]] = []
    for facts in table.models.values():
        dated = facts.on(on)
        levels: list[tuple[int, int | None, Rates]] = [(0, dated.threshold, dated.rates)]
        if dated.above is not None and dated.threshold is not None:
            levels.append((dated.threshold + 1, None, dated.above))
        for us, multiplier in ((False, Decimal(1)), (True, facts.us_multiplier)):
            lines += [
                (facts.model, us, low, high, *_in_order(rates.times(factor * multiplier)))
                for low, high, rates in levels
            ]
    columns = ", ".join(f"{category} {_SQL_TYPE}" for category in CATEGORIES)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE prices (model VARCHAR, us BOOLEAN, prompt_from BIGINT,"
        f" prompt_to BIGINT, {columns})"
    )
    # One statement for all: line by line it takes thirty times as long.
    marks = ", ".join(f"({', '.join('?' for _ in line)})" for line in lines)
    connection.execute(
        f"INSERT INTO prices VALUES {marks}", [value for line in lines for value in line]
    )


def spend_sql(results: str) -> str:
    """A SELECT of every line of `results` with what it cost: usd_<category> each, and `usd`, their sum.

    `results` is SQL for a relation (a name, or a query in parentheses) with the columns result,
    stop_reason, answer, model, inference_geo and <category>_tokens; `register_prices` was called on the
    connection. Only succeeded requests are billed, and of refusals only those after some output: the
    usage of the others counts tokens that nobody pays. A billed line of a model without a price raises
    in SQL rather than cost nothing; `require_prices` says so beforehand, in a sentence.
    """
    tokens = {category: f"coalesce(line.{category}_tokens, 0)" for category in CATEGORIES}
    prompt = " + ".join(sql for category, sql in tokens.items() if category != "output")
    usd = ", ".join(
        f"CASE WHEN line._billed THEN {tokens[category]} * price.{category} ELSE 0 END"
        f" AS usd_{category}"
        for category in CATEGORIES
    )
    total = " + ".join(f"usd_{category}" for category in CATEGORIES)
    unpriced = "'no price for model ' || coalesce(line.model, 'NULL')"
    return f"""
        SELECT line.* EXCLUDE (_billed), {usd},
               CASE WHEN line._billed AND price.model IS NULL THEN error({unpriced})
                    ELSE {total} END AS usd
        FROM (SELECT *, {_BILLED} AS _billed FROM {results}) AS line
        LEFT JOIN prices AS price
          ON price.model = {_ALIAS.format("line.model")}
         AND price.us = (coalesce(line.inference_geo, '') = 'us')
         AND {prompt} BETWEEN price.prompt_from AND coalesce(price.prompt_to, 9223372036854775807)
    """


def priced_sql(results: str) -> str:
    """A SELECT of the billed lines of `results`, each with rate_<category>: USD per token as `prices` has them.

    `results` is as `spend_sql` reads it, `register_prices` and `require_prices` were called before. Which
    lines are billed, and which rates a line has, is as there.
    """
    prompt = " + ".join(
        f"coalesce(line.{category}_tokens, 0)" for category in CATEGORIES if category != "output"
    )
    rates = ", ".join(f"price.{category} AS rate_{category}" for category in CATEGORIES)
    return f"""
        SELECT line.*, {rates}
        FROM (SELECT * FROM {results} WHERE {_BILLED}) AS line
        JOIN prices AS price
          ON price.model = {_ALIAS.format("line.model")}
         AND price.us = (coalesce(line.inference_geo, '') = 'us')
         AND {prompt} BETWEEN price.prompt_from AND coalesce(price.prompt_to, 9223372036854775807)
    """


def require_prices(
    connection: duckdb.DuckDBPyConnection, results: str, prices: PriceTable | None = None
) -> None:
    """Raises ConfigurationError where a billed line of `results` is of a model without a price."""
    table = prices or _configured()
    models = connection.execute(
        f"SELECT DISTINCT coalesce(model, 'NULL') FROM {results} WHERE {_BILLED} ORDER BY 1"
    ).fetchall()
    for (model,) in models:
        if not table.knows(model):
            raise ConfigurationError(unknown_model(model, table))


_BILLED = """(coalesce(result, '') = 'succeeded'
              AND NOT (coalesce(stop_reason, '') = 'refusal' AND coalesce(answer, '') = ''))"""


def _in_order(rates: Rates) -> tuple[Decimal, ...]:
    return tuple(getattr(rates, category) for category in CATEGORIES)


def _configured() -> PriceTable:
    return load_prices(Settings.from_environment().prices)


@lru_cache(maxsize=1)
def _shipped() -> PriceTable:
    return read_table(_SHIPPED, None)
