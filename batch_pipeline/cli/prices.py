"""`prices`: the price table in force, and how old it is."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import click

from batch_pipeline.claude.prices import ModelFacts, PriceTable, Rates, load_prices
from batch_pipeline.cli.options import json_option
from batch_pipeline.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

# Prices change a few times a year, mostly with new models.
_OLD_DAYS = 90


def now() -> datetime:
    return datetime.now(UTC)


@click.command()
@click.argument("models", nargs=-1, metavar="[MODEL]...")
@json_option
def prices(models: tuple[str, ...], as_json: bool) -> None:
    """Show the prices in force, of all models or of MODEL, in US dollars per million tokens.

    Each line counts from its day on, until a later one of the same model.
    """
    settings = Settings.from_environment()
    table = load_prices(settings.prices)
    chosen = [table.facts(model) for model in models] or list(table.models.values())
    today = now().date()
    age = (today - table.checked).days if table.checked else None
    if as_json:
        click.echo(
            json.dumps(
                {
                    "checked": table.checked.isoformat() if table.checked else None,
                    "age_days": age,
                    "added_by": str(settings.prices) if settings.prices else None,
                    "models": [_object(facts, table, today) for facts in chosen],
                }
            )
        )
        return
    from rich.console import Console

    Console().print(_table(chosen, table))
    for facts in chosen:
        click.echo(_said(facts, today))
    click.echo(_age(table, age))
    if settings.prices is not None:
        click.echo(f"BATCH_PIPELINE_PRICES adds or replaces models from {settings.prices}.")


def _age(table: PriceTable, age: int | None) -> str:
    if age is None:
        return "Nobody wrote down when these prices were checked."
    said = f"Checked {table.checked}, {age} day{'' if age == 1 else 's'} ago."
    if age > _OLD_DAYS:
        said += (
            " WARNING: that is long ago; compare them with Anthropic's pricing page, and put what has changed into "
            "a file that BATCH_PIPELINE_PRICES names, or take a newer release."
        )
    return said


def _table(chosen: list[ModelFacts], table: PriceTable) -> Table:
    from rich.table import Table

    shown = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    shown.add_column("model", style="bold", no_wrap=True)
    shown.add_column("from", no_wrap=True)
    shown.add_column("lane", no_wrap=True)
    for name in ("input", "output", "5m write", "1h write", "read"):
        shown.add_column(name, justify="right", no_wrap=True)
    for facts in chosen:
        for dated in facts.prices:
            for above, rates in (("", dated.rates), ("above", dated.above)):
                if rates is None:
                    continue
                for lane, factor in (("sync", Decimal(1)), ("batch", table.batch_multiplier)):
                    first = lane == "sync" and not above
                    shown.add_row(
                        facts.model if first else f"  > {dated.threshold:,}" if above else "",
                        dated.effective_from.isoformat() if first else "",
                        lane,
                        *(_dollars(rate * factor) for rate in _in_order(rates)),
                    )
        shown.add_row(*[""] * 8)
    return shown


def _said(facts: ModelFacts, today: date) -> str:
    least = facts.min_cacheable_tokens
    said = [
        f"caches prefixes from {least:,} tokens on"
        if least is not None
        else "shortest cached prefix not published"
    ]
    if facts.retires is not None:
        said.append(f"{'retired' if facts.retires <= today else 'retires'} {facts.retires}")
    if facts.us_multiplier != 1:
        said.append(f"× {facts.us_multiplier} with inference_geo us")
    dated = facts.on(today)
    if dated.threshold is not None:
        said.append(
            f"prompts of more than {dated.threshold:,} tokens pay the higher rates for every token"
        )
    if len(facts.prices) > 1:
        said.append(f"in force today: from {dated.effective_from}")
    return f"{facts.model}: {'; '.join(said)}."


def _in_order(rates: Rates) -> list[Decimal]:
    return [getattr(rates, field.name) for field in fields(Rates)]


def _dollars(amount: Decimal) -> str:
    """All digits, and two decimals at least."""
    return f"{max(amount.normalize(), amount.quantize(Decimal('0.01')), key=_decimals):f}"


def _decimals(amount: Decimal) -> int:
    exponent = amount.as_tuple().exponent
    return -exponent if isinstance(exponent, int) else 0


def _object(facts: ModelFacts, table: PriceTable, today: date) -> dict[str, Any]:
    return {
        "model": facts.model,
        "retires": facts.retires.isoformat() if facts.retires else None,
        "min_cacheable_tokens": facts.min_cacheable_tokens,
        "context_tokens": facts.context_tokens,
        "max_output_tokens": facts.max_output_tokens,
        "us_multiplier": float(facts.us_multiplier),
        "prices": [
            {
                "effective_from": dated.effective_from.isoformat(),
                "in_force": dated is facts.on(today),
                "sync": _rates(dated.rates, Decimal(1)),
                "batch": _rates(dated.rates, table.batch_multiplier),
                "above": None
                if dated.above is None
                else {
                    "prompt_tokens": dated.threshold,
                    "sync": _rates(dated.above, Decimal(1)),
                    "batch": _rates(dated.above, table.batch_multiplier),
                },
            }
            for dated in facts.prices
        ],
    }


def _rates(rates: Rates, factor: Decimal) -> dict[str, float]:
    return {field.name: float(getattr(rates, field.name) * factor) for field in fields(Rates)}
