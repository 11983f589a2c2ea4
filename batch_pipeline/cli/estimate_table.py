"""An estimate for people: the sum line by line, its parts, other models, and whether to batch at all."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from batch_pipeline.errors import printable
from batch_pipeline.measure.estimate import Parts
from batch_pipeline.stages.estimate_sum import BudgetLeft, Estimate

_ALWAYS_SAID = ("cache effect", "retries")


def print_estimate(found: Estimate, console: Console | None = None) -> None:
    """Prints to standard output unless told otherwise."""
    console = console or Console()
    console.print(_sum(found))
    for line in found.sums.lines:
        if line.note and (any(line.usd.values()) or line.what in _ALWAYS_SAID):
            console.print(Text(f"  {line.what}: {printable(line.note)}"))
    console.print(_parts(found))
    for sentence in _facts(found):
        console.print(Text(printable(sentence)))
    if found.candidates:
        console.print(_candidates(found))
        for sentence in _about_candidates(found):
            console.print(Text(printable(sentence)))
    console.print(Text.assemble("Batch? ", (found.verdict.word, "bold"), "."))
    for reason in found.verdict.reasons:
        console.print(Text(f"  {printable(reason)}"))
    for note in found.notes:
        console.print(Text(f"Note: {printable(note)}"))


def usd(amount: Decimal, digits: int | None = None) -> str:
    """Dollars with as many digits as tell something."""
    sign, size = ("-" if amount < 0 else ""), abs(amount)
    if digits is None:
        digits = 2 if size >= 1 or not size else 4 if size >= Decimal("0.01") else 6
    return f"{sign}${size:,.{digits}f}"


def _digits(amounts: Iterable[Decimal], total: Decimal) -> int:
    """Decimals for a whole table, so that what it shows adds up as far as it can."""
    if all(amount == amount.quantize(Decimal("0.01")) for amount in amounts):
        return 2
    return 2 if total >= 1_000 else 4 if total >= Decimal("0.1") else 6


def _sum(found: Estimate) -> Table:
    title = f"{found.workload}  {found.load}" if found.workload else found.tiers[0].model
    table = Table(title=title, title_justify="left")
    table.add_column("a load", style="bold", no_wrap=True)
    for name, share in found.sums.hits.items():
        told = "" if name != "typical" else " measured" if found.hits.measured else " assumed"
        table.add_column(f"{name}\n{share:.0%} hits{told}", justify="right", no_wrap=True)
    total = found.sums.total
    digits = _digits((a for line in found.sums.lines for a in line.usd.values()), found.total_usd)
    for line in found.sums.lines:
        table.add_row(line.what, *(usd(amount, digits) for amount in line.usd.values()))
    table.add_section()
    table.add_row("total per load", *(usd(amount, digits) for amount in total.values()))
    monthly = [usd(amount * found.loads_per_month) for amount in total.values()]
    loads = f"{found.loads_per_month.normalize():f}"
    table.add_row(f"total per month ({loads})", *monthly)
    return table


def _budget(found: Estimate) -> str:
    if not found.budgets:
        return "few hits, long answers, many rows that climb; no budget is declared"
    return "; ".join(_against(each) for each in found.budgets)


def _against(budget: BudgetLeft) -> str:
    of = f"the budget of {usd(budget.limit_usd)} ({budget.option})"
    if budget.committed_usd:
        of = (
            f"what is left of {of}, {usd(max(budget.limit_usd - budget.committed_usd, Decimal(0)))}: "
            f"{usd(budget.committed_usd)} are spent or under way"
        )
    if budget.word == "pilot":
        return f"ABOVE {of}, with answers as long as they may be; the pilot is sent, and decides about the rest"
    return f"{budget.word} {of}"


def _parts(found: Estimate) -> Table:
    table = Table(title="of which", title_justify="left")
    table.add_column("", style="bold", no_wrap=True)
    for name in found.sums.parts:
        table.add_column(name, justify="right", no_wrap=True)
    words: Mapping[str, str] = {"input": "uncached input"}
    every = [getattr(p, f.name) for p in found.sums.parts.values() for f in fields(Parts)]
    digits = _digits(every, found.total_usd)
    for part in fields(Parts):
        amounts = [usd(getattr(parts, part.name), digits) for parts in found.sums.parts.values()]
        table.add_row(words.get(part.name, part.name.replace("_", " ")), *amounts)
    table.add_section()
    table.add_row("total", *(usd(parts.total, digits) for parts in found.sums.parts.values()))
    return table


def _facts(found: Estimate) -> list[str]:
    said = [f"Lane: {found.lane}. {found.lane_why}"]
    if found.bound_usd is not None:
        said.insert(0, f"At most {usd(found.bound_usd)} a load: {_budget(found)}.")
    if found.plan is not None:
        for position, planned in enumerate(found.plan.tiers):
            own = planned.input_tokens
            said.append(
                f"Tier {position}, {planned.model}: {planned.prefix_tokens:,} shared + {own.mean:,.1f} own input tokens "
                f"a request ({own.low:,.1f} to {own.high:,.1f}, "
                + (
                    f"counted on {found.plan.sampled_rows:,} of {found.plan.requests:,}"
                    if found.plan.counted_by == "count_tokens"
                    else "a guess"
                )
                + f"), {planned.output_tokens.mean:,.1f} output tokens (at most {planned.output_tokens.high:,.0f}, "
                f"from {found.plan.output_from})."
            )
    for tier, choice in list(zip(found.tiers, found.choices, strict=True))[1:]:
        said.append(f"Cache, {tier.model}: {choice.why}")
    if found.max_cost_usd_per_month is not None and found.bound_usd is not None:
        said.append(
            f"Month: at most {usd(found.bound_usd * found.loads_per_month)}, of a budget of "
            f"{usd(found.max_cost_usd_per_month)} (gates.max_cost_usd_per_month)."
        )
    return said


def _candidates(found: Estimate) -> Table:
    table = Table(title="the same on one model", title_justify="left")
    table.add_column("model", style="bold", no_wrap=True)
    for name in ("in", "out", "synchronous", "batch" if found.lane == "batch" else "this lane"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("a month", justify="right", no_wrap=True)
    table.add_column("cache", no_wrap=True)
    for each in sorted(found.candidates, key=lambda each: (each.usd, each.model)):
        table.add_row(
            each.model,
            f"{each.size.prefix + each.size.input:,.0f}",
            f"{each.size.output:,.0f}",
            usd(each.sync_usd),
            usd(each.usd),
            usd(each.usd * found.loads_per_month),
            each.cache,
        )
    return table


def _about_candidates(found: Estimate) -> list[str]:
    first = (
        "Each model by itself, on every row and golden row, nobody climbing. What it gets right is another question: "
        "`batch-pipeline bakeoff`."
    )
    said = [first]
    said += [f"{each.model} retires {each.retires}." for each in found.candidates if each.retires]
    if found.plan is not None and not all(each.counted for each in found.candidates):
        said.append(
            "Where the API did not count, tokens are scaled: the tokenizer since Claude 4.7 makes about 30% more."
        )
    return said
