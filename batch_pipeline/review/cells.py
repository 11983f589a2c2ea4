"""What a cell of a review file means, written so that a spreadsheet which opens and saves it changes nothing.

A spreadsheet makes numbers of ids, dates of labels and formulas of whatever begins like one. Text that it would
change goes out as a JSON string, with its quotes; text that it would run gets an apostrophe in front, which is
taken away again when the file comes back.
"""

import json
import math
import re
import unicodedata
from typing import Any

from batch_pipeline.workload.field import Field

# OWASP, "CSV Injection", names these beginnings; the same rule as for `export`.
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_NUMBER = re.compile(r"'*[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
# What LibreOffice or Excel may take for a number, a date, a time or a truth value.
_TAKEN_FOR_ELSE = re.compile(
    r"[^\w\n]*[0-9]|(true|false|null)$|(jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]*[ .,/-]*[0-9]",
    re.IGNORECASE,
)
_PLAIN_NUMBER = re.compile(
    r"[+-]?([0-9]{1,400}\.?[0-9]{0,400}|\.[0-9]{1,400})([eE][+-]?[0-9]{1,4})?"
)
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+([eE][+-]?[0-9]+)?")


class CellError(Exception):
    """What is wrong with a cell, to follow its column's name. Holds nothing of what is in it."""


class _Blank:
    """An empty cell: nothing is said of the field."""


BLANK = _Blank()


def guarded(text: str) -> str:
    """`text` with an apostrophe in front where a spreadsheet would run it, or where `unguarded` would take one."""
    return f"'{text}" if _would_run(text) else text


def unguarded(cell: str) -> str:
    """The text that `guarded` made `cell` of; exactly its apostrophe is taken away."""
    return cell[1:] if cell.startswith("'") and _would_run(cell) else cell


def _would_run(text: str) -> bool:
    return _FORMULA.match(text) is not None and _NUMBER.fullmatch(text) is None


def shown(text: str | None) -> str:
    """Row text for a person to read, which is never read back. CSV has no place for a NUL."""
    return guarded((text or "").replace("\0", "\N{SYMBOL FOR NULL}"))


def written(value: Any) -> str:
    """A JSON value as the cell that `read` makes the same value of."""
    if isinstance(value, str) and not _ambiguous(value):
        return guarded(value)
    text = json.dumps(value, ensure_ascii=False)
    return json.dumps(value) if any(map(_unwritable, text)) else text


def _ambiguous(text: str) -> bool:
    return (
        text != text.strip()
        or text[:1] in ("", '"', "'")
        or _TAKEN_FOR_ELSE.match(text) is not None
        or any(c != "\n" and _unwritable(c) for c in text)
    )


def _unwritable(character: str) -> bool:
    # Control characters, half characters and those that no text may hold.
    return unicodedata.category(character) in ("Cc", "Cs", "Cn")


def read(cell: str, field: Field, *, decimal_comma: bool) -> Any:
    """The JSON value that a cell of `fixed_<field>` stands for, or BLANK. Of which type it is, the contract judges.

    Args:
        cell: as it is in the file.
        field: of the contract.
        decimal_comma: whether 1,5 is a number: the file is not separated by commas.

    Raises:
        CellError: it cannot be read as a value of the field's kind.
    """
    text = unguarded(cell)
    stripped = text.strip()
    if not stripped:
        return BLANK
    if stripped == "null" and (field.nullable or field.kind != "string"):
        return None
    match field.kind:
        case "string":
            return _text(text)
        case "boolean":
            return _truth(stripped)
        case "array":
            return _array(stripped)
        case _:
            return _number(stripped, decimal_comma=decimal_comma)


def _text(text: str) -> str:
    found = text.replace("\r\n", "\n").replace("\r", "\n")
    quoted = text.strip()
    if len(quoted) > 1 and quoted[0] == quoted[-1] == '"':
        try:
            value = json.loads(quoted)
        except ValueError:
            value = None  # a text that has quotes at both ends
        if isinstance(value, str):
            found = value
    if any("\ud800" <= c <= "\udfff" for c in found):
        raise CellError("holds half a character (a surrogate)")
    return found


def _truth(text: str) -> bool:
    value = {"true": True, "false": False}.get(text.casefold())
    if value is None:
        raise CellError("is neither true nor false")
    return value


def _array(text: str) -> list[Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, list):
        raise CellError('is not a JSON array, such as ["a", "b"]')
    return value


def _number(text: str, *, decimal_comma: bool) -> int | float:
    if decimal_comma and _DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    if _PLAIN_NUMBER.fullmatch(text) is None:
        raise CellError("is not a number")
    if re.fullmatch(r"[+-]?[0-9]+", text):
        return int(text)
    value = float(text)
    if not math.isfinite(value):
        raise CellError("is too large a number")
    return value
