"""The gate: the one decision that lets a load be promoted, with its reasons."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

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

    @property
    def sentence(self) -> str:
        verb = "may be promoted" if self.promote else "is held"
        return f"The load {verb}: {'; '.join(self.reasons)}."


def decide(
    *,
    gates: GatesSpec,
    coverage: Rate,
    validated: int,
    changed: str | None,
    ungraded: bool,
    batches_reconciled: bool,
    validity: Rate,
    golden: GoldenScore | None,
    cost_usd: float,
    fingerprint: str,
    override_reason: str | None,
    cancelled: str | None = None,
    unpriced: int = 0,
) -> GateDecision:
    """The gate of a settled load. An override opens it for any reason but a leak.

    Coverage is never overridden: rows that are unaccounted for are a defect, not a judgement.
    """
    findings = [
        _coverage(coverage),
        *([_Finding("hold", f"the load was cancelled: {cancelled}")] if cancelled else []),
        *([] if validated or not coverage.denominator else [_Finding("hold", _NOTHING)]),
        *([_Finding("leak", changed)] if changed else []),
        *([] if batches_reconciled else [_Finding("leak", _UNRECONCILED)]),
        *([_Finding("hold", _UNGRADED)] if ungraded else [_golden(golden, gates)]),
        *_validity(validity, gates),
        *_cost(cost_usd, unpriced, gates),
    ]
    leaks, holds, passes = (
        [finding.sentence for finding in findings if finding.kind == kind]
        for kind in ("leak", "hold", "pass")
    )
    closed = leaks + holds
    if leaks or (holds and override_reason is None):
        return GateDecision(False, closed, fingerprint)
    if holds:
        said = [f"override: {override_reason}", *closed]
        return GateDecision(True, said, fingerprint, override_reason)
    return GateDecision(True, passes, fingerprint)


_UNGRADED = "a golden set was declared after this load was sent, so it is not graded; send it again with --resend"
_NOTHING = "not one row is validated, so promoting would only remove rows"
_UNRECONCILED = "a batch's results do not add up to the requests sent in it"


@dataclass(frozen=True)
class _Finding:
    kind: Literal["leak", "hold", "pass"]
    sentence: str


def _coverage(coverage: Rate) -> _Finding:
    if coverage.numerator == coverage.denominator:
        return _Finding("pass", f"all {coverage.denominator:,} source rows have a disposition")
    said = f"coverage is {coverage.numerator:,} of {coverage.denominator:,} source rows, a leak"
    return _Finding("leak", said)


def _golden(golden: GoldenScore | None, gates: GatesSpec) -> _Finding:
    if golden is None:
        return _Finding("pass", "no golden set is declared, so quality was not graded")
    said = (
        f"golden score {golden.correct} of {golden.n} ({_percent(golden.score)}), "
        f"{_points(golden.drop_points)} the baseline of {float(golden.baseline):.1%}"
    )
    if golden.n == 0 or golden.dropped_by(gates.golden_drop_points):
        return _Finding(
            "hold", f"{said}; the gate holds at a drop of {gates.golden_drop_points:g} points"
        )
    return _Finding("pass", said)


def _validity(validity: Rate, gates: GatesSpec) -> list[_Finding]:
    least = gates.min_validity
    if least is None:
        return []
    said = f"output validity {_percent(validity.value)} at tier 0, first attempt"
    if not validity.denominator or validity.numerator < Fraction(least) * validity.denominator:
        return [_Finding("hold", f"{said}; the gate holds below {float(least):.1%}")]
    return [_Finding("pass", said)]


def _cost(cost_usd: float, unpriced: int, gates: GatesSpec) -> list[_Finding]:
    most = gates.max_cost_usd
    if most is None:
        return []
    said = f"cost ${cost_usd:,.4f}"
    if unpriced:
        said = (
            f"cost at least ${cost_usd:,.4f}, without {unpriced:,} requests whose results are gone"
        )
        return [_Finding("hold", f"{said}; whether it is above ${most:,} cannot be told")]
    if cost_usd > float(most):
        return [_Finding("hold", f"{said}; the gate holds above ${most:,}")]
    return [_Finding("pass", said)]


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _points(drop: float) -> str:
    if drop == 0:
        return "equal to"
    return f"{abs(drop):.1f} points {'below' if drop > 0 else 'above'}"
