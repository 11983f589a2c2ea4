"""`estimate`: what a load would cost, line by line, before anything is sent."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import click

from batch_pipeline.cli.options import date_option, json_option
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import Settings

if TYPE_CHECKING:
    from batch_pipeline.stages.estimate_models import Asked
    from batch_pipeline.stages.estimate_sum import Estimate

# As stages.token_sample has it, which takes a second to import; a test holds them together.
SAMPLE_ROWS = 100


class _Amount(click.ParamType):  # type: ignore[type-arg]
    """An exact number, 0 or more."""

    name = "number"

    def __init__(self, most: Decimal | None = None) -> None:
        self._most = most

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Decimal:
        try:
            number = Decimal(str(value))
        except InvalidOperation:
            number = Decimal("NaN")
        if not number.is_finite() or number < 0 or (self._most is not None and number > self._most):
            within = "0 or more" if self._most is None else f"from 0 to {self._most}"
            self.fail(f"{value!r} is not a number, {within}.", param, ctx)
        return number


_COUNT = click.IntRange(min=0)


def _numbers(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in (
        click.option("--rows", type=click.IntRange(min=1), help="Source rows of a load."),
        click.option(
            "--input-tokens", type=_COUNT, help="A request's own input, beside the shared prefix."
        ),
        click.option("--output-tokens", type=_COUNT, help="Tokens of an answer."),
        click.option(
            "--prefix-tokens", type=_COUNT, help="What all requests of the load begin with."
        ),
        click.option(
            "--hit-rate", type=_Amount(Decimal(1)), help="Share of requests that find the prefix."
        ),
        click.option("--loads-per-month", type=_Amount(), help="By default as scheduled, or 30."),
        click.option(
            "--engineering-days",
            type=_Amount(),
            help="Days that a pipeline of one's own would take; with --day-rate.",
        ),
        click.option("--day-rate", type=_Amount(), help="US dollars of such a day."),
    ):
        command = option(command)
    return command


@click.command()
@click.argument("workload", required=False)
@date_option
@_numbers
@click.option("--model", help="Without a WORKLOAD: the model.")
@click.option(
    "--sample",
    type=click.IntRange(min=1, max=10_000),
    default=SAMPLE_ROWS,
    show_default=True,
    help="Rows whose tokens are counted.",
)
@click.option(
    "--models",
    help="Candidates to compare, with commas between them. By default all that have a price and are not retired.",
)
@click.option("--offline", is_flag=True, help="Guess tokens from bytes; make no call.")
@json_option
def estimate(
    workload: str | None,
    load: str | None,
    model: str | None,
    sample: int,
    models: str | None,
    offline: bool,
    as_json: bool,
    day_rate: Decimal | None,
    hit_rate: Decimal | None,
    **numbers: Any,
) -> None:
    """Estimate what a load of WORKLOAD costs, and should it be a batch at all.

    Rows are sampled and their tokens counted by the API (free); nothing is sent, begun or kept. Numbers that are
    given take the place of those that are found. Without a WORKLOAD, --model, --rows, --input-tokens and
    --output-tokens make a sum of their own.
    """
    if (numbers["engineering_days"] is None) != (day_rate is None):
        raise ConfigurationError("--engineering-days and --day-rate go together; give both.")
    from batch_pipeline.stages.estimate_models import Asked

    asked = Asked(hit_share=hit_rate, day_rate_usd=day_rate, **numbers)
    candidates = [name.strip() for name in models.split(",") if name.strip()] if models else None
    settings = Settings.from_environment()
    found = (
        _sum(model, asked, settings, candidates, load)
        if workload is None
        else _load(workload, load, model, asked, settings, candidates, sample, offline=offline)
    )
    if as_json:
        from batch_pipeline.cli.estimate_json import to_json

        click.echo(json.dumps(to_json(found)))
    else:
        from batch_pipeline.cli.estimate_table import print_estimate

        print_estimate(found)


def _sum(
    model: str | None,
    asked: Asked,
    settings: Settings,
    candidates: list[str] | None,
    load: str | None,
) -> Estimate:
    from batch_pipeline.stages.estimate import estimate_numbers

    given = (model, asked.rows, asked.input_tokens, asked.output_tokens)
    if model is None or None in given or load is not None:
        raise ConfigurationError(
            "Name a WORKLOAD, or give --model, --rows, --input-tokens and --output-tokens for a sum without one."
        )
    return estimate_numbers(model, settings, asked, models=candidates, lane="batch")


def _load(
    name: str,
    load: str | None,
    model: str | None,
    asked: Asked,
    settings: Settings,
    candidates: list[str] | None,
    sample: int,
    *,
    offline: bool,
) -> Estimate:
    from batch_pipeline.claude.client import BatchesApi
    from batch_pipeline.stages.estimate import estimate_workload
    from batch_pipeline.workload.catalogue import find_workload

    if model is not None:
        raise ConfigurationError(
            f"--model goes without a WORKLOAD; to compare {name} on other models use --models."
        )
    workload = find_workload(name, settings)
    day = load or workload.last_complete_day()
    workload.check_load(day)
    return estimate_workload(
        workload,
        day,
        settings,
        asked,
        api=None if offline else BatchesApi,
        sample_rows=sample,
        models=candidates,
    )
