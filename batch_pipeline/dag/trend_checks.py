"""The asset checks over nights: trends, slices, and what is only logged. None of them blocks promotion.

They read the metrics that golden_score has just written, so that each says what a person can look up.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import dagster as dg

from batch_pipeline.alerts.conditions import LOG
from batch_pipeline.dag.check_kinds import kind_of
from batch_pipeline.dag.metadata import numbers, said
from batch_pipeline.dag.naming import asset_key
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.trends import WATCHED, Level, TrendFinding, trends_of
from batch_pipeline.workload.workload import Workload

if TYPE_CHECKING:
    from batch_pipeline.stages.broken_slices import BrokenSlice

SLICES = "slices"
_LAGGING = {
    "label_mix": "The mix of answers is no further from the last 28 nights than those are from each other.",
    "cost_per_good_row": "A good row costs what it usually does.",
    "cache_hits": "As much of the input comes from the cache as usually does.",
    "cache_pays": "Caching saved more than its writes cost, and a prefix that should be found was.",
}


def trend_name(measure: str) -> str:
    """The check that follows a measure over the nights."""
    return f"trend_{measure}"


def night_specs(
    workload: Workload, partitions: dg.PartitionsDefinition[str]
) -> list[dg.AssetCheckSpec]:
    """What golden_score evaluates in its own step: checks of their own would not run where the gate is closed."""
    slices = ", ".join(workload.spec.slices)
    described = {
        trend_name(
            w.measure
        ): f"{w.title} does not {'fall' if w.falling else 'rise'} from night to night, though no "
        "night may cross a line."
        for w in WATCHED
    }
    described[SLICES] = (
        f"No slice ({slices}) fell against its own last seven nights."
        if slices
        else "The workload declares no slices."
    )
    return [
        dg.AssetCheckSpec(
            name=check,
            asset=asset_key(workload.name, "golden_score"),
            description=description,
            partitions_def=partitions,
        )
        for check, description in (described | _LAGGING).items()
    ]


def night_results(context: LoadContext) -> Iterator[dg.AssetCheckResult]:
    """Every check of `night_specs`, for a load that has just been graded."""
    from batch_pipeline.stages.broken_slices import broken
    from batch_pipeline.stages.cache_pays import cache_pays
    from batch_pipeline.stages.noticed import noticed
    from batch_pipeline.warehouse.history import nights

    spec, where, load = context.workload.spec, context.settings, context.load
    asset = asset_key(spec.name, "golden_score")
    history = nights(where, spec.name, load)
    if history[-1].cancelled:
        yield from _untouched(asset, f"{load} was cancelled, so it says nothing of the nights.")
        return
    page = spec.trends.page
    for finding in trends_of(history, spec):
        yield _trend(asset, finding, page=page)
    yield _slices(asset, broken(where, spec.name, load), page=page, declared=bool(spec.slices))
    for one in (*noticed(where, spec, load), cache_pays(context)):
        yield _result(asset, one.name, passed=not one.unusual, sentence=one.sentence)


def open_results(context: LoadContext) -> Iterator[dg.AssetCheckResult]:
    """The same checks while rows are open. Dagster takes a check that is not evaluated for a failure."""
    asset = asset_key(context.workload.name, "golden_score")
    yield from _untouched(asset, f"{context.load} is not graded yet: rows are still open.")


def _untouched(asset: dg.AssetKey, sentence: str) -> Iterator[dg.AssetCheckResult]:
    for check in (*(trend_name(w.measure) for w in WATCHED), SLICES, *_LAGGING):
        yield _result(asset, check, passed=True, sentence=sentence)


def _trend(asset: dg.AssetKey, finding: TrendFinding, *, page: bool) -> dg.AssetCheckResult:
    return _result(
        asset,
        trend_name(finding.watched.measure),
        passed=finding.level is not Level.PAGE,
        sentence=finding.sentence,
        page=page,
        metadata={
            **numbers(
                nights=finding.nights,
                slope_points_per_night=_points(finding.slope),
                fall_points=_points(finding.fall),
                p=finding.p,
                floor=finding.floor,
            ),
            **said(
                level=finding.level.value,
                floor_reached_on=str(finding.reached_on) if finding.reached_on else None,
            ),
        },
    )


def _slices(
    asset: dg.AssetKey, fell: "list[BrokenSlice]", *, page: bool, declared: bool
) -> dg.AssetCheckResult:
    if fell:
        listed = "; ".join(
            f"{b.column} {b.slice}: {b.measure.replace('_', ' ')} {b.tonight:.1%} of {b.n:,}, usually {b.usual:.1%}"
            for b in fell[:5]
        )
        more = f" and {len(fell) - 5} more" if len(fell) > 5 else ""
        sentence = (
            f"{len(fell)} slice{'s' if len(fell) > 1 else ''} broke ({listed}{more}), though the whole hardly "
            "shows it; look at those rows first."
        )
    elif declared:
        sentence = "No slice fell against its own last nights."
    else:
        sentence = (
            "No slices are declared; name columns with few values under `slices` to watch them."
        )
    return _result(
        asset,
        SLICES,
        passed=not fell,
        sentence=sentence,
        page=page,
        metadata=numbers(broken=len(fell)),
    )


def _result(
    asset: dg.AssetKey,
    check: str,
    *,
    passed: bool,
    sentence: str,
    page: bool = True,
    metadata: Mapping[str, dg.MetadataValue] | None = None,
) -> dg.AssetCheckResult:
    """As loud as the check's kind is; without `page`, logged whatever the kind."""
    kind = kind_of(check) if page else replace(kind_of(check), severity=LOG)
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=check,
        passed=passed,
        severity=kind.dagster_severity,
        description=sentence,
        metadata={**kind.metadata, **(metadata or {})},
    )


def _points(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 4)
