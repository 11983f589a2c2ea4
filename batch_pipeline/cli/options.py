"""Arguments that several commands share."""

from collections.abc import Callable
from typing import Any

import click

Command = Callable[..., Any]


def workload_argument(command: Command) -> Command:
    return click.argument("workload")(command)


def date_option(command: Command) -> Command:
    return click.option(
        "--date",
        "load",
        metavar="YYYY-MM-DD",
        help="The load's day. By default: `run` takes the last complete day, other commands the newest load.",
    )(command)


def max_wait_option(command: Command) -> Command:
    return click.option(
        "--max-wait",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        help="Stop after this long, with exit code 4; call again to go on. By default it waits to the end.",
    )(command)


def json_option(command: Command) -> Command:
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object on standard output."
    )(command)


def to_option(command: Command) -> Command:
    return click.option(
        "--to",
        "target",
        required=True,
        metavar="FILE.{csv,parquet}",
        help="The file to write; its ending says the format. An existing file is replaced.",
    )(command)
