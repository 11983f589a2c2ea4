"""golden_score and promoted_rows: the measures, the gate, and what it lets through."""

import dagster as dg

from batch_pipeline.dag.asset_face import AssetFace, Results
from batch_pipeline.dag.failures import stage_errors
from batch_pipeline.dag.metadata import (
    answer_columns,
    checks_table,
    numbers,
    reasons_table,
    schema,
    scorecard_numbers,
)
from batch_pipeline.dag.naming import warehouse_pool
from batch_pipeline.dag.trend_checks import night_results, night_specs, open_results
from batch_pipeline.ledger.records import Phase
from batch_pipeline.targets import target_of


class PromoteConfig(dg.Config):
    """A person's way past a closed gate."""

    override_reason: str | None = None  # why this load may go out all the same; recorded and shown


def publish_assets(face: AssetFace) -> list[dg.AssetsDefinition]:
    """What the publish job materialises."""

    @dg.asset(
        **face.of(
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
        check_specs=night_specs(face.workload, face.partitions),
        pool=warehouse_pool(),
        description="The measures of the finished load, the golden score among them, written to the "
        "metrics; and the gate's decision. Yields nothing while rows are open.",
    )
    def golden_score(context: dg.AssetExecutionContext) -> Results:
        from batch_pipeline.report import write_report
        from batch_pipeline.stages.grade import grade

        with stage_errors():
            load = face.load_of(context)
            record = load.ledger.load(load.workload.name, load.load)
            if record is None or record.phase is not Phase.SETTLED:
                context.log.info("Rows are still open; the sensor grades the load when none is.")
                yield from open_results(load)
                return
            card = grade(load)
            report = write_report(load, card)
            compared = list(night_results(load))
        assert card.gate is not None
        context.log.info(card.gate.sentence)
        yield dg.MaterializeResult(
            metadata={
                "gate": dg.MetadataValue.text(card.gate.sentence),
                "nights": checks_table(compared),
                "report": dg.MetadataValue.path(report),
                **scorecard_numbers(card),
                "dispositions": reasons_table(card.reasons, "disposition"),
                "dagster/table_name": dg.MetadataValue.text("metrics.measures"),
            }
        )
        yield from compared

    @dg.asset(
        **face.of(
            "promoted_rows",
            ["golden_score"],
            {target_of(face.workload).kind},
            {
                **schema(
                    (face.workload.spec.source.key, "varchar", "The source's key."),
                    *answer_columns(face.workload),
                    ("_tier", "integer", "The tier that gave the answer."),
                    ("_model", "varchar", "The model that gave the answer."),
                    ("_batch_id", "varchar", "The batch it came in."),
                    ("_load", "varchar", "The load that promoted it."),
                ),
                "dagster/table_name": target_of(face.workload).name,
            },
        ),
        pool=warehouse_pool(),
        description="Validated rows in the system of record, with provenance. Asks the gate itself, "
        "however it is launched; launching it again changes nothing.",
    )
    def promoted_rows(context: dg.AssetExecutionContext, config: PromoteConfig) -> Results:
        from batch_pipeline.report import write_report
        from batch_pipeline.stages.promote import promote

        with stage_errors():
            load = face.load_of(context)
            done = promote(
                load,
                override_reason=config.override_reason,
                requested_by=f"run {context.run.run_id}",
            )
            report = write_report(load, done.card)
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

    return [golden_score, promoted_rows]
