"""The templates. They escape everything that they are given."""

from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from batch_pipeline.report import wording


def render(template: str, **values: Any) -> str:
    return _environment().get_template(template).render(values)


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("batch_pipeline.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "count": wording.count,
        "day": wording.day,
        "long_day": wording.long_day,
        "moment": wording.moment,
        "percent": wording.percent,
        "plain": wording.plain,
        "points": wording.points,
        "r": _rounded,
        "usd": wording.usd,
    }
    return environment


def _rounded(value: float) -> str:
    """A coordinate: a tenth of a pixel is enough."""
    return f"{value:.1f}".removesuffix(".0")
