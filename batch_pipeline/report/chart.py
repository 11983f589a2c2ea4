"""A line over nights, as the geometry that a template draws. Nothing here knows what is measured."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from statistics import median

from batch_pipeline.report.axes import Scale, date_ticks, decimals, span, ticks
from batch_pipeline.report.wording import day

# Units of the drawing. It is shown at about this width, so that 12 units of text stay 12 pixels.
WIDTH, HEIGHT = 380, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 368, 20, 184
# More of them would be a caterpillar; the nights can still be pointed at one by one.
_MOST_DOTS = 45
# A line far away would flatten what is to be seen; it is then named instead of drawn.
_FAR = 3.0


@dataclass(frozen=True)
class Point:
    """One night. `low` and `high` are its interval; `note` is what pointing at it says."""

    day: date
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    held: bool = False


@dataclass(frozen=True)
class Level:
    """A line to compare with, by night: steps where it changes, and a gap where it is None."""

    label: str
    kind: str  # floor | baseline
    values: Sequence[float | None]


@dataclass(frozen=True)
class Text:
    x: float
    y: float
    text: str
    anchor: str = "middle"


@dataclass(frozen=True)
class Dot:
    x: float
    y: float
    kind: str  # night | last | held
    low: float | None = None  # of the whisker
    high: float | None = None


@dataclass(frozen=True)
class Drawing:
    """What the template draws: path data, and where each text goes."""

    lines: list[str] = field(default_factory=list)
    bands: list[str] = field(default_factory=list)
    dots: list[Dot] = field(default_factory=list)
    grid: list[Text] = field(default_factory=list)
    dates: list[Text] = field(default_factory=list)
    # Kind, path and words; and the words once more where there is room for them beside the line.
    levels: list[tuple[str, str, str, Text | None]] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)  # levels that are not in the picture, in words
    marks: list[tuple[float, str]] = field(default_factory=list)
    fit: str = ""
    targets: list[tuple[float, float, str]] = field(default_factory=list)  # x, width, note
    left: int = _LEFT
    right: int = _RIGHT
    top: int = _TOP
    bottom: int = _BOTTOM


def draw(
    points: Sequence[Point],
    *,
    write: Callable[[float, int], str],
    unit: float = 1.0,
    least: float,
    bounds: tuple[float, float],
    levels: Sequence[Level] = (),
    changes: Sequence[date] = (),
    fit: tuple[tuple[date, float], tuple[date, float]] | None = None,
    whiskers: bool = False,
) -> Drawing | None:
    """Draws `points`, which are in the order of their days. None where not one has a value.

    Args:
        points: the nights.
        write: writes a tick: the value times `unit`, and how many decimals it needs.
        unit: what ticks are rounded in (100 for percentages).
        least: the smallest span of values that is shown: noise must not fill the picture.
        bounds: what values can be at all.
        levels: lines to compare with.
        changes: days on which something changed, to be marked.
        fit: the two ends of the fitted line.
        whiskers: intervals as a whisker per night instead of a band.
    """
    known = [p for p in points if p.value is not None]
    if not known:
        return None
    seen = [v for p in known for v in (p.value, p.low, p.high) if v is not None]
    seen += [value for _, value in fit or ()]
    near, far = _sort_levels(levels, seen, least)
    low, high = span(
        [*seen, *(v for level in near for v in level.values if v is not None)],
        least=least,
        bounds=bounds,
    )
    first, last = points[0].day, points[-1].day
    days = Scale(0, (last - first).days, _LEFT + 6, _RIGHT - 6)

    def x(when: date) -> float:
        return days((when - first).days)

    y = Scale(low, high, _BOTTOM, _TOP)
    marks = ticks(low * unit, high * unit)
    places = decimals(marks)
    pieces = _pieces(points)
    return Drawing(
        lines=[_path((x(p.day), y(p.value or 0)) for p in piece) for piece in pieces],
        bands=[]
        if whiskers
        else [_band(piece, x, y) for piece in pieces if piece[0].low is not None],
        dots=_dots(pieces, x, y, whiskers=whiskers),
        grid=[Text(_LEFT - 6, y(v / unit), write(v, places), "end") for v in marks],
        dates=_dates(first, last, x),
        levels=[_level(level, points, x, y, seen) for level in near],
        beyond=_beyond(far, seen),
        marks=_marks(changes, x),
        fit=_path((x(when), y(value)) for when, value in fit) if fit else "",
        targets=_targets(points, x),
    )


def sparkline(values: Sequence[float | None], width: int = 96, height: int = 24) -> list[str]:
    """Paths of a small line without axes, one per run of known values; a lone one is a short dash."""
    known = [v for v in values if v is not None]
    if not known:
        return []
    y = Scale(*span(known, least=max(abs(max(known)) * 0.02, 1e-9)), height - 3, 3)
    x = Scale(0, len(values) - 1, 3, width - 3)
    paths, run = [], []
    for n, value in enumerate([*values, None]):
        if value is not None:
            run.append((x(n), y(value)))
        elif run:
            paths.append(_path(run))
            run = []
    return paths


def _pieces(points: Sequence[Point]) -> list[list[Point]]:
    """Runs of nights without a gap. A gap is a night without a value, or more than the usual distance."""
    distances = [(b.day - a.day).days for a, b in pairwise(points)]
    usual = median(distances) if distances else 1
    pieces: list[list[Point]] = []
    previous: Point | None = None
    for point in points:
        if point.value is not None:
            joined = previous is not None and (point.day - previous.day).days <= 1.5 * usual
            if joined:
                pieces[-1].append(point)
            else:
                pieces.append([point])
        previous = point if point.value is not None else None
    return pieces


def _dots(
    pieces: Sequence[Sequence[Point]],
    x: Callable[[date], float],
    y: Scale,
    *,
    whiskers: bool,
) -> list[Dot]:
    every = whiskers or sum(map(len, pieces)) <= _MOST_DOTS
    newest = pieces[-1][-1]
    dots = []
    for piece in pieces:
        for point in piece:
            kind = "held" if point.held else "last" if point is newest else "night"
            if every or kind != "night" or len(piece) == 1:
                ends = (
                    (y(point.low), y(point.high))
                    if point.low is not None
                    and point.high is not None
                    and (whiskers or len(piece) == 1)
                    else (None, None)
                )
                dots.append(Dot(x(point.day), y(point.value or 0), kind, *ends))
    return dots


def _sort_levels(
    levels: Sequence[Level], seen: Sequence[float], least: float
) -> tuple[list[Level], list[Level]]:
    width = max(max(seen) - min(seen), least)
    near: list[Level] = []
    far: list[Level] = []
    for level in levels:
        known = [v for v in level.values if v is not None]
        reach = max((max(min(seen) - v, v - max(seen)) for v in known), default=0.0)
        if known:
            (far if reach > _FAR * width else near).append(level)
    return near, far


def _level(
    level: Level,
    points: Sequence[Point],
    x: Callable[[date], float],
    y: Scale,
    seen: Sequence[float],
) -> tuple[str, str, str, Text | None]:
    """Steps: a value holds until the next night. Its ends reach to the edges of the picture."""
    path, before = "", None
    for n, (point, value) in enumerate(zip(points, level.values, strict=True)):
        if value is not None:
            start = _LEFT if n == 0 else x(point.day)
            if before is None:
                path += f"M{start:.1f} {y(value):.1f}"
            else:
                path += f"H{x(point.day):.1f}" + (f"V{y(value):.1f}" if value != before else "")
        before = value
    if before is not None:
        path += f"H{_RIGHT}"
    last = next(v for v in reversed(level.values) if v is not None)
    free = y(last) - 18 > y(min(seen)) or y(last) < y(max(seen))
    words = Text(_LEFT + 4, y(last) - 5, level.label, "start") if free else None
    return level.kind, path, level.label, words


def _beyond(far: Sequence[Level], seen: Sequence[float]) -> list[str]:
    said = []
    for level in far:
        last = next(v for v in reversed(level.values) if v is not None)
        arrow, side = ("↓", "below") if last < min(seen) else ("↑", "above")
        said.append(f"{arrow} {level.label} is {side} this view")
    return said


def _dates(first: date, last: date, x: Callable[[date], float]) -> list[Text]:
    labelled = date_ticks(first, last)
    texts = []
    for when in labelled:
        place = x(when)
        anchor = "end" if place > _RIGHT - 20 else "start" if place < _LEFT + 16 else "middle"
        texts.append(Text(_RIGHT if anchor == "end" else place, HEIGHT - 8, day(when), anchor))
    return texts


def _marks(changes: Sequence[date], x: Callable[[date], float]) -> list[tuple[float, str]]:
    """Marks of changes; the words only where they do not run into the last ones."""
    marks: list[tuple[float, str]] = []
    free = -math.inf
    for when in changes:
        place = x(when)
        said = place >= free
        marks.append((place, "changed" if said else ""))
        free = place + 60 if said else free
    return marks


def _targets(points: Sequence[Point], x: Callable[[date], float]) -> list[tuple[float, float, str]]:
    """Areas to point at, one per night, that meet half-way."""
    places = [x(point.day) for point in points]
    edges = [_LEFT, *((a + b) / 2 for a, b in pairwise(places)), _RIGHT]
    return [
        (start, end - start, point.note)
        for start, end, point in zip(edges, edges[1:], points, strict=False)
    ]


def _band(piece: Sequence[Point], x: Callable[[date], float], y: Scale) -> str:
    ups = [(x(p.day), y(p.high if p.high is not None else p.value or 0)) for p in piece]
    downs = [(x(p.day), y(p.low if p.low is not None else p.value or 0)) for p in piece]
    return _path([*ups, *reversed(downs)]) + "Z" if len(piece) > 1 else ""


def _path(places: Iterable[tuple[float, float]]) -> str:
    corners = [f"{a:.1f} {b:.1f}" for a, b in places]
    if len(corners) == 1:
        return f"M{corners[0]}h0.1"
    return "M" + "L".join(corners)
