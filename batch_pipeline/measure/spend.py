"""What a load cost, from each result's own usage, and how much of its input came from the cache."""

from dataclasses import dataclass
from datetime import date

import duckdb

from batch_pipeline.claude.prices import PriceTable, register_prices, require_prices, spend_sql

TOKENS = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")


@dataclass(frozen=True)
class Spend:
    """Billed tokens and US dollars by kind. Golden rows, retries and escalations are included."""

    tokens: dict[str, int]
    usd: dict[str, float]
    usd_by_tier: dict[int, float]

    @property
    def total_usd(self) -> float:
        return sum(self.usd.values())

    def __add__(self, other: "Spend") -> "Spend":
        tiers = sorted({*self.usd_by_tier, *other.usd_by_tier})
        return Spend(
            tokens={kind: self.tokens[kind] + other.tokens[kind] for kind in TOKENS},
            usd={kind: self.usd[kind] + other.usd[kind] for kind in TOKENS},
            usd_by_tier={
                tier: self.usd_by_tier.get(tier, 0.0) + other.usd_by_tier.get(tier, 0.0)
                for tier in tiers
            },
        )

    @property
    def cache_hit_rate(self) -> float | None:
        """Cache reads over all input tokens: a ratio of sums, never a mean of ratios."""
        everything = sum(self.tokens[kind] for kind in TOKENS if kind != "output")
        return self.tokens["cache_read"] / everything if everything else None


def measure_spend(
    connection: duckdb.DuckDBPyConnection,
    paid: str,
    prices: PriceTable,
    on: date,
    *,
    batch: bool = True,
) -> Spend:
    """Prices every result of `paid` from its own usage.

    Args:
        connection: where temporary tables are made.
        paid: SQL of a relation of result lines: tier, and the columns that `spend_sql` reads.
        prices: the price table.
        on: the day the requests were made.
        batch: at the price of batches, which is half that of the synchronous API.

    Raises ConfigurationError where a model that answered has no price.
    """
    require_prices(connection, paid, prices)
    register_prices(connection, on, batch=batch, prices=prices)
    # A refusal before any output reports tokens that nobody pays; counted, they would not explain the cost.
    sums = ", ".join(
        f"coalesce(sum({kind}_tokens) FILTER (usd > 0), 0), sum(usd_{kind})" for kind in TOKENS
    )
    rows = connection.execute(
        f"SELECT tier, sum(usd), {sums} FROM ({spend_sql(paid)}) GROUP BY tier ORDER BY tier"
    ).fetchall()
    totals = [[row[2 + i] for row in rows] for i in range(2 * len(TOKENS))]
    return Spend(
        tokens={kind: int(sum(totals[2 * i])) for i, kind in enumerate(TOKENS)},
        usd={kind: float(sum(totals[2 * i + 1])) for i, kind in enumerate(TOKENS)},
        usd_by_tier={row[0]: float(row[1]) for row in rows},
    )
