"""Measures a load and writes its page and the index anew, as the assets do."""

import json
import sys

from batch_pipeline.report import write_report
from batch_pipeline.settings import Settings
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.workload.catalogue import find_workload


def _main(workload: str, load: str) -> None:
    settings = Settings.from_environment()
    context = LoadContext.open(find_workload(workload, settings), load, settings)
    print(json.dumps(str(write_report(context, measure_load(context)))))


if __name__ == "__main__":
    _main(*sys.argv[1:])
