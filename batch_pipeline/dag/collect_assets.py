"""batch_results, validated_rows and escalated_rows. A load passes through them once per wave."""

import dagster as dg

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.dag.asset_face import AssetFace, Results
from batch_pipeline.dag.failures import stage_errors
from batch_pipeline.dag.metadata import answer_columns, numbers, reasons_table, said, schema


def collect_assets(face: AssetFace) -> list[dg.AssetsDefinition]:
    """What the collect job materialises."""

    @dg.asset(
        **face.of(
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
        from batch_pipeline.stages.collect import collect_results

        with stage_errors():
            load = face.load_of(context)
            read = collect_results(load, BatchesApi)
            batches = load.ledger.batches(load.record())
        for batch_id, defects in read.defects.items():
            context.log.warning("Results of %s do not add up: %s", batch_id, defects)
        for batch_id, why in read.postponed.items():
            context.log.warning("Batch %s is read back later: %s", batch_id, why)
        collected = [batch for batch in batches if batch.collected_at is not None]
        if not collected and batches:
            context.log.info(
                "No batch of this load has ended yet; the sensor carries on from here."
            )
            return
        yield dg.MaterializeResult(
            metadata=numbers(
                batches_read_now=read.batches,
                batches_postponed=len(read.postponed),
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
        **face.of(
            "validated_rows",
            ["batch_results"],
            {"pandera", "duckdb"},
            schema(
                ("row", "bigint", "Position in the load's source file."),
                ("outcome", "varchar", "valid, or what is wrong."),
                ("reason", "varchar", "Which rule of the output contract was broken."),
                *answer_columns(face.workload),
            ),
        ),
        description="Every result judged against the output contract: a verdict per answer, never an "
        "exception.",
    )
    def validated_rows(context: dg.AssetExecutionContext) -> Results:
        from batch_pipeline.stages.validate import validate_results

        with stage_errors():
            judged = validate_results(face.load_of(context))
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
        **face.of(
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
        from batch_pipeline.stages.escalate import escalate

        with stage_errors():
            done = escalate(
                face.load_of(context),
                BatchesApi,
                lambda s: context.log.info("%d batches, %d requests sent", s.batches, s.requests),
            )
        if done.sent.pilot is not None:
            context.log.info("%s", done.sent.pilot)
        if done.sent.waits_for is not None:
            context.log.warning("Not all was sent: %s", done.sent.waits_for)
        yield dg.MaterializeResult(
            metadata={
                **numbers(
                    requests_sent_now=done.sent.requests,
                    batches_sent_now=done.sent.batches,
                    open_rows=done.open_rows,
                    climbing_rows=done.climbing,
                    **done.dispositions,
                ),
                **said(
                    waits_for=done.sent.waits_for,
                    resolved="; ".join(done.sent.resolved),
                    pilot=done.sent.pilot,
                ),
            }
        )

    return [batch_results, validated_rows, escalated_rows]
