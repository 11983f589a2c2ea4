"""What is logged and never paged: a moved mix of labels, and sudden changes of cost or cache."""

from collections.abc import Sequence
from dataclasses import dataclass

from batch_pipeline.measure.change import change
from batch_pipeline.measure.mix import mix_of
from batch_pipeline.stages.cost_history import CostsExplained, costs_explained
from batch_pipeline.stages.trends import same_declaration
from batch_pipeline.warehouse.history import LABEL_NIGHTS, NightMeasures, label_nights, nights
from batch_pipeline.warehouse.place import Where
from batch_pipeline.workload.spec import WorkloadSpec

# A cost per good row that differs by a tenth, and a cache that hits ten points less, are worth a line.
_COST_SHARE = 0.1
_CACHE_POINTS = 0.1


@dataclass(frozen=True)
class Noticed:
    """Something lagging: logged, never paged. `unusual` is None where there are too few nights to say."""

    name: str
    unusual: bool | None
    sentence: str


def noticed(where: Where, spec: WorkloadSpec, load: str) -> list[Noticed]:
    """The lagging ones of a load: label mix, cost per good row, cache hits."""
    history = same_declaration(nights(where, spec.name, load, most=LABEL_NIGHTS))
    mixes = label_nights(where, spec.name, load)
    return [
        _mix(mixes, [night.load for night in history]),
        _cost(history, costs_explained(where, spec.name, load)),
        _cache(history),
    ]


def _mix(mixes: dict[str, dict[str, dict[str, int]]], loads: Sequence[str]) -> Noticed:
    said, unusual, known = [], False, False
    for name in sorted(mixes.get(loads[-1], {}) if loads else ()):
        mix = mix_of([mixes.get(load, {}).get(name, {}) for load in loads])
        if mix is None:
            continue
        known |= mix.usual is not None
        if mix.unusual:
            unusual = True
            moved = ", ".join(f"{label} {a:.1%} → {b:.1%}" for label, a, b in mix.moved)
            said.append(
                f"The mix of {name} moved further than on any of the last nights ({moved}); look whether the "
                "source has changed or the prompt is read differently."
            )
    if said:
        return Noticed("label_mix", unusual, " ".join(said))
    word = "is as on the nights before" if known else "has no history of ten nights yet"
    return Noticed("label_mix", False if known else None, f"The mix of labels {word}.")


def _values(history: Sequence[NightMeasures], name: str) -> list[float]:
    """Of every night that has one; none at all where the last night has none."""
    values = [m.value if (m := night.measures.get(name)) is not None else None for night in history]
    return (
        [value for value in values if value is not None]
        if values and values[-1] is not None
        else []
    )


def _cost(history: Sequence[NightMeasures], explained: CostsExplained | None) -> Noticed:
    costs = [cost for cost in _values(history, "cost_per_good_row_usd") if cost]
    found = change(costs, least=_COST_SHARE * costs[-1]) if costs else None
    if found is None:
        return Noticed(
            "cost_per_good_row",
            None,
            "The cost per good row cannot be told: none tonight, or fewer than five nights before.",
        )
    said = f"A good row cost ${found.tonight:.6f}, usually ${found.usual:.6f} ({found.tonight / found.usual - 1:+.0%})"
    if found.unusual and explained is not None:
        said += f". {explained.sentence.removesuffix('.')}"
    elif found.unusual:
        said += "; look at the spend by kind: prices, longer answers, escalations or a cache that stopped hitting"
    return Noticed("cost_per_good_row", found.unusual, f"{said}.")


def _cache(history: Sequence[NightMeasures]) -> Noticed:
    rates = _values(history, "cache_hit_rate")
    found = change(rates, least=_CACHE_POINTS)
    if found is None:
        return Noticed(
            "cache_hits",
            None,
            "The cache's hit rate cannot be told: none tonight, or fewer than five nights before.",
        )
    less = found.unusual and found.tonight < found.usual
    said = f"{found.tonight:.1%} of the input came from the cache, usually {found.usual:.1%}"
    if less:
        said += "; look whether the system prompt varies between rows or has become too short to be cached"
    return Noticed("cache_hits", less, f"{said}.")
