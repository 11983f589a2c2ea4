"""A contract's rules as Pandera checks over pandas columns: whole columns at a time, no loop over rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pandera
import pyarrow as pa
import pyarrow.compute as pc

from batch_pipeline.workload.field import Field, Kind, Number

# pyarrow ships no types.
arrow: Any = pa
compute: Any = pc

Check = Callable[["pd.Series[Any]"], "pd.Series[bool]"]


_DTYPES: dict[Kind, str | None] = {
    "string": "str",
    "integer": "Int64",
    "number": "float64",
    "boolean": "boolean",
    "array": None,
}


def schema_of(declared: tuple[Field, ...]) -> pandera.DataFrameSchema:
    """A Pandera schema for a frame of `declared`, in the dtypes of `nullable_frame`."""
    columns = {
        field.name: pandera.Column(
            _DTYPES[field.kind],
            checks=[pandera.Check(check, name=reason) for reason, check in _checks_of(field)],
            nullable=field.nullable,
        )
        for field in declared
    }
    return pandera.DataFrameSchema(columns, name="contract")


def nullable_frame(table: Any) -> pd.DataFrame:
    """A pandas frame of an Arrow table that keeps nulls without changing a column's type.

    Text is `str`, whole numbers of any width `Int64`, booleans `boolean`; lists stay Arrow lists.
    """

    def dtype(kind: Any) -> Any:
        if arrow.types.is_list(kind):
            return pd.ArrowDtype(kind)
        if arrow.types.is_integer(kind) and kind != arrow.uint64():
            return pd.Int64Dtype()
        return pd.BooleanDtype() if arrow.types.is_boolean(kind) else None

    frame: pd.DataFrame = table.to_pandas(types_mapper=dtype)
    return frame


def _checks_of(field: Field) -> list[tuple[str, Check]]:
    """Pairs of a reason and a function from a column without nulls to a mask of what is good."""
    return _array_checks(field) if field.items is not None else _scalar_checks(field)


def _scalar_checks(field: Field) -> list[tuple[str, Check]]:
    found: list[tuple[str, Check]] = []
    if (allowed := field.allowed) is not None:
        found.append(("unknown_label", lambda column: column.isin(list(allowed))))
    for bound, within in (
        (field.minimum, lambda column, bound: column >= bound),
        (field.exclusive_minimum, lambda column, bound: column > bound),
        (field.maximum, lambda column, bound: column <= bound),
        (field.exclusive_maximum, lambda column, bound: column < bound),
    ):
        if bound is not None:
            found.append(("out_of_range", _bind(within, bound)))
    if field.multiple_of is not None:
        found.append(("not_multiple", _bind(_is_multiple, field.multiple_of)))
    if field.min_length is not None:
        found.append(
            ("too_short", _bind(lambda column, n: column.str.len() >= n, field.min_length))
        )
    if field.max_length is not None:
        found.append(("too_long", _bind(lambda column, n: column.str.len() <= n, field.max_length)))
    if field.pattern is not None:
        found.append(("pattern", _bind(_matches, field.pattern)))
    return found


def _bind(function: Callable[[Any, Any], Any], argument: Any) -> Check:
    return lambda column: function(column, argument)


def _is_multiple(column: pd.Series[Any], step: Number) -> pd.Series[bool]:
    if float(step).is_integer():
        # The remainder is exact, of floats too; a quotient beyond 2**53 would hide it in its rounding.
        return column % step == 0
    # 0.3 is a multiple of 0.1 to a person, though not to binary fractions: allow a few roundings.
    quotient = column / step
    return (quotient - quotient.round()).abs() <= 1e-15 * quotient.abs().clip(lower=1.0)


def _matches(column: pd.Series[Any], pattern: str) -> pd.Series[bool]:
    found = compute.match_substring_regex(_arrow(column), pattern=pattern)
    return pd.Series(found.to_numpy(zero_copy_only=False), index=column.index, dtype=bool)


def _array_checks(field: Field) -> list[tuple[str, Check]]:
    found: list[tuple[str, Check]] = []
    if field.min_items is not None:
        found.append(("too_short", _bind(lambda c, n: c.list.len() >= n, field.min_items)))
    if field.max_items is not None:
        found.append(("too_long", _bind(lambda c, n: c.list.len() <= n, field.max_items)))
    if field.items is not None:
        found += [("items", _bind(_every_item, check)) for _, check in _scalar_checks(field.items)]
    if field.unique_items:
        found.append(("repeated", _no_item_twice))
    return found


def _arrow(column: pd.Series[Any]) -> Any:
    return arrow.chunked_array(column.array.__arrow_array__()).combine_chunks()


def _flattened(column: pd.Series[Any]) -> pd.DataFrame:
    """Every item of an Arrow list column, with the position of the list it came from."""
    lists = _arrow(column)
    table = arrow.table(
        {"parent": compute.list_parent_indices(lists), "item": compute.list_flatten(lists)}
    )
    return nullable_frame(table)


def _every_item(column: pd.Series[Any], check: Check) -> pd.Series[bool]:
    flat = _flattened(column).dropna(subset="item")
    return _without(column, flat["parent"][~check(flat["item"]).astype(bool)])


def _no_item_twice(column: pd.Series[Any]) -> pd.Series[bool]:
    flat = _flattened(column)
    return _without(column, flat["parent"][flat.duplicated()])


def _without(column: pd.Series[Any], bad_positions: pd.Series[Any]) -> pd.Series[bool]:
    good = np.ones(len(column), dtype=bool)
    good[bad_positions.to_numpy(dtype=np.int64)] = False
    return pd.Series(good, index=column.index, dtype=bool)
