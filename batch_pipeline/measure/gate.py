"""The gate: the one decision that lets a load be promoted, with its reasons."""

from dataclasses import dataclass, field
from fractions import Fraction

from batch_pipeline.measure.golden import GoldenScore
from batch_pipeline.measure.rates import Rate
from batch_pipeline.workload.spec import GatesSpec


@dataclass(frozen=True)
class GateDecision:
    """Whether a load may be promoted. `reasons` says why not, or what let it through.

    `fingerprint` names the rows the decision is about: it opens the gate for those and no others.
    """

    promote: bool
    reasons: list[str]
    fingerprint: str
    override_reason: str | None = None
    closed_reasons: list[str] = field(default_factory=list)

    @property
    def sentence(self) -> str:
        verb = "may be promoted" if self.promote else "is held"
        return f"The load {verb}: {'; '.join(self.reasons)}."


def decide(
    *,
    gates: GatesSpec,
    coverage: Rate,
    batches_reconciled: bool,
    validity: Rate,
    golden: GoldenScore | None,
    cost_usd: float,
    fingerprint: str,
    override_reason: str | None,
) -> GateDecision:
    """The gate of a settled load. An override opens it for any reason but a leak.

    Coverage is never overridden: rows that are unaccounted for are a defect, not a judgement.
    """
    leaks: list[str] = []
    holds: list[str] = []
    passes: list[str] = []
    if coverage.numerator == coverage.denominator:
        passes.append(f"all {coverage.denominator:,.0f} source rows have a disposition")
    else:
        leaks.append(
            f"coverage is {coverage.numerator:,.0f} of {coverage.denominator:,.0f} source rows, a leak"
        )
    if not batches_reconciled:
        leaks.append("a batch's results do not add up to the requests sent in it")
    if golden is None:
        passes.append("no golden set is declared, so quality was not graded")
    else:
        said = (
            f"golden score {golden.correct} of {golden.n} ({_percent(golden.score)}), "
            f"{_points(golden.drop_points)} the baseline of {float(golden.baseline):.1%}"
        )
        if golden.n == 0 or golden.dropped_by(gates.golden_drop_points):
            holds.append(f"{said}; the gate holds at a drop of {gates.golden_drop_points:g} points")
        else:
            passes.append(said)
    if gates.min_validity is not None:
        least = gates.min_validity
        said = f"output validity {_percent(validity.value)} at tier 0, first attempt"
        if not validity.denominator or validity.numerator < Fraction(least) * validity.denominator:
            holds.append(f"{said}; the gate holds below {float(least):.1%}")
        else:
            passes.append(said)
    if gates.max_cost_usd is not None:
        said = f"cost ${cost_usd:,.4f}"
        if cost_usd > float(gates.max_cost_usd):
            holds.append(f"{said}; the gate holds above ${gates.max_cost_usd:,}")
        else:
            passes.append(said)
    closed = leaks + holds
    if leaks or (holds and override_reason is None):
        return GateDecision(False, closed, fingerprint, None, closed)
    if holds:
        return GateDecision(
            True, [f"override: {override_reason}", *closed], fingerprint, override_reason, closed
        )
    return GateDecision(True, passes, fingerprint)


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _points(drop: float) -> str:
    if drop == 0:
        return "equal to"
    return f"{abs(drop):.1f} points {'below' if drop > 0 else 'above'}"
