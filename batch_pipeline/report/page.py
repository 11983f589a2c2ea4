"""Renders a load's scorecard. The template escapes everything; no row text reaches it."""

from datetime import UTC, datetime
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from batch_pipeline.measure.rates import Rate
from batch_pipeline.rows import replacing
from batch_pipeline.stages.scorecard import Scorecard

_KINDS = {
    "input": "uncached input",
    "cache_write_5m": "5-minute cache writes",
    "cache_write_1h": "1-hour cache writes",
    "cache_read": "cache reads",
    "output": "output",
}


def report_path(state: Path, workload: str, load: str) -> Path:
    return state / "reports" / workload / f"{load}.html"


def write_report(state: Path, card: Scorecard) -> Path:
    """Writes the page of a load, replacing an earlier one; returns its path."""
    environment = Environment(
        loader=PackageLoader("batch_pipeline.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "usd": _usd, "count": _count}
    spend = card.spend
    html = environment.get_template("scorecard.html.j2").render(
        card=card,
        rates=card.rates,
        spend=[
            (_KINDS[kind], tokens, spend.usd[kind])
            for kind, tokens in spend.tokens.items()
            if tokens
        ]
        if spend
        else [],
        tiers=sorted(spend.usd_by_tier.items()) if spend else [],
        cache_hit_rate=spend.cache_hit_rate if spend else None,
        written_at=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )
    path = report_path(state, card.workload, card.load)
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")
    return path


def refresh_report(state: Path, card: Scorecard, promoted_at: datetime | None) -> None:
    """Writes the page of a promoted load again where it is older: who promoted it died before writing it."""
    path = report_path(state, card.workload, card.load)
    written = path.stat().st_mtime if path.is_file() else 0.0
    if promoted_at is not None and written < promoted_at.timestamp():
        write_report(state, card)


def _percent(value: "Rate | float | None", digits: int = 2) -> str:
    share = value.value if isinstance(value, Rate) else value
    return "–" if share is None else f"{share:.{digits}%}"


def _usd(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"${value:,.{digits}f}"


def _count(value: float) -> str:
    return f"{value:,.0f}"
