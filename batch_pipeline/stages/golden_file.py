"""Opens the golden file, and refuses one whose answers could never be met or whose rows could not be asked."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import duckdb

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.rows.query import quoted
from batch_pipeline.stages.source_columns import EXPECTED, OWN_COLUMNS, ROW
from batch_pipeline.workload.data_file import listed, open_data_file
from batch_pipeline.workload.field import Field
from batch_pipeline.workload.workload import Workload

# The temporary table of the golden file's rows; `ROW` is the position in it.
GOLDEN_ROWS = "_golden_rows"

_POSITIONS_SHOWN = 5


def expected_columns(workload: Workload) -> list[str]:
    """The names that the columns of right answers have or may have, in the contract's order."""
    return [EXPECTED + name for name in workload.contract.names]


def open_golden(
    connection: duckdb.DuckDBPyConnection,
    workload: Workload,
    source: dict[str, str],
    needed: Collection[str],
) -> None:
    """Makes the table `GOLDEN_ROWS`, and checks it.

    Args:
        connection: where it is made.
        workload: one with a golden set.
        source: the columns of the source, name to type.
        needed: those that the prompt and the user's checks look at.

    Raises:
        ConfigurationError: no such file; a column is missing or does not fit the source's type; a key is
            null or not unique; an expected answer is missing or one that the contract does not allow.
    """
    spec = workload.spec.golden
    assert spec is not None
    view = f"{GOLDEN_ROWS}_file"
    file = open_data_file(
        connection,
        view,
        workload.folder / spec.path,
        field="golden.path",
        wanted=[*needed, *(EXPECTED + name for name in spec.match)],
    )
    here = f"the golden file {file.path}"
    _check_columns(workload, here, file.columns, needed)
    try:
        connection.execute(
            f"CREATE OR REPLACE TEMP TABLE {GOLDEN_ROWS} AS "
            f"SELECT row_number() OVER () - 1 AS {ROW}, * FROM {view}"
        )
    except duckdb.Error as error:
        raise ConfigurationError(f"{here} cannot be read: {file.problem(error)}.") from None
    if connection.execute(f"SELECT count(*) FROM {GOLDEN_ROWS}").fetchall() == [(0,)]:
        raise ConfigurationError(
            f"{here} has no rows; add some, or remove golden from the workload."
        )
    _check_types(connection, here, source, needed)
    if workload.spec.source.key in file.columns:
        _check_key(connection, here, workload.spec.source.key)
    for field in workload.contract.fields:
        if EXPECTED + field.name in file.columns:
            _check_answers(connection, here, field, required=field.name in spec.match)


def _check_columns(
    workload: Workload, here: str, columns: dict[str, str], needed: Collection[str]
) -> None:
    spec = workload.spec.golden
    assert spec is not None
    for name in spec.match:
        if EXPECTED + name not in columns:
            raise ConfigurationError(
                f"golden.match names {name!r}, but {here} has no column {EXPECTED}{name}; "
                f"it has {listed(columns)}."
            )
    if taken := [name for name in columns if name.casefold() in OWN_COLUMNS]:
        raise ConfigurationError(
            f"{here} has a column {taken[0]!r}, a name that {workload.name}'s tables need; rename it."
        )
    answers = expected_columns(workload)
    for column in workload.prompt.columns:
        if column in answers:
            raise ConfigurationError(
                f"{workload.prompt.names(column)} the column {column!r}, which would send the right answer along; "
                "remove it from the prompt."
            )
    for column in needed:
        if column not in columns:
            what = "prompt.user" if column in workload.prompt.columns else "checks"
            raise ConfigurationError(
                f"{what} looks at the column {column!r}, which {here} does not have; "
                f"it has {listed(columns)}."
            )


