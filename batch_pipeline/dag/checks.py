"""The asset checks of a workload. Each says in one sentence what failed and what to do."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import dagster as dg

from batch_pipeline.dag.check_kinds import kind_of
from batch_pipeline.dag.failures import stage_errors
from batch_pipeline.dag.metadata import numbers, reasons_table
from batch_pipeline.dag.naming import asset_key
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline.workload.workload import Workload

if TYPE_CHECKING:
    from batch_pipeline.stages.validate import ValidateSummary

USER_CHECK = "check:"


def build_checks(
    workload: Workload, partitions: dg.PartitionsDefinition[str]
) -> list[dg.AssetChecksDefinition]:
    """Blocking: coverage and golden_gate, on golden_score. The others show and warn."""
    name = workload.name
    spec = workload.spec

    def load_context(context: dg.AssetCheckExecutionContext) -> LoadContext:
        return LoadContext.open(
            workload, context.op_execution_context.partition_key, Settings.from_environment()
        )

    @dg.asset_check(
        asset=asset_key(name, "batch_results"),
        name="results_complete",
        partitions_def=partitions,
        description="Each batch's results hold exactly one readable line per request sent in it.",
    )
    def results_complete(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from batch_pipeline.claude.decode import Defects
        from batch_pipeline.stages.scorecard import batches_reconcile

        with stage_errors():
            load = load_context(context)
            record = load.record()
            batches = load.ledger.batches(record)
            chunks = load.ledger.chunks(record)
        broken = {b.batch_id: str(Defects.from_json(b.defects)) for b in batches if b.defects}
        gone = [b.batch_id for b in batches if b.results_gone and b.collected_at]
        reconciled = batches_reconcile(chunks, batches)
        if broken or gone or not reconciled:
            said = [f"{batch_id}: {defects}" for batch_id, defects in broken.items()]
            said += [f"{batch_id}: its results are gone from the API" for batch_id in gone]
            sentence = (
                f"{len(broken) + len(gone)} of {len(batches)} batches did not give back what was sent "
                f"({'; '.join(said[:5])}); rows without a result were sent again or quarantined, see "
                "`batch-pipeline dispositions`."
            )
            return _result("results_complete", passed=False, sentence=sentence)
        collected = sum(batch.collected_at is not None for batch in batches)
        return _result(
            "results_complete",
            passed=True,
            sentence=f"All {collected} batches read back so far hold one line per request.",
            metadata=numbers(batches_collected=collected),
        )

    @dg.asset_check(
        asset=asset_key(name, "validated_rows"),
        name="output_contract",
        partitions_def=partitions,
        description="Answers meet the output contract; what broke it, how often, and "
        f"{'no examples, for the data is sensitive' if spec.sensitive else 'five example keys'}.",
    )
    def output_contract(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from batch_pipeline.stages.validate import validate_results

        with stage_errors():
            judged = validate_results(load_context(context))
        return _contract_result(judged, spec, user=False)

    checks = [results_complete, output_contract]

    if spec.checks is not None:

        @dg.asset_check(
            asset=asset_key(name, "validated_rows"),
            name="user_checks",
            partitions_def=partitions,
            description=f"Answers pass the workload's own Pandera schema, {spec.checks}.",
        )
        def user_checks(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            from batch_pipeline.stages.validate import validate_results

            with stage_errors():
                judged = validate_results(load_context(context))
            return _contract_result(judged, spec, user=True)

        checks.append(user_checks)

    @dg.asset_check(
        asset=asset_key(name, "golden_score"),
        name="coverage",
        blocking=True,
        partitions_def=partitions,
        description="Every source row has a disposition, and every batch's results add up to its requests.",
    )
    def coverage(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from batch_pipeline.stages.measured import measured

        with stage_errors():
            card = measured(load_context(context))
        rate = card.rates["coverage"]
        passed = rate.numerator == rate.denominator and card.batches_reconciled
        parts = " + ".join(f"{n:,} {kind}" for kind, n in card.dispositions.items())
        sentence = (
            f"{card.source_rows:,} source rows = {parts}, {card.unaccounted:,} unaccounted; "
            + (
                "every batch adds up."
                if card.batches_reconciled
                else "a batch's results do not add up to its requests: see results_complete."
            )
        )
        if not passed:
            sentence = f"Leak: {sentence} Promotion is stopped; do not override, report it."
        return _result(
            "coverage", passed=passed, sentence=sentence, metadata=numbers(coverage=rate.value)
        )

    @dg.asset_check(
        asset=asset_key(name, "golden_score"),
        name="golden_gate",
        blocking=True,
        partitions_def=partitions,
        description="The gate: golden score against its baseline, validity and cost against their limits. "
        "promoted_rows asks it again by itself.",
    )
    def golden_gate(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from batch_pipeline.stages.measured import measured

        with stage_errors():
            card = measured(load_context(context))
        if card.gate is None:
            return _result(
                "golden_gate",
                passed=False,
                sentence="Rows are still open; let the collect job finish.",
            )
        sentence = card.gate.sentence
        apart = card.golden and card.golden.recorded and card.golden.recorded.apart
        if not card.gate.promote and not apart:
            sentence += (
                " Look at the failing answers, mend the prompt and send the load again, or promote it with "
                "a reason: `batch-pipeline promote`."
            )
        return _result(
            "golden_gate",
            passed=card.gate.promote,
            sentence=sentence,
            metadata=numbers(
                golden_score=card.golden.score if card.golden else None,
                golden_drop_points=card.golden.drop_points if card.golden else None,
                validity=card.rates["validity"].value,
                cost_usd=card.cost_usd,
            ),
        )

    return [*checks, coverage, golden_gate]


def _contract_result(
    judged: "ValidateSummary", spec: WorkloadSpec, *, user: bool
) -> dg.AssetCheckResult:
    broken = [
        (outcome, reason, n)
        for outcome, reason, n in judged.reasons
        if outcome == "contract_broken" and reason.startswith(USER_CHECK) == user
    ]
    count = sum(n for _, _, n in broken)
    answered = judged.valid + judged.broken
    share = (answered - count) / answered if answered else 1.0
    min_validity = spec.gates.min_validity
    passed = share >= float(min_validity) if min_validity is not None else count == 0
    examples = [
        example
        for example in judged.examples
        if str(example["reason"]).startswith(USER_CHECK) == user
    ]
    sentence = (
        f"{count:,} of {answered:,} answers broke "
        f"{'the workload’s own checks' if user else 'the output contract'} ({1 - share:.2%})"
    )
    if broken:
        sentence += ", most often " + ", ".join(f"{reason} ({n:,})" for _, reason, n in broken[:3])
    sentence += (
        "."
        if passed
        else "; they climb to the next tier. If that is new, look at the prompt first."
    )
    return _result(
        "user_checks" if user else "output_contract",
        passed=passed,
        sentence=sentence,
        metadata={
            **numbers(broken=count, answered=answered, valid_share=share),
            "reasons": reasons_table(broken, "outcome"),
            **({} if spec.sensitive else {"examples": dg.MetadataValue.json(examples)}),
        },
    )


def _result(
    check: str,
    *,
    passed: bool,
    sentence: str,
    severity: dg.AssetCheckSeverity | None = None,
    metadata: Mapping[str, Any] | None = None,
) -> dg.AssetCheckResult:
    """As the check's kind has it; `severity` is for a result that is less urgent than its check can be."""
    kind = kind_of(check)
    return dg.AssetCheckResult(
        passed=passed,
        severity=severity or kind.dagster_severity,
        description=sentence,
        metadata={**kind.metadata, **(metadata or {})},
    )
