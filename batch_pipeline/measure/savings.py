"""What a load would have cost, what was saved, and what its dollars were spent on: from each result's own usage.

    synchronous = spent + saved by batching + saved by caching

`synchronous` is what the same requests cost one by one, without a cache: every input token, cached or not, and
every output token at the full rate of that request (its model, its day, the length of its prompt, the region).
`saved by batching` is what was paid in the batch lane at full rates less what was paid; `saved by caching` is all
input at the plain rate less the same tokens at their cache rates, both at full rates, and negative where the
writes cost more than the reads saved.

Tokens are summed in SQL and priced in decimals, so that the parts add up to the last digit.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal, localcontext
from typing import Any

import duckdb

from batch_pipeline.claude.prices import PriceTable, priced_sql, register_prices, require_prices
from batch_pipeline.measure.spend import TOKENS, Spend

INPUTS = tuple(kind for kind in TOKENS if kind != "output")
WRITES = ("cache_write_5m", "cache_write_1h")
# What production rows were paid for. `retries` are attempts after the first at any tier, `escalations` first
# attempts above tier 0, and `paid_twice` results of which only another's answer counts.
PRODUCTION = ("first_answers", "retries", "escalations")
# `resent` is what earlier sendings of the load cost, which a person asked to be done again.
PARTS = ("golden", *PRODUCTION, "paid_twice", "resent")
# Rows that were not asked, since their answer was there. Their line has no spend.
ASKED_ONCE = "asked_once"

_ZERO = Decimal(0)
_PLACES = Decimal("1e-14")
_DIGITS = 60


@dataclass(frozen=True)
class CostLine:
    """Requests of one part, tier, lane, model and disposition of their rows. Money is US dollars.

    tokens, usd: by kind of token; `usd` is what was paid. plain_input_usd: all input at the plain, full rate.
    write_premium_usd: what cache writes cost beyond plain input, at full rates.
    read_requests, cached_requests: those that read from a cache, and that read or wrote.
    shared_rows, asked_once_usd: rows that took another's answer, and what asking them should have cost.
    """

    part: str
    tier: int
    lane: str
    model: str
    disposition: str | None
    requests: int = 0
    read_requests: int = 0
    cached_requests: int = 0
    tokens: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(TOKENS, 0))
    usd: Mapping[str, Decimal] = field(default_factory=lambda: dict.fromkeys(TOKENS, _ZERO))
    saved_batch_usd: Decimal = _ZERO
    saved_cache_usd: Decimal = _ZERO
    plain_input_usd: Decimal = _ZERO
    write_premium_usd: Decimal = _ZERO
    shared_rows: int = 0
    asked_once_usd: Decimal = _ZERO

    @property
    def spent_usd(self) -> Decimal:
        return _sum(self.usd.values())

    @property
    def synchronous_usd(self) -> Decimal:
        return self.spent_usd + self.saved_batch_usd + self.saved_cache_usd

    @property
    def key(self) -> tuple[str, int, str, str, str | None]:
        return self.part, self.tier, self.lane, self.model, self.disposition

    def __add__(self, other: "CostLine") -> "CostLine":
        return replace(
            self,
            requests=self.requests + other.requests,
            read_requests=self.read_requests + other.read_requests,
            cached_requests=self.cached_requests + other.cached_requests,
            tokens={kind: self.tokens[kind] + other.tokens[kind] for kind in TOKENS},
            usd={kind: self.usd[kind] + other.usd[kind] for kind in TOKENS},
            saved_batch_usd=self.saved_batch_usd + other.saved_batch_usd,
            saved_cache_usd=self.saved_cache_usd + other.saved_cache_usd,
            plain_input_usd=self.plain_input_usd + other.plain_input_usd,
            write_premium_usd=self.write_premium_usd + other.write_premium_usd,
            shared_rows=self.shared_rows + other.shared_rows,
            asked_once_usd=self.asked_once_usd + other.asked_once_usd,
        )


@dataclass(frozen=True)
class Savings:
    """All that a load's requests cost and saved. Shares are None where nothing is to be shared out."""

    lines: tuple[CostLine, ...] = ()

    @property
    def spent_usd(self) -> Decimal:
        return _sum(line.spent_usd for line in self.lines)

    @property
    def synchronous_usd(self) -> Decimal:
        return _sum(line.synchronous_usd for line in self.lines)

    @property
    def saved_batch_usd(self) -> Decimal:
        return _sum(line.saved_batch_usd for line in self.lines)

    @property
    def saved_cache_usd(self) -> Decimal:
        return _sum(line.saved_cache_usd for line in self.lines)

    @property
    def asked_once_usd(self) -> Decimal:
        """An estimate, and not part of the sum."""
        return _sum(line.asked_once_usd for line in self.lines)

    @property
    def asked_once_rows(self) -> int:
        return sum(line.shared_rows for line in self.lines)

    @property
    def parts(self) -> dict[str, Decimal]:
        """The spend by part; they add up to it."""
        return {
            part: _sum(line.spent_usd for line in self.lines if line.part == part) for part in PARTS
        }

    def on(self, disposition: str) -> Decimal:
        """What was spent on source rows that ended so, whichever part it is of."""
        rows = (*PRODUCTION, "paid_twice")
        return _sum(
            line.spent_usd
            for line in self.lines
            if line.part in rows and line.disposition == disposition
        )

    def tokens(self, *kinds: str) -> int:
        return sum(line.tokens[kind] for line in self.lines for kind in kinds)

    @property
    def prefix_hit_share(self) -> float | None:
        """Of the tokens that were asked to be cached, those that were read rather than written."""
        read, written = self.tokens("cache_read"), self.tokens(*WRITES)
        return read / (read + written) if read + written else None

    @property
    def request_hit_share(self) -> float | None:
        """Of the requests that used the cache, those that read from it."""
        cached = sum(line.cached_requests for line in self.lines)
        return sum(line.read_requests for line in self.lines) / cached if cached else None

    @property
    def saved_cache_share(self) -> float | None:
        """What caching saved, of what all input would have cost; negative where it lost."""
        plain = _sum(line.plain_input_usd for line in self.lines)
        return float(self.saved_cache_usd / plain) if plain else None

    def to_json(self, good: int | None = None) -> dict[str, Any]:
        """Plain numbers. `good` validated rows share the parts, where it is given."""
        parts = {part: float(usd) for part, usd in self.parts.items()}
        return {
            "synchronous_usd": float(self.synchronous_usd),
            "saved_batch_usd": float(self.saved_batch_usd),
            "saved_cache_usd": float(self.saved_cache_usd),
            "spent_usd": float(self.spent_usd),
            "asked_once_usd": float(self.asked_once_usd),
            "asked_once_rows": self.asked_once_rows,
            "parts_usd": parts,
            "parts_per_good_row_usd": {part: usd / good for part, usd in parts.items()}
            if good
            else None,
            "quarantined_usd": float(self.on("quarantined")),
            "human_review_usd": float(self.on("human_review")),
            "prefix_hit_share": self.prefix_hit_share,
            "request_hit_share": self.request_hit_share,
            "saved_cache_share": self.saved_cache_share,
        }


