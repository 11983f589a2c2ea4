"""The code location: every declared workload, and nothing else."""

import warnings
from pathlib import Path

import dagster as dg

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import SHIPPED_WORKLOADS, Settings
from batch_pipeline.state_folder import keep_private
from batch_pipeline.workload.catalogue import declaration_files, read_declarations
from batch_pipeline.workload.workload import Workload

# The code server and every run it starts load this module before they write anything.
keep_private()

# Partitioned checks and components are marked preview or beta; said at every load, it drowns real warnings.
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
warnings.filterwarnings("ignore", category=dg.BetaWarning)


def _extra_workloads() -> list[Workload]:
    """The workloads of BATCH_PIPELINE_WORKLOADS, a folder outside this project."""
    folder = Settings.from_environment().workloads
    if folder is None or folder == SHIPPED_WORKLOADS:
        return []
    return [
        Workload.build(spec, path.parent)
        for path in declaration_files(folder)
        for spec in read_declarations(path)
    ]


@dg.definitions
def defs() -> dg.Definitions:
    """Loads `defs/` as a Dagster project does, then the extra folder. One bad file fails all: say which."""
    from batch_pipeline.dag.build import EXECUTOR, build_definitions

    # Read by us first: our sentences name file, line and field, and see a key that is given twice.
    shipped_names = {
        spec.name
        for path in declaration_files(SHIPPED_WORKLOADS)
        for spec in read_declarations(path)
    }
    shipped = (
        dg.load_from_defs_folder(path_within_project=Path(__file__).parent)
        if (Path(__file__).parent.parent / "pyproject.toml").is_file()
        else dg.Definitions()
    )
    extra = _extra_workloads()
    names = [workload.name for workload in extra]
    if twice := {name for name in names if names.count(name) > 1 or name in shipped_names}:
        raise ConfigurationError(f"The workload {min(twice)!r} is declared twice; rename one.")
    return dg.Definitions.merge(
        shipped,
        *(build_definitions(workload) for workload in extra),
        dg.Definitions(executor=EXECUTOR),
    )
