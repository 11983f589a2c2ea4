"""The seven assets of a workload. Each calls one stage and shows what it did; none passes row data on."""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.dag.failures import stage_errors
from batch_pipeline.dag.metadata import (
    answer_columns,
    columns,
    numbers,
    reasons_table,
    schema,
    scorecard_numbers,
)
from batch_pipeline.dag.naming import WAREHOUSE_POOL, WORKLOAD_TAG, asset_key
from batch_pipeline.report import write_report
from batch_pipeline.settings import Settings
from batch_pipeline.stages.collect import collect_results
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.escalate import escalate
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.promote import promote
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline.stages.validate import validate_results
from batch_pipeline.workload.workload import Workload


class SourceConfig(dg.Config):
    """How source_rows treats a load that was begun before."""

    resend: bool = False  # read the source anew and send every row again; it is paid again


class PromoteConfig(dg.Config):
    """A person's way past a closed gate."""

    override_reason: str | None = None  # why this load may go out all the same; recorded and shown


Results = Iterator[dg.MaterializeResult[Any]]


def build_assets(
    workload: Workload, partitions: dg.PartitionsDefinition[str]
) -> list[dg.AssetsDefinition]:
    """The seven assets, in order, under the workload's prefix."""
    spec = workload.spec
    key = workload.name

    def described(
        step: str, deps: list[str], kinds: set[str], metadata: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        return {
            "key": asset_key(key, step),
            "deps": [asset_key(key, dep) for dep in deps],
            "group_name": key,
            "owners": spec.owners,
            "kinds": kinds,
            "partitions_def": partitions,
            "metadata": dict(metadata or {}),
            "tags": {WORKLOAD_TAG: key},
        }

    def load_context(context: dg.AssetExecutionContext) -> LoadContext:
        return LoadContext.open(workload, context.partition_key, Settings.from_environment())

    @dg.asset(
        **described("source_rows", [], {"duckdb", "parquet"}),
        description="The load's rows as they were read, golden rows woven in. Read once and kept: a load "
        "whose sending began sees the same rows for ever, unless it is launched with `resend`.",
    )
    def source_rows(context: dg.AssetExecutionContext, config: SourceConfig) -> Results:
        with stage_errors():
            read = read_source(
                load_context(context), resend=config.resend, requested_by=context.run.run_id
            )
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

    @dg.asset(
        **described(
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
        with stage_errors():
            load = load_context(context)
            sent = send_pending(
                load,
                BatchesApi,
                lambda s: context.log.info("%d batches, %d requests sent", s.batches, s.requests),
            )
            record = load.record()
            batches = load.ledger.batches(record)
        yield dg.MaterializeResult(
            metadata={
                **numbers(
                    batches_sent_now=sent.batches,
                    requests_sent_now=sent.requests,
                    unsendable_rows=sent.unsendable,
                    batches=len(batches),
                ),
                "batch_ids": dg.MetadataValue.json([batch.batch_id for batch in batches][:100]),
            }
        )

    @dg.asset(
        **described(
            "batch_results",
            ["batch_submission"],
            {"claude", "parquet"},
            schema(
                ("row", "bigint", "Position in the load's source file."),
                ("result", "varchar", "succeeded, errored, canceled, expired; absent or gone."),
                ("stop_reason", "varchar", "Why the model stopped."),
                ("answer", "varchar", "The text blocks of the answer, joined."),
                ("model", "varchar", "The model that answered."),
                ("input_tokens", "bigint", "Input tokens that were not cached."),
                ("output_tokens", "bigint", "Output tokens."),
            ),
        ),
        output_required=False,
        description="Results of the batches that have ended, checked against what was sent and kept "
        "verbatim. Yields nothing while no batch has ended; the sensor launches it again.",
    )
    def batch_results(context: dg.AssetExecutionContext) -> Results:
        with stage_errors():
            load = load_context(context)
            read = collect_results(load, BatchesApi)
            batches = load.ledger.batches(load.record())
        collected = [batch for batch in batches if batch.collected_at is not None]
        if not collected and batches:
            context.log.info(
                "No batch of this load has ended yet; the sensor carries on from here."
            )
            return
        for batch_id, defects in read.defects.items():
            context.log.warning("Results of %s do not add up: %s", batch_id, defects)
        yield dg.MaterializeResult(
            metadata=numbers(
                batches_read_now=read.batches,
                batches_collected=len(collected),
                batches_open=len(batches) - len(collected),
                succeeded=sum(batch.succeeded for batch in collected),
                errored=sum(batch.errored for batch in collected),
                canceled=sum(batch.canceled for batch in collected),
                expired=sum(batch.expired for batch in collected),
                downloads=read.downloads,
            )
        )

    @dg.asset(
        **described(
            "validated_rows",
            ["batch_results"],
            {"pandera", "duckdb"},
            schema(
                ("row", "bigint", "Position in the load's source file."),
                ("outcome", "varchar", "valid, or what is wrong."),
                ("reason", "varchar", "Which rule of the output contract was broken."),
                *answer_columns(workload),
            ),
        ),
        description="Every result judged against the output contract: a verdict per answer, never an "
        "exception.",
    )
    def validated_rows(context: dg.AssetExecutionContext) -> Results:
        with stage_errors():
            judged = validate_results(load_context(context))
        rate = judged.valid / judged.rows if judged.rows else None
        yield dg.MaterializeResult(
            metadata={
                **numbers(
                    results_judged=judged.rows,
                    valid=judged.valid,
                    contract_broken=judged.broken,
                    valid_share=rate,
                ),
                "dagster/partition_row_count": dg.MetadataValue.int(judged.valid),
                "verdicts": reasons_table(judged.reasons, "outcome"),
            }
        )

    @dg.asset(
        **described(
            "escalated_rows",
            ["validated_rows"],
            {"claude", "duckdb"},
            schema(
                ("key", "varchar", "The source's key."),
                ("disposition", "varchar", "validated, quarantined or human_review."),
                ("reason", "varchar", "Why."),
                ("tier", "integer", "The tier of its last sending."),
                ("attempts", "integer", "How often it was sent at all."),
            ),
        ),
        description="Decides what comes next for every row that has no valid answer, and sends the next "
        "wave: to the same tier again, to the next tier, or to its final disposition.",
    )
    def escalated_rows(context: dg.AssetExecutionContext) -> Results:
        with stage_errors():
            done = escalate(
                load_context(context),
                BatchesApi,
                lambda s: context.log.info("%d batches, %d requests sent", s.batches, s.requests),
            )
        yield dg.MaterializeResult(
            metadata=numbers(
                requests_sent_now=done.sent.requests,
                batches_sent_now=done.sent.batches,
                open_rows=done.open_rows,
                climbing_rows=done.climbing,
                **done.dispositions,
            )
        )

    @dg.asset(
        **described(
            "golden_score",
            ["escalated_rows"],
            {"duckdb"},
            schema(
                ("key", "varchar", "Key of the golden row."),
                ("tier", "integer", "The tier that answered last."),
                ("disposition", "varchar", "Its final state."),
                ("correct", "boolean", "Whether the final answer matches what is known."),
            ),
        ),
        output_required=False,
        pool=WAREHOUSE_POOL,
        description="The measures of the finished load, the golden score among them, written to the "
        "metrics; and the gate's decision. Yields nothing while rows are open.",
    )
    def golden_score(context: dg.AssetExecutionContext) -> Results:
        with stage_errors():
            load = load_context(context)
            if not measure_load(load).settled:
                context.log.info("Rows are still open; the sensor grades the load when none is.")
                return
            card = grade(load)
            report = write_report(load.settings.state, card)
        assert card.gate is not None
        context.log.info(card.gate.sentence)
        yield dg.MaterializeResult(
            metadata={
                **scorecard_numbers(card),
                "gate": dg.MetadataValue.text(card.gate.sentence),
                "report": dg.MetadataValue.path(report),
                "dispositions": reasons_table(card.reasons, "disposition"),
                "dagster/table_name": dg.MetadataValue.text("metrics.measures"),
            }
        )

    @dg.asset(
        **described(
            "promoted_rows",
            ["golden_score"],
            {"duckdb"},
            {
                **schema(
                    (spec.source.key, "varchar", "The source's key."),
                    *answer_columns(workload),
                    ("_tier", "integer", "The tier that gave the answer."),
                    ("_model", "varchar", "The model that gave the answer."),
                    ("_batch_id", "varchar", "The batch it came in."),
                    ("_load", "varchar", "The load that promoted it."),
                ),
                "dagster/table_name": f"promoted.{key}",
            },
        ),
        pool=WAREHOUSE_POOL,
        description="Validated rows in the system of record, with provenance. Asks the gate itself, "
        "however it is launched; launching it again changes nothing.",
    )
    def promoted_rows(context: dg.AssetExecutionContext, config: PromoteConfig) -> Results:
        with stage_errors():
            load = load_context(context)
            done = promote(
                load,
                override_reason=config.override_reason,
                requested_by=f"run {context.run.run_id}",
            )
            report = write_report(load.settings.state, measure_load(load))
        promotion = done.promotion
        yield dg.MaterializeResult(
            metadata={
                **numbers(
                    promoted_rows=promotion.rows,
                    written=promotion.written,
                    removed=promotion.removed,
                    superseded=promotion.superseded,
                ),
                "dagster/partition_row_count": dg.MetadataValue.int(promotion.rows),
                "dagster/table_name": dg.MetadataValue.text(promotion.table),
                "report": dg.MetadataValue.path(report),
                **(
                    {"override_reason": dg.MetadataValue.text(done.override_reason)}
                    if done.override_reason
                    else {}
                ),
            }
        )

    return [
        source_rows,
        batch_submission,
        batch_results,
        validated_rows,
        escalated_rows,
        golden_score,
        promoted_rows,
    ]
