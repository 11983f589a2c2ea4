"""A bake-off's measures: models over the same golden rows, cascades of two of them, and what chance could explain."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from itertools import permutations

from batch_pipeline.measure.paired import (
    ALPHA,
    LEAST_FLIPS,
    Paired,
    Verdict,
    mid_p,
    paired_verdict,
    score_verdict,
    smallest_visible_drop,
)
from batch_pipeline.measure.rates import Rate

# With fewer rows, one row is more than three points.
FEW_ROWS = 30


@dataclass(frozen=True)
class RowOutcome:
    """What became of one golden row.

    `outcome` is as in the verdicts; `climbs` says that the next tier, where there is one, would be asked.
    `correct` is valid and right. `usd` is all that was spent on the row, `output_tokens` those of its answer.
    """

    outcome: str
    climbs: bool
    correct: bool
    usd: Decimal
    output_tokens: int = 0

    @property
    def valid(self) -> bool:
        return self.outcome == "valid"

    @property
    def answered(self) -> bool:
        """There is an answer, good or not: only these say something of the model."""
        return self.valid or self.climbs


Outcomes = Sequence[RowOutcome]


@dataclass(frozen=True)
class Accepted:
    """What counts for the workload: the accepted golden outcome and the gates.

    `rows` is a recorded baseline's outcome, in the order of the golden rows; None where only the declared
    `share` can be compared with.
    """

    share: Fraction
    drop_points: Decimal
    min_validity: Decimal | None = None
    rows: Sequence[bool] | None = None


@dataclass(frozen=True)
class Candidate:
    """A model, or a cascade of two, over the golden rows. Good means that the contract is met.

    `validity` is that of the first model's answers: what the gate looks at every night. `escalated` is the
    number of rows that the second model was asked. `objections` say why it does not pass.
    """

    models: tuple[str, ...]
    rows: int
    correct: int
    valid: int
    validity: Rate
    escalated: int
    outcomes: dict[str, int]
    usd: Decimal
    mean_output_tokens: float | None
    verdict: Verdict
    objections: tuple[str, ...]

    @property
    def name(self) -> str:
        return " → ".join(self.models)

    @property
    def passes(self) -> bool:
        return not self.objections

    @property
    def score(self) -> float:
        return self.correct / self.rows if self.rows else 0.0

    @property
    def usd_per_good_row(self) -> Decimal | None:
        return self.usd / self.valid if self.valid else None

    @property
    def usd_per_correct_row(self) -> Decimal | None:
        return self.usd / self.correct if self.correct else None

    @property
    def usd_per_row(self) -> Decimal:
        return self.usd / self.rows if self.rows else Decimal(0)

    @property
    def refused_by_api(self) -> bool:
        """Not one request was taken: a parameter that the model does not have, say."""
        return self.rows > 0 and self.outcomes.get("invalid_request", 0) == self.rows

    @property
    def unanswered(self) -> int:
        """Rows without any answer: expired, errored, refused by the API."""
        answers = ("valid", "contract_broken", "refusal", "truncated")
        return self.rows - sum(self.outcomes.get(each, 0) for each in answers)


@dataclass(frozen=True)
class Comparison:
    """A model beside the chosen one, row by row: `lost` are rows that it has wrong and the chosen one right.

    `p` is two-sided. `smallest_difference` is the true difference, as a share, that this many rows show in 4
    of 5 tries; None where none would.
    """

    model: str
    lost: int
    won: int
    p: float
    smallest_difference: float | None

    @property
    def could_be_chance(self) -> bool:
        return self.p > ALPHA


@dataclass(frozen=True)
class Ranking:
    """All candidates, the cheapest of each kind that pass, and how the models compare with `reference`.

    `reference` is the chosen model, or the best one where none passes.
    """

    models: tuple[Candidate, ...]
    cascades: tuple[Candidate, ...]
    chosen: Candidate | None
    chosen_cascade: Candidate | None
    reference: Candidate
    comparisons: tuple[Comparison, ...]
    smallest_difference: float | None


def rank(models: Sequence[str], outcomes: Sequence[Outcomes], accepted: Accepted) -> Ranking:
    """Measures every model and every cascade of two.

    Args:
        models: their names.
        outcomes: of each model, the rows, all in the same order.
        accepted: what a candidate is held against.
    """
    singles = tuple(
        measure((name,), [rows], accepted) for name, rows in zip(models, outcomes, strict=True)
    )
    # A cascade goes up: asking the dearer model first would only add to its price.
    pairs = [
        (low, high)
        for low, high in permutations(range(len(models)), 2)
        if singles[low].usd <= singles[high].usd
        and not singles[low].refused_by_api
        and not singles[high].refused_by_api
    ]
    cascades = tuple(
        measure((models[low], models[high]), [outcomes[low], outcomes[high]], accepted)
        for low, high in pairs
    )
    chosen = cheapest(singles)
    # Where nothing climbed, it is the first model by itself.
    climbing = tuple(each for each in cascades if each.escalated)
    reference = chosen or min(
        singles, key=lambda each: (each.refused_by_api, -each.correct, each.usd)
    )
    mine = outcomes[singles.index(reference)]
    n = len(mine)
    return Ranking(
        models=singles,
        cascades=cascades,
        chosen=chosen,
        chosen_cascade=cheapest(climbing),
        reference=reference,
        comparisons=tuple(
            compare(each.models[0], rows, mine)
            for each, rows in zip(singles, outcomes, strict=True)
            if each is not reference and not each.refused_by_api
        ),
        smallest_difference=_smallest_difference(n, LEAST_FLIPS),
    )


def cheapest(candidates: Sequence[Candidate]) -> Candidate | None:
    """Of those that pass, the one whose good row costs least; of equals, the cheaper in all, then the first."""
    passing = [each for each in candidates if each.passes]
    return min(passing, key=lambda each: (Fraction(each.usd) / each.valid, each.usd), default=None)


def cascade(tiers: Sequence[Outcomes]) -> list[RowOutcome]:
    """The rows as they would end if each went on to the next model while it climbs; it pays for all it was asked."""
    return [_climb(answers) for answers in zip(*tiers, strict=True)]


def _climb(answers: tuple[RowOutcome, ...]) -> RowOutcome:
    usd = Decimal(0)
    for answer in answers:
        usd += answer.usd
        if not answer.climbs:
            break
    return RowOutcome(answer.outcome, answer.climbs, answer.correct, usd, answer.output_tokens)


def measure(models: tuple[str, ...], tiers: Sequence[Outcomes], accepted: Accepted) -> Candidate:
    """One model, or several as a cascade, over the golden rows."""
    first, rows = tiers[0], cascade(tiers)
    counts: dict[str, int] = {}
    for row in rows:
        counts[row.outcome] = counts.get(row.outcome, 0) + 1
    correct = sum(row.correct for row in rows)
    valid = counts.get("valid", 0)
    validity = Rate(sum(row.valid for row in first), sum(row.answered for row in first))
    answered = [row.output_tokens for row in rows if row.answered]
    verdict = _verdict(rows, correct, accepted)
    return Candidate(
        models=models,
        rows=len(rows),
        correct=correct,
        valid=valid,
        validity=validity,
        escalated=sum(row.climbs for row in first) if len(tiers) > 1 else 0,
        outcomes=counts,
        usd=sum((row.usd for row in rows), Decimal(0)),
        mean_output_tokens=sum(answered) / len(answered) if answered else None,
        verdict=verdict,
        objections=tuple(_objections(len(rows), correct, counts, validity, verdict, accepted)),
    )


def compare(model: str, rows: Outcomes, chosen: Outcomes) -> Comparison:
    """McNemar's test, mid-p, two-sided: either model may be the better one.

    Fagerland, Lydersen and Laake 2013, BMC Medical Research Methodology 13:91.
    """
    lost = sum(c.correct and not r.correct for r, c in zip(rows, chosen, strict=True))
    won = sum(r.correct and not c.correct for r, c in zip(rows, chosen, strict=True))
    p = min(1.0, 2 * min(mid_p(lost, won), mid_p(won, lost)))
    flips = min(lost, won) / len(rows) if rows else 0.0
    return Comparison(model, lost, won, p, _smallest_difference(len(rows), flips))


def _smallest_difference(n: int, flips: float) -> float | None:
    # No line at 100 points: what is asked is only whether a difference can be told from chance.
    return smallest_visible_drop(n, flips, Decimal(100), alpha=ALPHA / 2)


def _verdict(rows: Outcomes, correct: int, accepted: Accepted) -> Verdict:
    if not rows:
        return Verdict.CONFIRMED
    if accepted.rows is None:
        return score_verdict(correct, len(rows), accepted.share, accepted.drop_points)
    pairs = list(zip(accepted.rows, rows, strict=True))
    lost = sum(before and not row.correct for before, row in pairs)
    won = sum(row.correct and not before for before, row in pairs)
    return paired_verdict(Paired(len(rows), lost, won), accepted.drop_points)


def _objections(
    rows: int,
    correct: int,
    counts: dict[str, int],
    validity: Rate,
    verdict: Verdict,
    accepted: Accepted,
) -> list[str]:
    if rows and counts.get("invalid_request", 0) == rows:
        return ["the API refused every request (invalid_request)"]
    if not counts.get("valid"):
        return ["not one answer meets the contract"]
    said = []
    least = accepted.min_validity
    # Exact: 95 of 100 is 0.95, whatever floats say.
    if least is not None and validity.numerator < Fraction(least) * validity.denominator:
        said.append(f"validity {_percent(validity.value)} is below {_percent(float(least))}")
    if verdict is not Verdict.PASS:
        drop = float((accepted.share - Fraction(correct, rows)) * 100)
        sure = "which is real" if verdict is Verdict.CONFIRMED else "which could be noise"
        said.append(
            f"golden score {_percent(correct / rows)} is {drop:.1f} points below the baseline, {sure}"
        )
    return said


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{value:.1%}"
