"""The model's last answer, as far as it can be read, and the answer that a reviewer makes of it."""

import json
from typing import Any

from batch_pipeline.review.cells import BLANK, CellError, read
from batch_pipeline.review.columns import FIXED
from batch_pipeline.workload.contract import Contract
from batch_pipeline.workload.field import Field


def fields_of(answer: str | None, contract: Contract) -> dict[str, Any]:
    """The contract's fields in an answer that is a JSON object, whatever their types; else nothing."""
    try:
        found = json.loads(answer or "", parse_constant=_no_constant)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {name: found[name] for name in contract.names if name in found}


def fixed_answer(
    model: dict[str, Any], cells: tuple[str, ...], contract: Contract, *, decimal_comma: bool
) -> dict[str, Any]:
    """The answer of a row to be fixed: the cells' values, and the model's own where a cell is blank.

    Raises CellError, naming the column.
    """
    answer = {}
    for field, cell in zip(contract.fields, cells, strict=True):
        try:
            value = read(cell, field, decimal_comma=decimal_comma)
        except CellError as error:
            raise CellError(f"{FIXED}{field.name} {error}") from None
        if value is BLANK:
            if field.name not in model:
                raise CellError(
                    f"{FIXED}{field.name} is blank, and the model gave no {field.name} to keep"
                )
            value = model[field.name]
        answer[field.name] = value
    return answer


def kept_fields(model: dict[str, Any], answer: dict[str, Any], contract: Contract) -> list[str]:
    """The fields in which `answer` is what the model said."""
    return [
        field.name
        for field in contract.fields
        if field.name in model and _same(field, model[field.name], answer[field.name])
    ]


def _same(field: Field, one: Any, other: Any) -> bool:
    # True equals 1 to Python, though not to a contract.
    return _plain(field, one) == _plain(field, other) and isinstance(one, bool) == isinstance(
        other, bool
    )


def _plain(field: Field, value: Any) -> Any:
    if field.allowed is not None and isinstance(value, str):
        return field.label(value) or value
    return value


def _no_constant(name: str) -> Any:
    # Python reads NaN and Infinity, which are no JSON.
    raise ValueError(name)
