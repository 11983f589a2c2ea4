"""The bake-off job: which model is the cheapest that is good enough, asked from the UI."""

import dagster as dg

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.dag.failures import stage_errors
from batch_pipeline.dag.metadata import numbers
from batch_pipeline.dag.naming import WORKLOAD_TAG, job_name
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.settings import Settings
from batch_pipeline.workload.workload import Workload


class BakeoffConfig(dg.Config):
    """Which models are compared, what they may cost in US dollars, and for how long the run waits."""

    models: list[str]  # ids, as in the price table
    max_usd: float | None = None  # nothing is sent where it could cost more
    max_wait_seconds: float = 86_400.0  # the run then fails, and another one goes on where it was


def build_bakeoff_job(workload: Workload, executor: dg.ExecutorDefinition) -> dg.JobDefinition:
    """Without partitions: it is about the golden set, not about a day."""

    @dg.op(
        name=f"{workload.name}__bakeoff_models",
        description="Asks each model the golden rows; what an earlier run of the same models sent is not paid again.",
    )
    def models(context: dg.OpExecutionContext, config: BakeoffConfig) -> None:
        from batch_pipeline.bakeoff.bound import checked_bound
        from batch_pipeline.bakeoff.drive import holding_bakeoff, run_bakeoff
        from batch_pipeline.bakeoff.outcomes import bakeoff_result
        from batch_pipeline.report.bakeoff_page import write_bakeoff
        from batch_pipeline.report.bakeoff_words import markdown, sentences

        with stage_errors():
            if config.max_usd is not None and not config.max_usd >= 0:
                raise ConfigurationError(
                    f"max_usd {config.max_usd} makes no sense; give a number, 0 or more."
                )
            settings = Settings.from_environment()
            with holding_bakeoff(workload, config.models, settings) as opened:
                said = checked_bound(opened, config.max_usd, option="max_usd")
                if said:
                    context.log.info(said)
                left = run_bakeoff(
                    opened, BatchesApi, max_wait=config.max_wait_seconds, say=context.log.info
                )
                if left:
                    raise PipelineError(
                        f"The bake-off is not finished; launch it again with the same models to go on. {'; '.join(left)}"
                    )
                result = bakeoff_result(opened)
                page = write_bakeoff(result)
        for sentence in sentences(result):
            context.log.info(sentence)
        chosen = result.ranking.chosen
        context.add_output_metadata(
            {
                "says": dg.MetadataValue.md("\n\n".join(sentences(result)[:2])),
                "candidates": dg.MetadataValue.md(markdown(result)),
                "page": dg.MetadataValue.path(str(page)),
                "cheapest": dg.MetadataValue.text(chosen.name if chosen else "none passes"),
                **numbers(cost_usd=float(sum(each.usd for each in result.ranking.models))),
            }
        )

    @dg.job(
        name=job_name(workload.name, "bakeoff"),
        executor_def=executor,
        description=f"Asks several models the golden rows of {workload.name} and names the cheapest that is good "
        "enough, and the cheapest cascade of two. It spends money, and changes nothing by itself.",
        tags={WORKLOAD_TAG: workload.name},
    )
    def bakeoff_job() -> None:
        models()

    return bakeoff_job
