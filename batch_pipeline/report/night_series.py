"""Which measures are drawn over the nights, and each as a chart with its table of numbers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import pairwise

from batch_pipeline.report.chart import Drawing, Level, Point, draw
from batch_pipeline.report.interval import wilson
from batch_pipeline.report.wording import UNKNOWN, count, day, percent, usd
from batch_pipeline.report.wording import points as points_of
from batch_pipeline.stages.trends import Level as Loudness
from batch_pipeline.stages.trends import TrendFinding
from batch_pipeline.warehouse.history import NightMeasures

_HOURS_CEILING = 24.0


@dataclass(frozen=True)
class Lines:
    """What a chart compares with, as the workload declares it."""

    min_validity: float | None
    golden_drop: float  # as a share


@dataclass(frozen=True)
class Chart:
    """A chart with all its words. `rows` are its numbers, newest first; `head` names their columns."""

    key: str
    title: str
    says: str
    latest: str
    description: str
    drawing: Drawing
    trend: tuple[str, str] | None  # its level, and its slope in words
    key_words: Sequence[tuple[str, str]]  # what a stroke means: its class, and words
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class _Kind:
    measure: str
    title: str
    says: str
    unit: str = "rate"  # rate | usd | hours
    least: float = 0.01  # the smallest span that is shown
    may_be_never: bool = False


_KINDS = (
    _Kind("validity", "Output validity", "Answers that meet the contract, at tier 0, first attempt."),
    _Kind("golden_score", "Golden score", "Golden rows whose final answer matches what is known."),
    _Kind("escalation_rate", "Escalation rate", "Source rows that needed a larger model or a person."),
    _Kind("cost_per_good_row_usd", "Cost per 1,000 good rows", "All spend of the load over its validated rows.", "usd"),
    _Kind("cache_hit_rate", "Cache hit rate", "Input tokens that were read from the cache.", may_be_never=True),
    _Kind("truncation_rate", "Truncation rate", "Answers cut off at max_tokens, at tier 0, first attempt.", least=0.005, may_be_never=True),
    _Kind("refusal_rate", "Refusal rate", "Answers that the model refused, at tier 0, first attempt.", least=0.005, may_be_never=True),
    _Kind("expired_rate", "Expiry rate", "Requests that the API did not get to within 24 hours.", least=0.005, may_be_never=True),
    _Kind("errored_rate", "Error rate", "Requests that the API failed.", least=0.005, may_be_never=True),
    _Kind("turnaround_hours_max", "Slowest batch", "Hours from its creation to its end.", "hours"),
)  # fmt: skip


def charts(
    nights: Sequence[NightMeasures], lines: Lines, trends: Mapping[str, TrendFinding]
) -> list[Chart]:
    """A chart per measure that any night has. `nights` are in the order of their days."""
    found = (
        _chart(kind, nights, lines, trends.get(kind.measure))
        for kind in _KINDS
        if not _never(kind, nights)
    )
    return [chart for chart in found if chart is not None]


def never(nights: Sequence[NightMeasures]) -> list[str]:
    """What did not happen on any night: said in a line, since an empty picture says no more."""
    return [kind.title for kind in _KINDS if _never(kind, nights)]


def _never(kind: _Kind, nights: Sequence[NightMeasures]) -> bool:
    values = [
        night.measures[kind.measure].value for night in nights if kind.measure in night.measures
    ]
    return kind.may_be_never and bool(values) and all(value == 0 for value in values)


def _chart(
    kind: _Kind, nights: Sequence[NightMeasures], lines: Lines, trend: TrendFinding | None
) -> Chart | None:
    nights = [night for night in nights if kind.measure in night.measures]
    points = [_point(kind, night) for night in nights]
    if not nights:
        return None
    levels = _levels(kind, nights, lines)
    changes = [
        date.fromisoformat(b.load) for a, b in pairwise(nights) if a.declaration != b.declaration
    ]
    known = [p.value for p in points if p.value is not None]
    loud = trend if trend and trend.level in (Loudness.WATCH, Loudness.PAGE) else None
    write, unit, least, bounds = _axis(kind, max(map(abs, known), default=0.0))
    golden = kind.measure == "golden_score"
    drawing = draw(
        points,
        write=write,
        unit=unit,
        least=least,
        bounds=bounds,
        levels=levels,
        changes=changes,
        fit=loud.fit if loud else None,
        whiskers=golden and len(points) <= 60,
    )
    if drawing is None:
        return None
    rate = kind.unit == "rate"
    return Chart(
        key=kind.measure.replace("_", "-"),
        title=kind.title,
        says=kind.says,
        latest=_write(kind, points[-1].value),
        description=_description(kind, points, levels, changes),
        drawing=drawing,
        trend=(loud.level.value, _slope(loud)) if loud else None,
        key_words=_key(points, changes, drawing, rate=rate),
        head=("Night", "Counted", "Share", "95% interval") if rate else ("Night", kind.title),
        rows=[_row(kind, night, point) for night, point in zip(nights, points, strict=True)][::-1],
    )


def _point(kind: _Kind, night: NightMeasures) -> Point:
    measure = night.measures[kind.measure]
    when = date.fromisoformat(night.load)
    note = f"{day(when)}: {_write(kind, measure.value)}"
    held = night.promote is False
    low: float | None = None
    high: float | None = None
    if kind.unit == "rate" and measure.denominator and measure.numerator is not None:
        note += f" ({count(measure.numerator)} of {count(measure.denominator)})"
        # The tokens of one load are no sample: their share has no error.
        if kind.measure != "cache_hit_rate":
            low, high = wilson(measure.numerator, measure.denominator)
    return Point(when, measure.value, low, high, note + (", held" if held else ""), held)


def _levels(kind: _Kind, nights: Sequence[NightMeasures], lines: Lines) -> list[Level]:
    if kind.measure == "validity" and lines.min_validity is not None:
        label = f"floor {percent(lines.min_validity, 1)}"
        return [Level(label, "floor", [lines.min_validity] * len(nights))]
    if kind.unit == "hours":
        return [Level("24 h ceiling", "floor", [_HOURS_CEILING] * len(nights))]
    if kind.measure != "golden_score":
        return []
    baseline = [night.baseline_score for night in nights]
    known = [value for value in baseline if value is not None]
    if not known:
        return []
    hold = [None if value is None else max(value - lines.golden_drop, 0.0) for value in baseline]
    return [
        Level(f"baseline {percent(known[-1], 1)}", "baseline", baseline),
        Level(f"hold line {percent(max(known[-1] - lines.golden_drop, 0), 1)}", "floor", hold),
    ]


def _slope(trend: TrendFinding) -> str:
    said = f"{points_of(trend.slope or 0.0, 2)} a night, fitted over {trend.nights} nights"
    return f"{said}; the line is reached on {day(trend.reached_on)}" if trend.reached_on else said


def _axis(
    kind: _Kind, largest: float
) -> tuple[Callable[[float, int], str], float, float, tuple[float, float]]:
    if kind.unit == "rate":
        return (lambda v, places: f"{v:.{places}f}%"), 100.0, kind.least, (0.0, 1.0)
    if kind.unit == "hours":
        return (lambda v, places: f"{v:.{places}f} h"), 1.0, 1.0, (0.0, float("inf"))
    return (
        (lambda v, places: f"${v:,.{places}f}"),
        1000.0,
        max(largest * 0.2, 1e-9),
        (0.0, float("inf")),
    )


def _write(kind: _Kind, value: float | None) -> str:
    if kind.unit == "usd":
        return usd(None if value is None else value * 1000)
    if kind.unit == "hours":
        return UNKNOWN if value is None else f"{value:.1f} h"
    return percent(value)


def _row(kind: _Kind, night: NightMeasures, point: Point) -> list[str]:
    measure = night.measures[kind.measure]
    when = night.load + (" · held" if point.held else "")
    if kind.unit != "rate":
        return [when, _write(kind, point.value)]
    interval = (
        f"{percent(point.low)} to {percent(point.high)}" if point.low is not None else UNKNOWN
    )
    counted = f"{count(measure.numerator)} of {count(measure.denominator)}"
    return [when, counted, percent(point.value), interval]


def _description(
    kind: _Kind, points: Sequence[Point], levels: Sequence[Level], changes: Sequence[date]
) -> str:
    known = [p for p in points if p.value is not None]
    least, most = min(known, key=lambda p: p.value or 0), max(known, key=lambda p: p.value or 0)
    said = f"{len(known)} night{'s' * (len(known) != 1)}"
    if len(known) > 1:
        said += (
            f", {known[0].day} to {known[-1].day}, between {_write(kind, least.value)} on "
            f"{day(least.day)} and {_write(kind, most.value)} on {day(most.day)}"
        )
    said += f"; last {_write(kind, known[-1].value)} on {day(known[-1].day)}."
    if levels:
        said += " Compared with " + " and ".join(level.label for level in levels) + "."
    if changes:
        said += " The declaration changed on " + ", ".join(map(day, changes[-5:])) + "."
    return said


def _key(
    points: Sequence[Point],
    changes: Sequence[date],
    drawing: Drawing,
    *,
    rate: bool,
) -> list[tuple[str, str]]:
    key = []
    if rate and any(p.low is not None for p in points):
        key.append(("band", "95% interval") if any(drawing.bands) else ("whisker", "95% interval"))
    if drawing.fit:
        key.append(("fit", "fitted slope"))
    key += [(kind, label) for kind, _, label, _ in drawing.levels]
    key += [("floor", words) for words in drawing.beyond]
    if any(p.held for p in points):
        key.append(("held", "load held"))
    if changes:
        key.append(("mark", "prompt, contract or tiers changed"))
    return key
