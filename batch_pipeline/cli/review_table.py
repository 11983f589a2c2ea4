"""How far reviews are, as a terminal table."""

from datetime import timedelta

from rich.console import Console
from rich.table import Table

from batch_pipeline.stages.review_status import ReviewStatus


def print_review(workload: str, found: list[ReviewStatus]) -> None:
    """Prints a line per load to standard output, the oldest first, and what was kept of the fields."""
    table = Table(title=f"{workload}: rows in review", title_justify="left")
    table.add_column("load", style="bold", no_wrap=True)
    for name in ("rows", "left", "waiting", "accepted", "fixed", "dropped", "took"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        table.add_row(
            one.load,
            f"{one.rows:,}",
            f"{one.left:,}",
            "–" if one.waiting is None else _duration(one.waiting),
            *(f"{n:,}" for n in (one.accepted, one.fixed, one.dropped)),
            "–" if one.hours is None else _duration(timedelta(hours=one.hours)),
        )
    console = Console()
    console.print(table)
    for one in found:
        if one.exported_at is None and one.left:
            console.print(f"{one.load}: not exported yet")
        if one.decided and not one.promoted:
            console.print(f"{one.load}: what was decided is not promoted yet")
    decided, fixed = sum(one.decided for one in found), sum(one.fixed for one in found)
    if decided:
        accepted = sum(one.accepted for one in found)
        console.print(
            f"Of {decided:,} rows decided the model's answer was accepted in {accepted / decided:.0%}"
        )
    if fixed:
        kept = {name: sum(one.kept[name] for one in found) for name in found[0].kept}
        shares = ", ".join(f"{name} {count / fixed:.0%}" for name, count in kept.items())
        console.print(f"Of {fixed:,} fixed rows the model's value was kept in: {shares}")


def _duration(time: timedelta) -> str:
    hours = time.total_seconds() / 3600
    if hours < 1:
        return f"{hours * 60:.0f} min"
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.0f} d"