def _check_types(
    connection: duckdb.DuckDBPyConnection,
    here: str,
    source: dict[str, str],
    needed: Collection[str],
) -> None:
    for column in needed:
        kind, name = source[column], quoted(column)
        wrong = connection.execute(
            f"SELECT count(*) FROM {GOLDEN_ROWS} "
            f"WHERE {name} IS NOT NULL AND TRY_CAST({name} AS {kind}) IS NULL"
        ).fetchall()[0][0]
        if wrong:
            raise ConfigurationError(
                f"The column {column!r} of {here} does not hold {kind} in {wrong:,} rows, as the source "
                "does; give both the same type."
            )


def _check_key(connection: duckdb.DuckDBPyConnection, here: str, key: str) -> None:
    name = quoted(key)
    total, present, distinct = connection.execute(
        f"SELECT count(*), count({name}), count(DISTINCT {name}) FROM {GOLDEN_ROWS}"
    ).fetchall()[0]
    if distinct < total:
        problem = "is null" if present < total else "is not unique"
        raise ConfigurationError(
            f"The key column {key!r} of {here} {problem} in {total - min(present, distinct):,} of "
            f"{total:,} rows; give each golden row a key of its own, or leave the column out."
        )


def _check_answers(
    connection: duckdb.DuckDBPyConnection, here: str, field: Field, *, required: bool
) -> None:
    column = quoted(EXPECTED + field.name)
    where = f"{EXPECTED}{field.name} of {here}"
    total, present = connection.execute(
        f"SELECT count(*), count({column}) FROM {GOLDEN_ROWS}"
    ).fetchall()[0]
    if required and not field.nullable and present < total:
        raise ConfigurationError(
            f"{where} is empty in {total - present:,} of {total:,} rows; fill it in, or remove them."
        )
    converted = f"TRY_CAST({column} AS {field.duckdb_type})"
    if field.kind == "integer":
        # A cast alone would round 3.7 to 4.
        double = f"TRY_CAST({column} AS DOUBLE)"
        converted = f"CASE WHEN {double} = trunc({double}) THEN {converted} END"
    if field.items is not None and not field.items.nullable:
        # An item that cannot be cast becomes null rather than making the whole list null.
        whole = f"len(list_filter({converted}, lambda item: item IS NULL)) = 0"
        converted = f"CASE WHEN {whole} THEN {converted} END"
    wrong = connection.execute(
        f"SELECT {ROW} FROM {GOLDEN_ROWS} "
        f"WHERE {column} IS NOT NULL AND {converted} IS NULL ORDER BY 1"
    ).fetchall()
    if wrong:
        raise ConfigurationError(
            f"{where} holds what output.{field.name} cannot be, whose type is {field.kind}, in "
            f"{_places([row for (row,) in wrong])}; mend it there."
        )
    _check_contract(connection, where, field, converted)


def _check_contract(
    connection: duckdb.DuckDBPyConnection, where: str, field: Field, converted: str
) -> None:
    """Holds the expected answers against the contract's own checks."""
    # Slow to import, and only here needed before anything is sent.
    from batch_pipeline.workload.failures import failures
    from batch_pipeline.workload.field_checks import nullable_frame, schema_of

    values = connection.sql(
        f"SELECT {converted} AS {quoted(field.name)} FROM {GOLDEN_ROWS} ORDER BY {ROW}"
    ).to_arrow_table()
    # Whether an answer may be missing was asked before.
    found = failures(schema_of((replace(field, nullable=True),)), nullable_frame(values))
    if not found:
        return
    first = found[0]
    allowed = f"; it allows {listed(map(str, field.allowed))}" if field.allowed else ""
    raise ConfigurationError(
        f"{where} holds what output.{field.name} does not allow ({first.check}) in "
        f"{_places(sorted(first.rows.tolist()))}{allowed}."
    )


def _places(positions: Sequence[int]) -> str:
    """Where to look, rather than what is there: an answer may be as private as its row."""
    shown = ", ".join(f"{position + 1:,}" for position in positions[:_POSITIONS_SHOWN])
    more = len(positions) - _POSITIONS_SHOWN
    plural = "s" if len(positions) > 1 else ""
    return f"row{plural} {shown}" + (f" and {more:,} more" if more > 0 else "")
