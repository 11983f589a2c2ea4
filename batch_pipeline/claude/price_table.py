"""The price table: models with their dated rates, and how a file of them is read."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, astuple, dataclass, fields
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import yaml

from batch_pipeline.errors import ConfigurationError

MILLION = Decimal(1_000_000)
# A price may have this many decimals per million tokens: SQL then keeps it exactly, per token.
MOST_DECIMALS = 6

_DATED = re.compile(r"-\d{8}$")
# What the API charges for cache traffic unless a model's page says otherwise, times its input rate.
_USUAL_CACHE = {
    "cache_write_5m": Decimal("1.25"),
    "cache_write_1h": Decimal(2),
    "cache_read": Decimal("0.1"),
}


@dataclass(frozen=True)
class Rates:
    """USD per million tokens, by category."""

    input: Decimal
    output: Decimal
    cache_write_5m: Decimal
    cache_write_1h: Decimal
    cache_read: Decimal

    def times(self, factor: Decimal) -> Rates:
        return Rates(*(rate * factor for rate in astuple(self)))


@dataclass(frozen=True)
class Price(Rates):
    """USD per million tokens of one model in one request, discounts included."""

    model: str

    def cost(
        self,
        *,
        input_tokens: int = 0,
        output_tokens: int = 0,
        cache_write_5m_tokens: int = 0,
        cache_write_1h_tokens: int = 0,
        cache_read_tokens: int = 0,
    ) -> Decimal:
        """USD, exactly, for these tokens. `input_tokens` are the uncached ones, as in the API's usage."""
        return (
            self.input * input_tokens
            + self.output * output_tokens
            + self.cache_write_5m * cache_write_5m_tokens
            + self.cache_write_1h * cache_write_1h_tokens
            + self.cache_read * cache_read_tokens
        ) / MILLION


@dataclass(frozen=True)
class DatedRates:
    """The rates from a day on. Prompts of more than `threshold` tokens pay `above` for every token."""

    effective_from: date
    rates: Rates
    threshold: int | None = None
    above: Rates | None = None


@dataclass(frozen=True)
class ModelFacts:
    """What the table knows of a model; None where nobody says. `prices` are in order of their days."""

    model: str
    prices: tuple[DatedRates, ...]
    us_multiplier: Decimal
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    min_cacheable_tokens: int | None = None
    retires: date | None = None

    def on(self, day: date) -> DatedRates:
        """The rates of that day; the earliest ones for any day before."""
        return max(
            (each for each in self.prices if each.effective_from <= day),
            key=lambda each: each.effective_from,
            default=self.prices[0],
        )


@dataclass(frozen=True)
class PriceTable:
    """Models by name, without date. `checked` is the day the shipped prices were last looked up."""

    models: Mapping[str, ModelFacts]
    batch_multiplier: Decimal
    checked: date | None = None

    def known_models(self) -> tuple[str, ...]:
        return tuple(self.models)

    def knows(self, model: str) -> bool:
        return _DATED.sub("", model) in self.models

    def facts(self, model: str) -> ModelFacts:
        """Raises ConfigurationError for a model that is not in the table."""
        found = self.models.get(_DATED.sub("", model))
        if found is None:
            raise ConfigurationError(unknown_model(model, self))
        return found

    def price_for(
        self,
        model: str,
        on: date,
        *,
        batch: bool,
        prompt_tokens: int | None = None,
        us: bool = False,
    ) -> Price:
        """The price of one request.

        Args:
            model: an id, with or without its date.
            on: the day it is processed.
            batch: at the Batches API's half price.
            prompt_tokens: input, cache reads and cache writes together, for models whose rates depend
                on them; None takes the lower rates.
            us: with inference_geo "us".

        Raises:
            ConfigurationError: the model is not in the table.
        """
        facts = self.facts(model)
        dated = facts.on(on)
        rates = dated.rates
        if dated.above is not None and dated.threshold is not None:
            rates = dated.above if (prompt_tokens or 0) > dated.threshold else rates
        factor = self.batch_multiplier if batch else Decimal(1)
        factor *= facts.us_multiplier if us else Decimal(1)
        return Price(model=facts.model, **asdict(rates.times(factor)))


def unknown_model(model: str, table: PriceTable) -> str:
    """The sentence for a model without a price."""
    return (
        f"Model {model} has no price; use one of {', '.join(table.known_models())}, or add it to a YAML"
        " file that BATCH_PIPELINE_PRICES names: models: {<model>: {prices: [{effective_from:"
        ' 2026-01-31, rates: {input: "1.00", output: "5.00"}}]}}, in USD per million tokens.'
    )


