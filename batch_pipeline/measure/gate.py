"""The gate: the one decision that lets a load be promoted, with its reasons."""

from dataclasses import dataclass
from decimal import Decimal
from fractions import Fraction
from typing import Literal

from batch_pipeline.measure.golden import GoldenScore
from batch_pipeline.measure.paired import Verdict, paired_verdict
from batch_pipeline.measure.rates import Rate
from batch_pipeline.workload.spec import GatesSpec

# Below it a golden set sees only drops of six points and more (simulated).
FEW_ROWS = 30


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
    unpriced_usd: float | None = None,
    reused: int = 0,
    rolled_back: str | None = None,
) -> GateDecision:
    """The gate of a settled load. An override opens it for any reason but a leak.

    Coverage is never overridden: rows that are unaccounted for are a defect, not a judgement.
    """
    findings = [
        _coverage(coverage),
        *([_Finding("hold", f"the load was cancelled: {cancelled}")] if cancelled else []),
        *([_Finding("hold", f"the load was rolled back {rolled_back}")] if rolled_back else []),
        *([] if validated or not coverage.denominator else [_Finding("hold", _NOTHING)]),
        *([_Finding("leak", changed)] if changed else []),
        *([] if batches_reconciled else [_Finding("leak", _UNRECONCILED)]),
        *([_Finding("hold", _UNGRADED)] if ungraded else [_golden(golden, gates)]),
        *_validity(validity, gates, reused),
        *_cost(cost_usd, unpriced, unpriced_usd, gates),
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


def refused_golden(golden: GoldenScore, gates: GatesSpec) -> str | None:
    """Why the golden rows alone would hold the load; None where they would not.

    That a new baseline is needed is no reason yet: a person can record one only when the load is done. Then
    the drop on the same rows decides.
    """
    apart = golden.recorded is not None and golden.recorded.apart is not None
    if not apart:
        found = _golden(golden, gates)
        return found.sentence if found.kind == "hold" else None
    if golden.paired is None:
        return None
    verdict = paired_verdict(golden.paired, gates.golden_drop_points)
    if verdict is Verdict.PASS:
        return None
    return (
        f"golden score {golden.correct} of {golden.n} ({_percent(golden.score)}), {_compared(golden)}: "
        f"{verdict.value}"
    )


def _golden(golden: GoldenScore | None, gates: GatesSpec) -> _Finding:
    if golden is None:
        return _Finding("pass", "no golden set is declared, so quality was not graded")
    points = gates.golden_drop_points
    verdict = golden.verdict(points)
    said = (
        f"golden score {golden.correct} of {golden.n} ({_percent(golden.score)}), "
        f"{_compared(golden)}: {verdict.value}"
    )
    if verdict is Verdict.APART:
        assert golden.recorded is not None
        said += f", because {golden.recorded.apart}"
    said += f"; {_visible(golden, points)}"
    if verdict is Verdict.PASS:
        return _Finding("pass", said)
    if verdict is Verdict.APART:
        said += (
            "; look at the golden answers, then accept them with `batch-pipeline baseline record`"
        )
    elif golden.dropped_by(points):
        said += f"; the gate holds at a drop of {points:g} points"
    else:
        said += "; the gate holds at a drop that is no chance, however small"
    return _Finding("hold", said)


def _compared(golden: GoldenScore) -> str:
    if golden.drop_points is None:
        return f"not compared with {_baseline(golden)}"
    return f"{_points(golden.drop_points)} {_baseline(golden)}"


def _baseline(golden: GoldenScore) -> str:
    """What it is held against, and how certain that is."""
    if golden.recorded is None:
        return f"the declared baseline of {float(golden.baseline):.1%} (none is recorded)"
    said = (
        f"the baseline of {golden.baseline_score:.1%} that {golden.recorded.recorded_by} recorded on "
        f"{golden.recorded.recorded_at:%Y-%m-%d}"
    )
    if golden.paired is None:
        return said
    return f"{said} (of the same rows {golden.paired.lost} lost, {golden.paired.won} won, p = {golden.p:.3f})"


def _visible(golden: GoldenScore, points: Decimal) -> str:
    seen = golden.smallest_visible_drop(points)
    few = golden.n < FEW_ROWS
    rows = f"only {golden.n} golden rows" if few else f"{golden.n} golden rows"
    if seen is None:
        return f"{rows} show no drop reliably"
    said = f"{rows} reliably show a drop of {seen * 100:.1f} points or more"
    return f"{said}, so a pass proves little" if few else said


def _validity(validity: Rate, gates: GatesSpec, reused: int) -> list[_Finding]:
    least = gates.min_validity
    if least is None:
        return []
    if not validity.denominator and reused:
        said = f"{reused:,} rows keep an earlier load's answer, and no other was asked"
        return [_Finding("pass", said)]
    said = f"output validity {_percent(validity.value)} at tier 0, first attempt"
    if not validity.denominator or validity.numerator < Fraction(least) * validity.denominator:
        return [_Finding("hold", f"{said}; the gate holds below {float(least):.1%}")]
    return [_Finding("pass", said)]


def _cost(
    cost_usd: float, unpriced: int, unpriced_usd: float | None, gates: GatesSpec
) -> list[_Finding]:
    most = gates.max_cost_usd
    if most is None:
        return []
    said = f"cost ${cost_usd:,.4f}"
    if unpriced:
        said = (
            f"cost at least ${cost_usd:,.4f}, without {unpriced:,} requests whose cost is not known"
        )
        if unpriced_usd is None:
            return [_Finding("hold", f"{said}; whether it is above ${most:,} cannot be told")]
        said += f" (${unpriced_usd:,.4f} at most)"
        cost_usd += unpriced_usd
    if cost_usd > float(most):
        return [_Finding("hold", f"{said}; the gate holds above ${most:,}")]
    return [_Finding("pass", said)]


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1%}"


def _points(drop: float) -> str:
    if drop == 0:
        return "equal to"
    return f"{abs(drop):.1f} points {'below' if drop > 0 else 'above'}"
