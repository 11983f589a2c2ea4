"""The bake-off as a job in the UI."""

from collections.abc import Callable

import dagster as dg

from batch_pipeline.dag.build import build_definitions
from batch_pipeline.dag.naming import job_name
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import HAIKU, SONNET, Night, account_of


def test_the_job_shows_the_candidates_and_the_page_and_fails_in_a_sentence(
    simulate: Callable[..., Simulator], night: Callable[..., Night]
) -> None:
    simulator = simulate()
    definitions = build_definitions(night(golden=4).context.workload)
    job = definitions.resolve_job_def(job_name("questions", "bakeoff"))

    def run(
        models: list[str], instance: dg.DagsterInstance, **limits: float
    ) -> dg.ExecuteInProcessResult:
        config = {"ops": {"questions__bakeoff_models": {"config": {"models": models, **limits}}}}
        return job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)

    with dg.DagsterInstance.ephemeral() as instance:
        dear = run([HAIKU, SONNET], instance, max_usd=0.0001)
        (event,) = dear.get_step_failure_events()
        assert "more than max_usd 0.0001. Nothing was sent" in str(event.event_specific_data)
        assert account_of(simulator)["requests"]["accepted"] == 0
        done = run([HAIKU, SONNET], instance, max_usd=1)
        assert done.success
        (output,) = [e for e in done.all_events if e.event_type_value == "STEP_OUTPUT"]
        shown = output.step_output_data.metadata
        assert shown["cheapest"].value == HAIKU
        assert str(shown["candidates"].value).startswith("| candidate |")
        assert str(shown["page"].value).endswith(".html")
        failed = run([HAIKU], instance)
        (event,) = failed.get_step_failure_events()
        assert "compares two models or more" in str(event.event_specific_data)