def read_table(path: Path, base: PriceTable | None) -> PriceTable:
    """The table in a YAML file, on top of `base` where there is one.

    Of a model that `base` has, what the file leaves out stays, and so do its prices of other days.

    Raises ConfigurationError naming the file, the model and the key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")
        raise ConfigurationError(f"The prices in {path} cannot be read: {reason}.") from error
    # Only the shipped table is checked as a whole, on a day.
    known = {"models", "batch_multiplier"} | (set() if base else {"checked"})
    top = _Node(f"{path}", content, known)
    models = dict(base.models) if base else {}
    for name, facts in top.mapping("models").items():
        if not isinstance(name, str) or _DATED.search(name):
            raise top.error(f"models.{name}", "must be a model's id without its date")
        node = _Node(f"{path}: models.{name}", facts, _FACTS)
        models[name] = _facts(name, node, models.get(name))
    batch = top.number("batch_multiplier", base.batch_multiplier if base else Decimal("0.5"))
    return PriceTable(models, batch, base.checked if base else top.day("checked"))


_FACTS = {field.name for field in fields(ModelFacts)} - {"model"}
_RATES = {field.name for field in fields(Rates)}


def _facts(name: str, node: _Node, base: ModelFacts | None) -> ModelFacts:
    known = base or ModelFacts(name, (), Decimal(1))
    prices = {each.effective_from: each for each in known.prices}
    if base is None or "prices" in node.value:
        stated = node.value.get("prices")
        if not isinstance(stated, list) or not stated:
            raise node.error("prices", "must be a list of at least one {effective_from, rates}")
        for n, each in enumerate(stated):
            dated = _dated(
                _Node(f"{node.where}.prices[{n}]", each, {"effective_from", "rates", "above"})
            )
            prices[dated.effective_from] = dated

    def count(key: str) -> int | None:
        stays: int | None = getattr(known, key)
        return node.count(key) if key in node.value else stays

    return ModelFacts(
        model=name,
        prices=tuple(prices[day] for day in sorted(prices)),
        us_multiplier=node.number("us_multiplier", known.us_multiplier),
        context_tokens=count("context_tokens"),
        max_output_tokens=count("max_output_tokens"),
        min_cacheable_tokens=count("min_cacheable_tokens"),
        retires=node.day("retires") if "retires" in node.value else known.retires,
    )


def _dated(node: _Node) -> DatedRates:
    day = node.day("effective_from")
    if day is None:
        raise node.error("effective_from", "is missing; write the first day, as 2026-01-31")
    above = node.value.get("above")
    if above is None:
        return DatedRates(day, _rates(node))
    level = _Node(f"{node.where}.above", above, {"prompt_tokens", "rates"})
    threshold = level.count("prompt_tokens")
    if threshold is None:
        raise level.error(
            "prompt_tokens", "is missing; write the longest prompt at the lower rates"
        )
    return DatedRates(day, _rates(node), threshold, _rates(level))


def _rates(node: _Node) -> Rates:
    inner = _Node(f"{node.where}.rates", node.value.get("rates"), _RATES)
    entry, output = inner.number("input"), inner.number("output")
    cache = {key: inner.number(key, entry * usual) for key, usual in _USUAL_CACHE.items()}
    return Rates(input=entry, output=output, **cache)


class _Node:
    """A mapping in the file, with its place for the sentences of errors."""

    def __init__(self, where: str, value: Any, known: set[str]) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise ConfigurationError(f"{where}: must hold {', '.join(sorted(known))}.")
        self.value: dict[Any, Any] = value
        for key in value:
            if key not in known:
                raise self.error(str(key), f"is unknown; known are {', '.join(sorted(known))}")

    def error(self, key: str, problem: str) -> ConfigurationError:
        return ConfigurationError(f"{self.where}: {key} {problem}.")

    def mapping(self, key: str) -> dict[Any, Any]:
        value = self.value.get(key)
        if not isinstance(value, dict):
            raise self.error(key, "must hold a model for each key")
        return value

    def number(self, key: str, default: Decimal | None = None) -> Decimal:
        stated = self.value.get(key)
        if stated is None and default is not None:
            return default
        try:
            number = Decimal(str(stated))
        except InvalidOperation:
            number = Decimal("NaN")
        exponent = number.as_tuple().exponent
        exact = isinstance(exponent, int) and exponent >= -MOST_DECIMALS
        if isinstance(stated, bool) or not exact or not 0 <= number < MILLION:
            raise self.error(
                key, f"must be a number, 0 or more, of at most {MOST_DECIMALS} decimals"
            )
        return number

    def count(self, key: str) -> int | None:
        stated = self.value.get(key)
        if stated is not None and (not isinstance(stated, int) or stated < 0):
            raise self.error(key, "must be a whole number, or null")
        return stated

    def day(self, key: str) -> date | None:
        stated = self.value.get(key)
        if stated is not None and type(stated) is not date:
            raise self.error(key, "must be a day, as 2026-01-31 (unquoted)")
        return stated
