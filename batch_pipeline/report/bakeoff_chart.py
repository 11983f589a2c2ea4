"""Score against cost per good row, as the geometry that a template draws: a numbered dot with its interval each."""

from collections.abc import Sequence
from dataclasses import dataclass

from batch_pipeline.measure.bakeoff import Candidate
from batch_pipeline.report.axes import Scale, decimals, span, ticks
from batch_pipeline.report.interval import wilson
from batch_pipeline.report.wording import percent, usd

# Units of the drawing; see chart.py.
WIDTH, HEIGHT = 760, 320
LEFT, RIGHT, TOP, BOTTOM = 58, 744, 18, 276


@dataclass(frozen=True)
class Mark:
    """`shape` is circle for a model and square for a cascade; one that does not pass is drawn hollow."""

    number: int
    shape: str
    passes: bool
    x: float
    y: float
    low: float
    high: float
    note: str


@dataclass(frozen=True)
class BakeoffDrawing:
    marks: list[Mark]
    scores: list[tuple[float, str]]  # y and its text
    costs: list[tuple[float, str]]  # x and its text
    missing: list[str]  # candidates without a good row: they have no cost per good row


def draw_bakeoff(candidates: Sequence[Candidate]) -> BakeoffDrawing | None:
    """Numbers the candidates from 1 in the order given; None where not one has a good row."""
    priced = [(n, one) for n, one in enumerate(candidates, 1) if one.usd_per_good_row is not None]
    if not priced:
        return None
    intervals = {n: wilson(one.correct, one.rows) for n, one in priced}
    cost = {n: float(one.usd_per_good_row or 0) for n, one in priced}
    low, high = span([v for pair in intervals.values() for v in pair], least=0.1, bounds=(0.0, 1.0))
    score_of = Scale(low, high, BOTTOM, TOP)
    dearest = max(cost.values()) * 1.08
    cost_of = Scale(0.0, dearest or 1.0, LEFT + 10, RIGHT - 20)
    levels = ticks(low, high)
    places = decimals([100 * level for level in levels])
    return BakeoffDrawing(
        marks=[
            Mark(
                number=n,
                shape="circle" if len(one.models) == 1 else "square",
                passes=one.passes,
                x=cost_of(cost[n]),
                y=score_of(one.score),
                low=score_of(intervals[n][0]),
                high=score_of(intervals[n][1]),
                note=f"{one.name}: score {percent(one.score, 1)}, {usd(cost[n])} per good row",
            )
            for n, one in priced
        ],
        scores=[(score_of(level), f"{100 * level:.{places}f}%") for level in levels],
        costs=[(cost_of(level), usd(level)) for level in ticks(0.0, dearest)] if dearest else [],
        missing=[one.name for one in candidates if one.usd_per_good_row is None],
    )
