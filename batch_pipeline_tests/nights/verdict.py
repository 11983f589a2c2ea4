"""What the checks made of what was planted: caught on which night and by which check, and what was said for nothing."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from batch_pipeline_tests.nights.drive_night import Fired, NightRun
from batch_pipeline_tests.nights.plan import Plan, Planted

# By chance, stable nights of 1,000 rows page a fifth to a third of a time in ninety (simulated).
MOST_FALSE_PAGES = 1


@dataclass(frozen=True)
class Caught:
    """The first failure of a check that had to fail; `night` and `fired` are None where none did."""

    planted: Planted
    night: int | None = None
    fired: Fired | None = None

    @property
    def nights_late(self) -> int | None:
        return None if self.night is None else self.night - self.planted.first


@dataclass(frozen=True)
class Verdict:
    """`echoes` are failures that look back on something that is over; `false` ones nothing explains."""

    caught: tuple[Caught, ...]
    echoes: tuple[tuple[int, Fired], ...]
    false: tuple[tuple[int, Fired], ...]

    @property
    def false_pages(self) -> list[tuple[int, Fired]]:
        return [(night, fired) for night, fired in self.false if fired.page]

    @property
    def false_logs(self) -> list[tuple[int, Fired]]:
        return [(night, fired) for night, fired in self.false if not fired.page]

    @property
    def good(self) -> bool:
        """Whether everything was caught, without more false pages than chance makes."""
        missed = any(one.night is None for one in self.caught)
        return not missed and len(self.false_pages) <= MOST_FALSE_PAGES


def judge(plan: Plan, runs: Sequence[NightRun]) -> Verdict:
    """Holds what failed against what was planted."""
    failures = [(run.night, fired) for run in runs for fired in run.fired]
    unexplained = [
        (night, fired)
        for night, fired in failures
        if not any(planted.explains(fired.check, night) for planted in plan.planted)
    ]
    echoes = [
        (night, fired)
        for night, fired in unexplained
        if any(planted.echoes(fired.check, night) for planted in plan.planted)
    ]
    return Verdict(
        tuple(_caught(planted, failures) for planted in plan.planted),
        tuple(echoes),
        tuple(each for each in unexplained if each not in echoes),
    )


def _caught(planted: Planted, failures: Sequence[tuple[int, Fired]]) -> Caught:
    for night, fired in failures:
        if planted.on(night) and fired.check in planted.caught_by:
            return Caught(planted, night, fired)
    return Caught(planted)


def table(plan: Plan, runs: Sequence[NightRun]) -> Iterator[str]:
    """A line per night: its figures, what was planted, which checks failed (pages in capitals)."""
    by_night = {run.night: run for run in runs}
    yield f"{'night':>5}  {'load':10}  {'validity':>8}  {'golden':>6}  {'cost':>8}  {'':8}  planted; failed checks"
    for night in range(1, plan.nights + 1):
        run = by_night.get(night)
        yield f"{night:>5}  no load" if run is None else line(plan, run)


def line(plan: Plan, run: NightRun) -> str:
    """One night of `table`."""
    names = [planted.name for planted in plan.planted if planted.on(run.night)]
    checks = [fired.check.upper() if fired.page else fired.check for fired in run.fired]
    said = "; ".join(part for part in (" + ".join(names), ", ".join(checks)) if part)
    state = "promoted" if run.promoted else "HELD"
    return (
        f"{run.night:>5}  {run.load}  {_share(run.validity):>8}  {_share(run.golden_score):>6}  "
        f"${run.cost_usd:>7.4f}  {state:8}  {said}"
    ).rstrip()


def summary(plan: Plan, verdict: Verdict) -> Iterator[str]:
    """What was caught and when, and what was said for nothing."""
    for one in verdict.caught:
        planted = one.planted
        until = f" to {planted.last}" if planted.last > planted.first else ""
        yield f"{planted.name}, night {planted.first}{until}: {planted.what}"
        if one.fired is None:
            yield f"    MISSED: none of {', '.join(sorted(planted.caught_by))} failed"
            continue
        kind = "page" if one.fired.page else "log"
        yield (
            f"    caught on night {one.night}, {one.nights_late} nights after it began, by "
            f"{one.fired.check} ({kind}): {one.fired.sentence}"
        )
    for name, found in (
        ("Looking back on something that was over", verdict.echoes),
        ("False pages", verdict.false_pages),
        ("False logs", verdict.false_logs),
    ):
        yield f"{name}: {len(found)}"
        yield from (f"    night {night}, {f.check}: {f.sentence}" for night, f in found)


def as_json(plan: Plan, runs: Sequence[NightRun], verdict: Verdict) -> dict[str, Any]:
    """All of it, for a machine."""
    return {
        "nights": plan.nights,
        "missing": sorted(plan.missing),
        "planted": [
            {
                "name": one.planted.name,
                "what": one.planted.what,
                "first": one.planted.first,
                "last": one.planted.last,
                "caught": one.night,
                "nights_late": one.nights_late,
                "by": one.fired.check if one.fired else None,
                "page": one.fired.page if one.fired else None,
                "sentence": one.fired.sentence if one.fired else None,
            }
            for one in verdict.caught
        ],
        "echoes": [{"night": night, **vars(fired)} for night, fired in verdict.echoes],
        "false_pages": [{"night": night, **vars(fired)} for night, fired in verdict.false_pages],
        "false_logs": [{"night": night, **vars(fired)} for night, fired in verdict.false_logs],
        "runs": [
            {
                **vars(run),
                "report": str(run.report),
                "fired": [vars(fired) for fired in run.fired],
            }
            for run in runs
        ],
    }


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"