def measure_costs(
    connection: duckdb.DuckDBPyConnection, paid: str, prices: PriceTable, on: date
) -> list[CostLine]:
    """Prices every billed result of `paid`, summed into lines.

    Args:
        connection: where temporary tables are made.
        paid: SQL of a relation of result lines: part, lane, disposition, tier, and what `spend_sql` reads.
        prices: the price table.
        on: the day the requests were made.

    Raises ConfigurationError where a model that answered has no price.
    """
    require_prices(connection, paid, prices)
    register_prices(connection, on, batch=False, prices=prices)
    tokens = ", ".join(f"coalesce(sum({kind}_tokens), 0)" for kind in TOKENS)
    rates = ", ".join(f"rate_{kind}" for kind in TOKENS)
    read = "coalesce(cache_read_tokens, 0) > 0"
    written = " OR ".join(f"coalesce({kind}_tokens, 0) > 0" for kind in WRITES)
    # Grouped by their rates, too: a model's requests are priced by the length of their prompt and by region.
    rows = connection.execute(
        f"SELECT part, tier, lane, regexp_replace(model, '-[0-9]{{8}}$', ''), disposition, count(*), "
        f"count(*) FILTER ({read}), count(*) FILTER ({read} OR {written}), {tokens}, {rates} "
        f"FROM ({priced_sql(paid)}) GROUP BY ALL"
    ).fetchall()
    return merged(_line(row, prices.batch_multiplier) for row in rows)


