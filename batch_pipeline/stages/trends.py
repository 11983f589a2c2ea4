"""Slow falls over the nights: caught by their slope, though no night crosses a line.

Everything is computed from the metrics' Parquet copies, so that a check, the page and a person see the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING

from batch_pipeline.measure.trend import WINDOWS, Night, Trend, trend
from batch_pipeline.workload.spec import WorkloadSpec

if TYPE_CHECKING:
    from batch_pipeline.warehouse.history import NightMeasures

_SHOWN_NIGHTS = 7
# One bad row among twelve is no trend, however perfect the nights before were.
_LEAST_ROWS = 3
# Standard errors by which a night must stand out from the fallen line for the fall to be over.
_SURE = 2.0


class Level(StrEnum):
    """How loud a finding is. `unknown`: too few nights to say."""

    OK = "ok"
    WATCH = "watch"
    PAGE = "page"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Watched:
    """A rate that is followed: what it is called, whether falling is bad, and where to look."""

    measure: str
    title: str
    falling: bool
    look_at: str


WATCHED = (
    Watched(
        "validity",
        "Output validity",
        True,
        "the reasons on output_contract, and at what changed in the source",
    ),
    Watched(
        "escalation_rate",
        "The escalation rate",
        False,
        "the reasons on output_contract; every escalated row is paid again at a dearer tier",
    ),
    Watched("golden_score", "The golden score", True, "the golden rows that are wrong now"),
    Watched(
        "truncation_rate",
        "The truncation rate",
        False,
        "max_tokens of the first tier, and longer inputs",
    ),
    Watched("refusal_rate", "The refusal rate", False, "what the refused rows have in common"),
    Watched(
        "expired_rate",
        "The expiry rate",
        False,
        "how long batches take; the API is busy or loads are too large",
    ),
)


@dataclass(frozen=True)
class TrendFinding:
    """One rate over the nights since the declaration last changed.

    `slope` is per night and `fall` over the window, both as shares of the rate itself (negative: it sinks);
    `reached_on` is the night on which the floor is crossed at this pace. `fit` holds the line's two ends.
    """

    watched: Watched
    level: Level
    sentence: str
    nights: int
    slope: float | None = None
    fall: float | None = None
    p: float | None = None
    floor: float | None = None
    reached_on: date | None = None
    fit: tuple[tuple[date, float], tuple[date, float]] | None = None


def trends_of(history: Sequence[NightMeasures], spec: WorkloadSpec) -> list[TrendFinding]:
    """Every watched rate of the last night in `history` (oldest first), which may not be cancelled."""
    since = same_declaration(history)
    return [_finding(watched, since, spec) for watched in WATCHED]


def same_declaration(history: Sequence[NightMeasures]) -> list[NightMeasures]:
    """The nights since the declaration last changed: a deliberate change is no drift. Cancelled ones are left out."""
    since: list[NightMeasures] = []
    for night in reversed(history):
        if night.cancelled:
            continue
        if night.declaration != history[-1].declaration:
            break
        since.insert(0, night)
    return since


def same_golden_set(since: Sequence[NightMeasures]) -> list[NightMeasures]:
    """The last of these nights, as far back as the golden set is the last one's: others are other questions."""
    same: list[NightMeasures] = []
    for night in reversed(since):
        if night.golden_set != since[-1].golden_set:
            break
        same.insert(0, night)
    return same


def _finding(watched: Watched, since: Sequence[NightMeasures], spec: WorkloadSpec) -> TrendFinding:
    if watched.measure == "golden_score":
        since = same_golden_set(since)
    counted = list(_counted(watched, since))
    floor = _floor(watched, since, spec)
    fits = [
        (window, fitted)
        for window in WINDOWS
        if (
            fitted := trend(
                counted,
                window,
                min_fall=float(spec.trends.min_fall_points) / 100,
                wobble=float(spec.trends.wobble_points) / 100,
            )
        )
    ]
    shown = [
        night.rate if watched.falling else 1 - night.rate for night in counted[-_SHOWN_NIGHTS:]
    ]
    figures = ", ".join(f"{rate:.1%}" for rate in shown)
    if counted and counted[-1].day.isoformat() != since[-1].load:
        said = f"{watched.title} cannot be told: this load has nothing to count."
        return TrendFinding(watched, Level.UNKNOWN, said, len(counted), floor=floor)
    if not fits:
        known = f"{len(counted)} night{'s' if len(counted) != 1 else ''}"
        said = f"{watched.title}: {figures or 'nothing to count'}. {known} under this declaration; a trend needs three."
        return TrendFinding(watched, Level.UNKNOWN, said, len(counted), floor=floor)
    # The window that is surest: that is the one that speaks.
    fitted = min(fits, key=lambda pair: (not pair[1].alarm, not pair[1].watch, pair[1].p))[1]
    sign = 1 if watched.falling else -1
    level = Level.PAGE if fitted.alarm else Level.WATCH if fitted.watch else Level.OK
    if fitted.fall * counted[-1].n < _LEAST_ROWS:
        level = Level.OK
    elif level is Level.PAGE and _is_over(counted, fitted):
        level = Level.WATCH
    recent = _recent_slope(counted)
    reached = _reached(counted, recent, floor) if level is not Level.OK else None
    return TrendFinding(
        watched,
        level,
        _sentence(
            watched, level, figures, len(shown), fitted, sign * recent, floor, reached, counted
        ),
        fitted.nights,
        slope=sign * fitted.slope,
        fall=fitted.fall,
        p=fitted.p,
        floor=floor,
        reached_on=reached,
        fit=_fit(counted, fitted, falling=watched.falling),
    )


