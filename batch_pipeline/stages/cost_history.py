"""The costs of graded nights: as a table to be kept, read back from its copy, and what changed between nights."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from batch_pipeline.measure.cost_change import CostChange, NightCosts, split
from batch_pipeline.measure.money import row_usd
from batch_pipeline.measure.savings import CostLine, Savings, merged
from batch_pipeline.measure.spend import TOKENS
from batch_pipeline.warehouse.history import NightMeasures, cost_lines, nights
from batch_pipeline.warehouse.place import Where

# Nights whose median is what a good row usually costs.
WINDOW = 7
# Graded nights among which those are looked for.
_LOOK_BACK = 60
_COUNTS = ("tier", "requests", "read_requests", "cached_requests", "shared_rows")
_NAMES = ("part", "lane", "model", "disposition")
_USD = (
    "saved_batch_usd",
    "saved_cache_usd",
    "plain_input_usd",
    "write_premium_usd",
    "asked_once_usd",
)


@dataclass(frozen=True)
class CostsExplained:
    """Tonight's cost of a good row beside the median of the nights before, by cause."""

    change: CostChange
    nights: int
    reference: str  # the load whose cost is that median
    sentence: str


def costs_table(savings: Savings | None, generation: int) -> pa.Table | None:
    """The lines as columns of metrics.costs, after workload and load."""
    if savings is None:
        return None
    money = pa.decimal128(38, 14)
    lines = savings.lines
    columns: dict[str, Any] = {
        "generation": pa.array([generation] * len(lines), pa.int32()),
        **{n: pa.array([getattr(line, n) for line in lines], pa.string()) for n in _NAMES},
        **{n: pa.array([getattr(line, n) for line in lines], pa.int64()) for n in _COUNTS},
    }
    for kind in TOKENS:
        columns[f"tokens_{kind}"] = pa.array([line.tokens[kind] for line in lines], pa.int64())
        columns[f"usd_{kind}"] = pa.array([line.usd[kind] for line in lines], money)
    columns["usd"] = pa.array([line.spent_usd for line in lines], money)
    for name in ("synchronous_usd", *_USD):
        columns[name] = pa.array([getattr(line, name) for line in lines], money)
    return pa.table(columns)


def savings_by_load(
    where: Where, workload: str, until: str | None = None, first: str | None = None
) -> dict[str, Savings]:
    """Graded loads of a workload from `first` up to and with `until`, as they were measured.

    Without `first`, the last COST_NIGHTS of `warehouse.history`.
    """
    return {
        load: Savings(tuple(merged(_line(values) for values in lines)))
        for load, lines in cost_lines(where, workload, until, first).items()
    }


def costs_explained(where: Where, workload: str, load: str) -> CostsExplained | None:
    """Why a good row of a graded load costs what it does, under whatever declaration the nights before were.

    The reference is the night whose cost is the median of the last seven sound ones (the lower of two): nights
    that were promoted, not cancelled, and had good rows. None where there is none, or no good row tonight.
    """
    history = nights(where, workload, load, most=_LOOK_BACK)
    if not history or history[-1].load != load:
        return None
    priced = [n.load for n in history[:-1] if n.promote and not n.cancelled and _counts(n)][
        -WINDOW:
    ]
    known = savings_by_load(where, workload, load, min([load, *priced]))
    tonight = _costs(history[-1], known)
    if tonight is None:
        return None
    sound = [
        (night.load, costs)
        for night in history
        if night.load in priced and (costs := _costs(night, known)) is not None
    ]
    if not sound:
        return None
    sound.sort(key=lambda one: _of_good_row(one[1]))
    name, reference = sound[(len(sound) - 1) // 2]
    change = split(reference, tonight)
    if change is None:
        return None
    return CostsExplained(change, len(sound), name, _sentence(change, len(sound)))


def _line(values: Mapping[str, Any]) -> CostLine:
    return CostLine(
        **{name: values[name] for name in (*_NAMES, *_COUNTS, *_USD)},
        tokens={kind: values[f"tokens_{kind}"] for kind in TOKENS},
        usd={kind: values[f"usd_{kind}"] for kind in TOKENS},
    )


def _counts(night: NightMeasures) -> tuple[int, int] | None:
    """Its source rows and its good ones, where it has any."""
    per_good, source = (
        night.measures.get(name) for name in ("cost_per_good_row_usd", "source_rows")
    )
    if per_good is None or not per_good.denominator or source is None or not source.value:
        return None
    return int(source.value), int(per_good.denominator)


def _costs(night: NightMeasures, known: Mapping[str, Savings]) -> NightCosts | None:
    counts = _counts(night)
    if counts is None or night.load not in known:
        return None
    return NightCosts(*counts, known[night.load].lines)


def _of_good_row(costs: NightCosts) -> float:
    return float(Savings(tuple(costs.lines)).spent_usd) / costs.good


def _sentence(change: CostChange, nights: int) -> str:
    usual = "the night before" if nights == 1 else f"the median of the last {nights} nights"
    cost, before = row_usd(float(change.tonight)), row_usd(float(change.before))
    shares = sorted(change.shares().items(), key=lambda one: -abs(one[1]))
    said = ", ".join(f"{cause} {_percent(share)}" for cause, share in shares if _percent(share))
    if not _percent(change.share):
        offset = f": {said}" if said else ""
        return f"A good row costs {cost}, as much as {usual} ({before}){offset}."
    word = "more" if change.share > 0 else "less"
    return (
        f"A good row costs {cost}, {abs(change.share):.0%} {word} than {usual} ({before}): {said}."
    )


def _percent(share: float) -> str:
    """With its sign; nothing for what rounds to nothing."""
    text = f"{share:+.0%}"
    return "" if text in ("+0%", "-0%") else text.replace("-", "−")