def shared_lines(
    shared: Iterable[tuple[int, int, int]],
    paid: Sequence[CostLine],
    expected_usd: Mapping[int, Decimal],
) -> list[CostLine]:
    """Rows that shared another's answer, at the mean price of the load's own production requests of that tier.

    Args:
        shared: of each tier, the requests that were not made, and the rows that first shared an answer there: one
            that climbed has shared several.
        paid: the load's lines.
        expected_usd: a request's price by tier, for where the load paid none.
    """
    prices = {**expected_usd, **mean_price(paid)}
    return [
        CostLine(
            ASKED_ONCE,
            tier,
            "",
            "",
            None,
            shared_rows=rows,
            asked_once_usd=(prices.get(tier, _ZERO) * requests).quantize(_PLACES),
        )
        for tier, requests, rows in shared
    ]


def mean_price(lines: Iterable[CostLine]) -> dict[int, Decimal]:
    """What a production request cost, by tier."""
    asked: dict[int, list[CostLine]] = {}
    for line in lines:
        if line.part in PRODUCTION and line.requests:
            asked.setdefault(line.tier, []).append(line)
    return {
        tier: _sum(line.spent_usd for line in each) / sum(line.requests for line in each)
        for tier, each in asked.items()
    }


def resent_lines(lines: Iterable[CostLine]) -> list[CostLine]:
    """The lines of an earlier sending as the part of a later one. What was asked once then is not saved again."""
    return merged(
        replace(line, part="resent", disposition=None) for line in lines if line.part != ASKED_ONCE
    )


def line_of_spend(spend: Spend, prices: PriceTable) -> CostLine:
    """An earlier sending of which only the spend was kept, all in batches; its cache's savings are not known."""
    usd = {kind: Decimal(repr(spend.usd[kind])).quantize(_PLACES) for kind in TOKENS}
    full = {kind: (n / prices.batch_multiplier).quantize(_PLACES) for kind, n in usd.items()}
    return CostLine(
        "resent",
        0,
        "batch",
        "",
        None,
        tokens=dict(spend.tokens),
        usd=usd,
        saved_batch_usd=_sum(full.values()) - _sum(usd.values()),
        plain_input_usd=_sum(full[kind] for kind in INPUTS),
    )


def merged(lines: Iterable[CostLine]) -> list[CostLine]:
    """One line per part, tier, lane, model and disposition, in that order."""
    found: dict[tuple[str, int, str, str, str | None], CostLine] = {}
    for line in lines:
        key = line.key
        found[key] = found[key] + line if key in found else line
    order = {part: at for at, part in enumerate((*PARTS, ASKED_ONCE))}
    return sorted(
        found.values(), key=lambda n: (order[n.part], n.tier, n.lane, n.model, n.disposition or "")
    )


def _line(row: Sequence[Any], multiplier: Decimal) -> CostLine:
    part, tier, lane, model, disposition, requests, read, cached = row[:8]
    tokens = {kind: int(n) for kind, n in zip(TOKENS, row[8 : 8 + len(TOKENS)], strict=True)}
    rates: dict[str, Decimal] = dict(zip(TOKENS, row[8 + len(TOKENS) :], strict=True))
    with localcontext(prec=_DIGITS):
        full = {kind: tokens[kind] * rates[kind] for kind in TOKENS}
        factor = multiplier if lane == "batch" else Decimal(1)
        usd = {kind: (each * factor).quantize(_PLACES) for kind, each in full.items()}
        plain = sum(tokens[kind] for kind in INPUTS) * rates["input"]
        return CostLine(
            part,
            tier,
            lane,
            model,
            disposition,
            requests,
            read,
            cached,
            tokens=tokens,
            usd=usd,
            saved_batch_usd=_sum(full.values()) - _sum(usd.values()),
            saved_cache_usd=plain - _sum(full[kind] for kind in INPUTS),
            plain_input_usd=plain,
            write_premium_usd=_sum(
                tokens[kind] * (rates[kind] - rates["input"]) for kind in WRITES
            ),
        )


def _sum(amounts: Iterable[Decimal]) -> Decimal:
    with localcontext(prec=_DIGITS):
        return sum(amounts, _ZERO)
