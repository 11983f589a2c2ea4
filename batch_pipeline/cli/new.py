"""`new`: a first workload from a data file."""

import tempfile
from pathlib import Path

import click

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import SHIPPED_WORKLOADS, Settings, project_root


@click.command()
@click.argument("name")
@click.option(
    "--from", "data", required=True, metavar="FILE", help="The rows: CSV, Parquet or NDJSON."
)
@click.option("--key", required=True, metavar="COL", help="The column that identifies a row.")
@click.option("--text", required=True, metavar="COL", help="The column to ask about.")
@click.option(
    "--labels",
    metavar="FILE|COL",
    help="The allowed answers: a file with one label a line, or a column with each row's right label, "
    "which makes a golden set too. Without it, a summary is asked for.",
)
def new(name: str, data: str, key: str, text: str, labels: str | None) -> None:
    """Write a workload called NAME that loads at once, to read over and change.

    It goes into BATCH_PIPELINE_WORKLOADS where that is set, else into the project's batch_pipeline/defs.
    """
    from batch_pipeline.workload.scaffold import removed_on_failure, scaffold

    settings = Settings.from_environment()
    workloads = _workloads(settings)
    _refuse_known(name, settings)
    made = scaffold(workloads, name, data=Path(data), key=key, text=text, labels=labels)
    with removed_on_failure(made.folder):
        _check(made.folder)
    click.echo(f"Wrote {made.folder}: {', '.join(made.files)}")
    if made.labels:
        click.echo(
            f"  {len(made.labels)} labels"
            + (f", {made.golden_rows} golden rows" if made.golden_rows else "")
            + "; say in system.md what belongs to each label."
        )
    click.echo(
        "Next, with ANTHROPIC_API_KEY set:\n"
        f"  batch-pipeline run {name}\n"
        "or, to see it work without spending, with a simulator that makes its answers up:\n"
        "  batch-pipeline simulate            # in another terminal; export what it prints"
    )


def _workloads(settings: Settings) -> Path:
    if settings.workloads is not None:
        return settings.workloads
    if SHIPPED_WORKLOADS.parent.parent != project_root():
        raise ConfigurationError(
            "Set BATCH_PIPELINE_WORKLOADS to a folder for your workloads: the installed package is no "
            "place for them."
        )
    return SHIPPED_WORKLOADS


def _refuse_known(name: str, settings: Settings) -> None:
    from batch_pipeline.workload.catalogue import all_declarations, read_declarations

    for path in all_declarations(settings):
        try:
            names = [spec.name for spec in read_declarations(path)]
        except ConfigurationError:
            continue
        if name in names:
            raise ConfigurationError(
                f"The workload {name!r} is declared in {path} already; choose another name."
            )


def _check(folder: Path) -> None:
    """Loads the workload and reads its source as a run would."""
    from batch_pipeline.rows.query import querying
    from batch_pipeline.stages.source import check_source
    from batch_pipeline.workload.catalogue import read_declarations
    from batch_pipeline.workload.workload import Workload

    (spec,) = read_declarations(folder / "defs.yaml")
    workload = Workload.build(spec, folder)
    with tempfile.TemporaryDirectory() as scratch, querying(Path(scratch)) as connection:
        check_source(workload, workload.last_complete_day(), connection)
