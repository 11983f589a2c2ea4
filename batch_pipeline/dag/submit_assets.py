"""source_rows and batch_submission. Each calls one stage and shows what it did; none passes row data on."""

from typing import TYPE_CHECKING

import dagster as dg

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.dag.asset_face import AssetFace, Results
from batch_pipeline.dag.check_kinds import kind_of
from batch_pipeline.dag.failures import stage_errors
from batch_pipeline.dag.metadata import columns, numbers, said, schema
from batch_pipeline.dag.naming import asset_key

if TYPE_CHECKING:
    from batch_pipeline.stages.foresee import Foreseen

COST_ESTIMATE = "cost_estimate"


class SourceConfig(dg.Config):
    """How source_rows treats a load that was begun before."""

    resend: bool = False  # read the source anew and send every row again; it is paid again


def submit_assets(face: AssetFace) -> list[dg.AssetsDefinition]:
    """What the submit job materialises."""

    name = face.workload.name

    @dg.asset(
        **face.of("source_rows", [], {"duckdb", "parquet"}),
        check_specs=[
            dg.AssetCheckSpec(
                COST_ESTIMATE,
                asset=asset_key(name, "source_rows"),
                partitions_def=face.partitions,
                description="What the load could cost at most is within its budget, and what its requests begin with "
                "is the same in all rows if it is to be cached.",
            )
        ],
        description="The load's rows as they were read, golden rows woven in. Read once and kept: a load "
        "whose sending began sees the same rows for ever, unless it is launched with `resend`.",
    )
    def source_rows(context: dg.AssetExecutionContext, config: SourceConfig) -> Results:
        from batch_pipeline.stages.foresee import foresee
        from batch_pipeline.stages.source import read_source

        with stage_errors():
            load = face.load_of(context)
            read = read_source(load, resend=config.resend, requested_by=context.run.run_id)
            foreseen = foresee(load, BatchesApi)
        yield dg.MaterializeResult(
            metadata={
                **numbers(
                    source_rows=read.source_rows,
                    golden_rows=read.golden_rows,
                    generation=read.generation,
                ),
                "dagster/partition_row_count": dg.MetadataValue.int(read.source_rows),
                "read_now": dg.MetadataValue.bool(read.read_now),
                **columns(read.columns),
            }
        )
        yield _cost_estimate(foreseen, name)

    @dg.asset(
        **face.of(
            "batch_submission",
            ["source_rows"],
            {"claude", "sqlite"},
            schema(
                ("row", "bigint", "Position in the load's source file, and end of the custom_id."),
                ("tier", "integer", "Index of the tier it was sent to."),
                ("attempt", "integer", "How often it was sent to this tier, this time included."),
                ("sending", "integer", "How often it was sent at all, this time included."),
                ("chunk_id", "varchar", "The request body it went out in."),
            ),
        ),
        description="Rows sent to the Message Batches API, each once: body on disk, intent in the ledger, "
        "one POST. Materialising again sends only what was never sent. Open batches appear as "
        "observations while they run.",
    )
    def batch_submission(context: dg.AssetExecutionContext) -> Results:
        from batch_pipeline.stages.submit import send_pending

        with stage_errors():
            load = face.load_of(context)
            sent = send_pending(
                load,
                BatchesApi,
                lambda s: context.log.info("%d batches, %d requests sent", s.batches, s.requests),
            )
            record = load.record()
            batches = load.ledger.batches(record)
        for sentence in sent.resolved:
            context.log.warning(sentence)
        if sent.waits_for is not None:
            context.log.warning("Not all was sent: %s", sent.waits_for)
        yield dg.MaterializeResult(
            metadata={
                **numbers(
                    batches_sent_now=sent.batches,
                    requests_sent_now=sent.requests,
                    unsendable_rows=sent.unsendable,
                    batches=len(batches),
                ),
                **said(waits_for=sent.waits_for, resolved="; ".join(sent.resolved)),
                "batch_ids": dg.MetadataValue.json([batch.batch_id for batch in batches][:100]),
            }
        )

    return [source_rows, batch_submission]


def _cost_estimate(foreseen: "Foreseen", workload: str) -> dg.AssetCheckResult:
    plan = foreseen.plan
    return dg.AssetCheckResult(
        asset_key=asset_key(workload, "source_rows"),
        check_name=COST_ESTIMATE,
        passed=foreseen.passed,
        severity=kind_of(COST_ESTIMATE).dagster_severity,
        description=foreseen.sentence,
        metadata={
            **kind_of(COST_ESTIMATE).metadata,
            **(
                numbers(
                    estimate_usd=plan.typical_usd,
                    estimate_bound_usd=plan.bound_usd,
                    prefix_tokens=plan.tiers[0].prefix_tokens,
                )
                if plan
                else {}
            ),
        },
    )
