"""The five numbers that a load is judged by, each with how it stands, and the sum that they rest on."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import fmean

from batch_pipeline.measure.paired import Verdict
from batch_pipeline.measure.rates import Rate
from batch_pipeline.report.banner import SHAPES
from batch_pipeline.report.chart import sparkline
from batch_pipeline.report.facts import PageFacts
from batch_pipeline.report.wording import UNKNOWN, count, percent, plural, points, usd
from batch_pipeline.stages.scorecard import Scorecard
from batch_pipeline.stages.trends import Level
from batch_pipeline.warehouse.history import NightMeasures

_USUAL = 7  # nights that make up what is usual
_SPARK = 30


@dataclass(frozen=True)
class Tile:
    """A number with its standing. `usual` compares it with the nights before."""

    label: str
    value: str
    state: str
    word: str
    usual: str
    below: str
    spark: Sequence[str] = field(default_factory=list)

    @property
    def shape(self) -> str:
        return SHAPES[self.state]


def tiles(facts: PageFacts) -> list[Tile]:
    """Coverage, validity, cost per good row, escalation and golden score."""
    return [
        _coverage(facts),
        _validity(facts),
        _cost(facts),
        _escalation(facts),
        _golden(facts),
    ]


def _coverage(facts: PageFacts) -> Tile:
    card = facts.card
    rate = card.rates.get("coverage", Rate(0, 0))
    value = percent(rate.value)
    line = spark(facts.nights, "coverage")
    below = plural(card.source_rows, "source row")
    if not card.settled:
        return Tile(
            "Coverage", value, "open", f"{max(card.unaccounted, 0):,} open", "", below, line
        )
    if rate.numerator == rate.denominator and card.batches_reconciled:
        return Tile("Coverage", value, "good", "0 unaccounted", "", below, line)
    word = f"{abs(card.unaccounted):,} unaccounted" if card.unaccounted else "does not add up"
    return Tile("Coverage", value, "bad", word, "", below, line)


def _validity(facts: PageFacts) -> Tile:
    rate = facts.card.rates.get("validity", Rate(0, 0))
    floor = facts.spec.gates.min_validity
    state, word = _by_trend(facts, "validity")
    if rate.value is None:
        state, word = "none", "no answers yet"
    elif floor is not None and rate.value < float(floor):
        state, word = "bad", f"below the floor of {percent(float(floor), 1)}"
    everywhere = facts.card.rates.get("validity_all_tiers", Rate(0, 0))
    return _rate_tile(
        facts,
        "Output validity",
        "validity",
        (state, word),
        f"{count(rate.numerator)} of {count(rate.denominator)} at tier 0; {percent(everywhere.value)} "
        "over all tiers",
    )


def _escalation(facts: PageFacts) -> Tile:
    rate = facts.card.rates.get("escalation_rate", Rate(0, 0))
    state = _by_trend(facts, "escalation_rate")
    if rate.value is None:
        state = ("none", "no rows yet")
    rows = plural(rate.numerator, "row")
    return _rate_tile(
        facts, "Escalation rate", "escalation_rate", state, f"{rows} to a larger model or a person"
    )


def _rate_tile(
    facts: PageFacts, label: str, measure: str, standing: tuple[str, str], below: str
) -> Tile:
    now = facts.card.rates.get(measure, Rate(0, 0)).value
    usual = _usual(facts, measure)
    said = ""
    if now is not None and usual is not None:
        said = f"{points(now - usual[0])} to the mean of {plural(usual[1], 'night')} before"
    return Tile(label, percent(now), *standing, said, below, spark(facts.nights, measure))


def _cost(facts: PageFacts) -> Tile:
    card = facts.card
    now = card.cost_per_good_row_usd
    most = facts.spec.gates.max_cost_usd
    state, word = "good", f"under the limit of {usd(float(most))}" if most else ""
    if now is None:
        state, word = "none", "no good row" if card.settled else "not known yet"
    elif card.unpriced_requests:
        state, word = "watch", "a lower bound"
    elif most is not None and card.cost_usd > float(most):
        state, word = "bad", f"above the limit of {usd(float(most))}"
    elif most is None:
        state, word = "none", "no limit declared"
    usual = _usual(facts, "cost_per_good_row_usd")
    said = ""
    if now is not None and usual is not None and usual[0]:
        change = now / usual[0] - 1
        said = f"{_change(change)} to the mean of {plural(usual[1], 'night')} before"
    below = f"{usd(card.cost_usd)} in all"
    if now is not None:
        below += f"; {usd(now * 1000)} per 1,000 good rows"
    return Tile(
        "Cost per good row",
        usd(now),
        state,
        word,
        said,
        below,
        spark(facts.nights, "cost_per_good_row_usd"),
    )


def _golden(facts: PageFacts) -> Tile:
    golden = facts.card.golden
    if golden is None:
        declared = facts.spec.golden is not None
        word = "not graded" if declared else "no golden set"
        return Tile("Golden score", UNKNOWN, "none", word, "", "Quality is not measured.")
    limit = facts.spec.gates.golden_drop_points
    verdict = golden.verdict(limit)
    drop = golden.drop_points
    word = "not comparable" if drop is None else "at the baseline"
    if drop:
        word = f"{abs(drop):.1f} pt {'below' if drop > 0 else 'above'} the baseline"
    state, word = _by_trend(facts, "golden_score", word)
    if verdict is not Verdict.PASS:
        state, word = "bad", f"{word}; {verdict.value}"
    seen = golden.smallest_visible_drop(limit)
    sees = "no drop" if seen is None else f"drops of {seen * 100:.1f} pt or more"
    return Tile(
        "Golden score",
        percent(golden.score, 1),
        state,
        word,
        f"baseline {percent(golden.baseline_score, 1)}, {'recorded' if golden.recorded else 'declared'}; "
        f"holds at −{float(limit):g} pt",
        f"{count(golden.correct)} of {plural(golden.n, 'golden row')}, which reliably show {sees}",
        spark(facts.nights, "golden_score"),
    )


def spark(nights: Sequence[NightMeasures], measure: str) -> list[str]:
    """The last month of a measure as a line without axes; nothing for a single night."""
    values = [
        night.measures[measure].value if measure in night.measures else None
        for night in nights[-_SPARK:]
    ]
    return sparkline(values) if len([v for v in values if v is not None]) > 1 else []


def _by_trend(facts: PageFacts, measure: str, good: str | None = None) -> tuple[str, str]:
    """State and word of a tile; `good` is said where no trend speaks against it."""
    trend = facts.trends.get(measure)
    if trend is not None and trend.level in (Level.WATCH, Level.PAGE):
        worse = "falling" if trend.watched.falling else "rising"
        bad = trend.level is Level.PAGE
        return ("bad", f"{worse}: page") if bad else ("watch", f"{worse}: watch")
    if good is not None:
        return "good", good
    known = trend is not None and trend.level is Level.OK
    return ("good", "steady") if known else ("none", "no trend known yet")


def _usual(facts: PageFacts, measure: str) -> tuple[float, int] | None:
    """The mean of the nights before, and of how many."""
    values = [
        value
        for night in facts.before[-_USUAL:]
        if measure in night.measures and (value := night.measures[measure].value) is not None
    ]
    return (fmean(values), len(values)) if values else None


def _change(share: float) -> str:
    sign = "±" if f"{abs(share):.1%}" == "0.0%" else "+" if share > 0 else "−"
    return f"{sign}{abs(share):.1%}"


def parts(card: Scorecard) -> list[tuple[str, str, int]]:
    """The coverage sum: (class, words, rows) of everything that source rows are made of."""
    return [
        ("validated", "validated", card.dispositions["validated"]),
        ("quarantined", "quarantined", card.dispositions["quarantined"]),
        ("review", "human review", card.dispositions["human_review"]),
        ("unaccounted", "unaccounted" if card.settled else "open", card.unaccounted),
    ]