def _counted(watched: Watched, since: Sequence[NightMeasures]) -> Iterator[Night]:
    for night in since:
        measure = night.measures.get(watched.measure)
        if measure is None or not measure.denominator or measure.numerator is None:
            continue
        n, hits = int(measure.denominator), int(measure.numerator)
        yield Night(date.fromisoformat(night.load), hits if watched.falling else n - hits, n)


def _floor(watched: Watched, since: Sequence[NightMeasures], spec: WorkloadSpec) -> float | None:
    """Below it the gate holds; only these two have one."""
    if watched.measure == "validity" and spec.gates.min_validity is not None:
        return float(spec.gates.min_validity)
    if watched.measure == "golden_score" and since and since[-1].baseline_score is not None:
        return since[-1].baseline_score - float(spec.gates.golden_drop_points) / 100
    return None


def _is_over(counted: Sequence[Night], fitted: Trend) -> bool:
    """Whether the last night regained three quarters of the fall, and by more than chance.

    A few bad nights stay in the window after they are over, and nothing is left to be woken for.
    """
    last = counted[-1]
    there = fitted.at_start - fitted.fall
    spread = (max(there * (1 - there), 0.0) / last.n + fitted.wobble**2) ** 0.5
    regained = last.rate >= fitted.at_start - fitted.fall / 4
    return regained and last.rate - there >= _SURE * spread


def _recent_slope(counted: Sequence[Night]) -> float:
    """Per night, over the last three: a week's fit of a fall that began yesterday says little of tomorrow."""
    last = counted[-3:]
    return (last[-1].rate - last[0].rate) / (last[-1].day - last[0].day).days


def _reached(counted: Sequence[Night], slope: float, floor: float | None) -> date | None:
    if floor is None or slope >= 0:
        return None
    left = counted[-1].rate - floor
    if left <= 0:
        return counted[-1].day
    nights_left = ceil(left / -slope)
    return counted[-1].day + timedelta(days=nights_left) if nights_left <= 365 else None


def _fit(
    counted: Sequence[Night], fitted: Trend, *, falling: bool
) -> tuple[tuple[date, float], tuple[date, float]]:
    """The line goes through the weighted mean of its nights."""
    window = counted[-fitted.nights :]
    first, last = window[0].day, window[-1].day
    ends = [fitted.at_start, fitted.at_start + fitted.slope * (last - first).days]
    a, b = ends if falling else [1 - end for end in ends]
    return (first, a), (last, b)


def _sentence(
    watched: Watched,
    level: Level,
    figures: str,
    shown: int,
    fitted: Trend,
    recent: float,
    floor: float | None,
    reached: date | None,
    counted: Sequence[Night],
) -> str:
    last = f"{figures} over the last {shown} nights"
    if level is Level.OK:
        return f"{watched.title} shows no trend: {last}."
    verb = "falls" if watched.falling else "rises"
    said = (
        f"{watched.title} {verb}: {last}, {recent * 100:+.2f} points a night over the last three and "
        f"{fitted.fall * 100:.1f} points over {fitted.nights} nights (p = {fitted.p:.2g})"
    )
    skipped = (counted[-1].day - counted[-fitted.nights].day).days + 1 - fitted.nights
    if skipped:
        plural = "s" if skipped > 1 else ""
        said += f", {skipped} night{plural} without a load among them"
    if reached is not None and floor is not None:
        below = reached <= counted[-1].day
        said += (
            f"; it is at or below the gate's {floor:.1%} already"
            if below
            else f"; at this pace it reaches the gate's {floor:.1%} on {reached:%Y-%m-%d}"
        )
    if level is Level.WATCH:
        over = _is_over(counted, fitted)
        return f"{said}. {'The last night is back where it began.' if over else 'Not sure enough to page.'}"
    return f"{said}. Look at {watched.look_at}."
