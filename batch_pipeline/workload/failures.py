"""Asks a Pandera schema about a frame: which rows fail which check, and nothing of what is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
from pandera.config import ValidationDepth, config_context
from pandera.errors import SchemaErrorReason, SchemaErrors

if TYPE_CHECKING:
    from numpy.typing import NDArray

# After these, a column is not of its type, and what later checks say of it means nothing.
_SPOILING = (SchemaErrorReason.SERIES_CONTAINS_NULLS, SchemaErrorReason.DATATYPE_COERCION)


@dataclass(frozen=True)
class Failure:
    """One check that did not hold.

    Attributes:
        column: the column it looked at, or None for the whole frame.
        check: its name.
        rows: index labels of the rows that fail; empty when it failed as a whole.
        spoils: the rows' values are not of the column's type.
        problem: why it failed as a whole, for a sentence. Holds no row text.
    """

    column: str | None
    check: str
    rows: NDArray[np.int64]
    spoils: bool
    problem: str

    @property
    def name(self) -> str:
        return self.check if self.column is None else f"{self.column}:{self.check}"


def failures(schema: pandera.DataFrameSchema, frame: pd.DataFrame) -> list[Failure]:
    """Every check of `schema` that `frame` fails, in the schema's order; empty when it passes.

    Raises whatever Pandera lets through of a schema's own parsers: its text may quote rows.
    """
    found: list[Failure] = []
    # Pandera can be switched off by the environment; a gate must not be.
    with config_context(validation_enabled=True, validation_depth=ValidationDepth.SCHEMA_AND_DATA):
        try:
            schema.validate(frame, lazy=True)
        except SchemaErrors as errors:
            # What the error holds besides (its text, the failing values) goes no further than here.
            found = [_failure(error, frame) for error in errors.schema_errors]
    return found


def _failure(error: Any, frame: pd.DataFrame) -> Failure:
    column = None if isinstance(error.schema, pandera.DataFrameSchema) else str(error.schema.name)
    check = _check_name(error)
    reason = error.reason_code
    whole = reason in (SchemaErrorReason.CHECK_ERROR, SchemaErrorReason.WRONG_DATATYPE)
    return Failure(
        column=column,
        check=check,
        rows=np.empty(0, dtype=np.int64) if whole else _rows(error, frame),
        spoils=reason in _SPOILING,
        problem=_problem(error, column, frame),
    )


def _check_name(error: Any) -> str:
    check = error.check
    if check is None or isinstance(check, str):
        return check or error.reason_code.value
    if check.name and check.name != "<lambda>":
        return str(check.name)
    return str(check.error or f"check_{error.check_index}")


def _rows(error: Any, frame: pd.DataFrame) -> NDArray[np.int64]:
    # The mask is exact; the list of cases leaves out nulls and may be cut short by `n_failure_cases`.
    output, cases = error.check_output, error.failure_cases
    if not isinstance(cases, pd.DataFrame):
        return np.empty(0, dtype=np.int64)
    if isinstance(output, pd.DataFrame):
        output = output.all(axis="columns")
    if isinstance(output, pd.Series) and output.index.isin(frame.index).all():
        failing = output.index[~output.to_numpy(dtype=bool)]
    elif "index" in cases and cases["index"].notna().all():
        failing = pd.Index(cases["index"].unique())
    else:
        failing = pd.Index([])
    return failing.to_numpy(dtype=np.int64)


def _problem(error: Any, column: str | None, frame: pd.DataFrame) -> str:
    reason = error.reason_code
    if reason is SchemaErrorReason.CHECK_ERROR:
        exception = str(error.failure_cases).partition("(")[0]
        return f"raised {exception}; it must answer for every row it is given"
    if reason is SchemaErrorReason.WRONG_DATATYPE and column in frame.columns:
        return (
            f"does not hold, for the column has type {frame[column].dtype};"
            " declare that type, or set coerce=True"
        )
    if reason is SchemaErrorReason.DATAFRAME_CHECK:
        return "fails without saying for which rows; it must answer for each row by itself"
    return f"fails for the frame as a whole ({reason.value})"
