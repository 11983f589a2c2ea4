"""`export` and `dispositions`: rows out of the project, as CSV or Parquet."""

import sys
from pathlib import Path

import click

from batch_pipeline.cli import EXIT_HELD, EXIT_UNFINISHED
from batch_pipeline.cli.opening import existing_load
from batch_pipeline.cli.options import date_option, to_option, workload_argument
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.rows import replacing
from batch_pipeline.rows.query import querying, quoted
from batch_pipeline.stages.context import LoadContext

_FORMATS = {".csv": "(FORMAT csv, HEADER)", ".parquet": "(FORMAT parquet, COMPRESSION zstd)"}


@click.command()
@workload_argument
@date_option
@to_option
def export(workload: str, load: str | None, target: str) -> None:
    """Write the rows that a load of WORKLOAD promoted.

    Columns: the source's key, the contract's fields, and _tier, _model, _batch_id, _load.
    """
    path = _target(target)
    context = existing_load(workload, load)
    record = context.record()
    if record.promoted_at is None:
        held = record.gate == "hold"
        click.echo(
            f"batch-pipeline: {context} is {'held by its gate' if held else 'not finished'}, so nothing was "
            "promoted; see `batch-pipeline scorecard`.",
            err=True,
        )
        sys.exit(EXIT_HELD if held else EXIT_UNFINISHED)
    source = str(context.folder(record).promoted).replace("'", "''")
    relation = f"read_parquet('{source}')"
    rows = _copy(context, relation, path)
    click.echo(f"{rows:,} promoted rows of {context} written to {path}", err=True)


@click.command()
@workload_argument
@date_option
@to_option
def dispositions(workload: str, load: str | None, target: str) -> None:
    """Write every source row of a load of WORKLOAD: key, disposition, reason, tier, attempts.

    A row whose fate is still open has no disposition.
    """
    path = _target(target)
    context = existing_load(workload, load)
    from batch_pipeline.stages.scorecard import measuring

    with measuring(context) as (connection, card):
        connection.execute(
            "CREATE TEMP TABLE listed AS SELECT key, disposition, reason, tier, attempts FROM rows "
            "WHERE NOT golden ORDER BY row"
        )
        with replacing(path) as temporary:
            connection.execute(f"COPY listed TO '{_literal(temporary)}' {_FORMATS[path.suffix]}")
    click.echo(f"{card.source_rows:,} source rows of {context} written to {path}", err=True)


def _target(text: str) -> Path:
    path = Path(text).absolute()
    if path.suffix not in _FORMATS:
        raise ConfigurationError(f"--to {text}: the name must end in .csv or .parquet.")
    if not path.parent.is_dir():
        raise ConfigurationError(f"--to {text}: the folder {path.parent} does not exist.")
    return path


def _copy(context: LoadContext, relation: str, path: Path) -> int:
    with querying(context.scratch) as connection, replacing(path) as temporary:
        columns = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
        # A list has no place of its own in CSV: it goes in as JSON, which can be read back.
        lists = [quoted(name) for name, kind, *_ in columns if kind.endswith("[]")]
        replaced = ", ".join(f"to_json({name}) AS {name}" for name in lists)
        query = f"SELECT * FROM {relation}"
        if replaced and path.suffix == ".csv":
            query = f"SELECT * REPLACE ({replaced}) FROM {relation}"
        row = connection.execute(
            f"COPY ({query}) TO '{_literal(temporary)}' {_FORMATS[path.suffix]}"
        ).fetchone()
    return int(row[0]) if row else 0


def _literal(path: Path) -> str:
    return str(path).replace("'", "''")
