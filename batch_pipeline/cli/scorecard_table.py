"""The scorecard as a terminal table."""

from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from batch_pipeline.errors import printable
from batch_pipeline.measure.rates import Rate
from batch_pipeline.measure.savings import Savings
from batch_pipeline.stages.scorecard import Scorecard


def print_scorecard(card: Scorecard, console: Console | None = None) -> None:
    """Prints to standard output unless told otherwise."""
    console = console or Console()
    table = Table(title=f"{card.workload}  {card.load}", title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    kinds = card.dispositions
    parts = " + ".join(f"{n:,} {kind}" for kind, n in kinds.items())
    table.add_row(
        "coverage",
        _percent(card.rates.get("coverage"), 2),
        f"{card.source_rows:,} source rows = {parts} + {card.unaccounted:,} unaccounted",
    )
    table.add_row(
        "output validity",
        _percent(card.rates.get("validity"), 2),
        f"{_of(card.rates.get('validity'))} answers of tier 0, first attempt; "
        f"{_percent(card.rates.get('validity_all_tiers'), 2)} over all tiers",
    )
    good = card.cost_per_good_row_usd
    table.add_row(
        "cost per good row",
        "–" if good is None else f"${good:.6f}",
        f"${card.cost_usd:.4f} in all, golden rows, retries and escalations included"
        + (
            f", without {card.unpriced_requests:,} requests whose cost is not known"
            if card.unpriced_requests
            else ""
        ),
    )
    if card.foreseen_usd is not None:
        expected, most = card.foreseen_usd
        table.add_row(
            "was estimated",
            f"${expected:.4f}",
            f"before anything was sent, ${most:.4f} at most",
        )
    if card.savings is not None and card.savings.synchronous_usd:
        _add_savings(table, card.savings)
    table.add_row(
        "escalation rate",
        _percent(card.rates.get("escalation_rate"), 2),
        f"{_of(card.rates.get('escalation_rate'))} source rows needed a larger model or a person",
    )
    if card.golden is not None:
        golden = card.golden
        table.add_row(
            "golden score",
            "–" if golden.score is None else f"{golden.score:.1%}",
            f"{golden.correct} of {golden.n} right; "
            f"{'recorded' if golden.recorded else 'declared'} baseline {golden.baseline_score:.1%}, "
            + (
                "not comparable"
                if golden.drop_points is None
                else f"drop {golden.drop_points:+.1f} points"
            ),
        )
    hit = card.spend.cache_hit_rate if card.spend else None
    table.add_row("cache hit rate", "–" if hit is None else f"{hit:.1%}", "of all input tokens")
    table.add_row(
        "sent",
        f"{card.requests:,}",
        f"requests in {card.batches:,} batches: "
        + ", ".join(f"{n:,} {kind}" for kind, n in card.results.items()),
    )
    for disposition, reason, n in card.reasons[:8]:
        table.add_row(f"  {disposition}", f"{n:,}", Text(printable(reason or "")))
    table.add_row("promoted", f"{card.promoted_rows:,}", "rows in the system of record")
    console.print(table)
    if card.answered_by:
        console.print(Text(printable(f"Answered by {', '.join(card.answered_by)}")))
    if card.gate is None:
        console.print("Gate: not decided; rows are still open.")
    else:
        colour = "green" if card.gate.promote else "red"
        word = "PROMOTE" if card.gate.promote else "HOLD"
        console.print(Text.assemble("Gate: ", (word, colour), ". ", printable(card.gate.sentence)))


def _add_savings(table: Table, savings: Savings) -> None:
    """What it would have cost, and what was saved."""
    whole = savings.synchronous_usd
    table.add_row(
        "would have cost",
        f"${whole:.4f}",
        "one by one, without a cache: "
        + ", ".join(
            f"${usd:.4f} {part.replace('_', ' ')}" for part, usd in savings.parts.items() if usd
        )
        + " was spent",
    )
    saved = whole - savings.spent_usd
    asked_once = (
        f"; {savings.asked_once_rows:,} rows asked once, about ${savings.asked_once_usd:.4f}"
        if savings.asked_once_rows
        else ""
    )
    table.add_row(
        "saved",
        f"{saved / whole:.1%}" if whole else "–",
        f"{_dollars(savings.saved_batch_usd)} by batching, {_dollars(savings.saved_cache_usd)} by caching"
        f"{asked_once}",
    )


def _dollars(usd: Decimal) -> str:
    return f"{'−' if usd < 0 else ''}${abs(usd):.4f}"


def _percent(rate: Rate | None, digits: int) -> str:
    value = rate.value if rate else None
    return "–" if value is None else f"{value:.{digits}%}"


def _of(rate: Rate | None) -> str:
    return f"{rate.numerator:,} of {rate.denominator:,}" if rate else "0 of 0"
