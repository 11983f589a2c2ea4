"""Our stages, as the assets call them, in one process without Dagster.

What they import when they first need it is imported beforehand, as the other contestants do; the start of the
process has it.
"""

import json
import sys
import time

import anthropic.types.messages
import pandera.pandas
import scipy.stats

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.report import write_report
from batch_pipeline.settings import Settings
from batch_pipeline.stages.collect import collect_results
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.escalate import escalate
from batch_pipeline.stages.foresee import foresee
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.next_step import Action, next_step
from batch_pipeline.stages.poll import poll
from batch_pipeline.stages.promote import promote
from batch_pipeline.stages.scorecard import Scorecard
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline.stages.validate import validate_results
from batch_pipeline.workload.catalogue import find_workload
from batch_pipeline_tests.bench.stopwatch import Stopwatch

_IMPORTED = (anthropic, pandera, scipy.stats)


def run_stages(context: LoadContext, watch: Stopwatch) -> Scorecard:
    """Drives a load to its promotion, as the sensor and its jobs would."""
    apis: list[BatchesApi] = []

    def api() -> BatchesApi:
        # Each asset makes its own; here the first one's set-up is counted with the source.
        apis.append(BatchesApi())
        return apis[-1]

    while True:
        match next_step(context.ledger, context.workload.name, context.load).action:
            case Action.SUBMIT:
                with watch("source"):
                    read_source(context)
                with watch("estimate"):
                    foresee(context, api)
                with watch("submit"):
                    send_pending(context, api)
            case Action.COLLECT:
                with watch("collect"):
                    collect_results(context, api)
                with watch("validate"):
                    validate_results(context)
                with watch("escalate"):
                    escalate(context, api)
            case Action.PUBLISH:
                with watch("grade"):
                    card = grade(context)
                    write_report(context, card)
                with watch("promote"):
                    card = promote(context).card
                    write_report(context, card)
                return card
            case Action.WAIT:
                with watch("poll"):
                    poll(context.ledger, context.record(), api(), 0.0)
                time.sleep(0.01)
            case action:
                raise SystemExit(f"the benchmark's load cannot go on: {action}")


def _main(workload: str, load: str) -> None:
    settings = Settings.from_environment()
    watch = Stopwatch()
    began = time.perf_counter()
    context = LoadContext.open(find_workload(workload, settings), load, settings)
    card = run_stages(context, watch)
    whole = time.perf_counter() - began
    watch.seconds["between"] = whole - sum(watch.seconds.values())
    measures = {
        "source_rows": card.source_rows,
        "coverage": card.rates["coverage"].value,
        "validity": card.rates["validity"].value,
        "cost_usd": card.cost_usd,
        "promoted_rows": card.promoted_rows,
    }
    print(json.dumps({"seconds": watch.seconds, "peak_mb": watch.peak_mb, "measures": measures}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
