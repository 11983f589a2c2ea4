"""A bake-off as a terminal table."""

from rich import box
from rich.console import Console
from rich.table import Table

from batch_pipeline.bakeoff.outcomes import BakeoffResult
from batch_pipeline.measure.rates import Rate
from batch_pipeline.report.bakeoff_words import between, dollars, sentences, status
from batch_pipeline.report.wording import percent

# A file or a pipe has no width of its own.
_WIDTH = 160
_COLUMNS = (
    "score",
    "validity",
    "asked twice",
    "refused",
    "truncated",
    "per good row",
    "per right row",
    "spent",
    "output",
)


def print_bakeoff(result: BakeoffResult, console: Console | None = None) -> None:
    """Prints to standard output unless told otherwise."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    ranking, name = result.ranking, result.bakeoff.workload.name
    title = f"{name}  bake-off {result.bakeoff.bakeoff_id}  {ranking.reference.rows:,} golden rows"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column("", justify="right")
    table.add_column("candidate", style="bold", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("")
    numbers = {model: str(n) for n, model in enumerate(result.bakeoff.models, 1)}
    for one in (*ranking.models, *ranking.cascades):
        alone = len(one.models) == 1
        table.add_row(
            numbers[one.name] if alone else "",
            one.name if alone else " → ".join(numbers[model] for model in one.models),
            f"{percent(one.score, 1)}\n{between(Rate(one.correct, one.rows))}",
            f"{percent(one.validity.value, 1)}\n{between(one.validity)}",
            "" if alone else percent(one.escalated / one.rows, 1),
            f"{one.outcomes.get('refusal', 0):,}",
            f"{one.outcomes.get('truncated', 0):,}",
            dollars(one.usd_per_good_row),
            dollars(one.usd_per_correct_row),
            dollars(one.usd),
            "–" if one.mean_output_tokens is None else f"{one.mean_output_tokens:,.1f}",
            status(one, ranking),
        )
    console.print(table)
    for sentence in sentences(result):
        console.print(sentence, markup=False, highlight=False, soft_wrap=True)
