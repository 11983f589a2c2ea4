"""Names of a Postgres's things in a declaration: the variable that says where it is, its tables and columns."""

import re
from typing import Annotated

from pydantic import AfterValidator

_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PART = r'("(?:[^"]|"")+"|[^".]+)'
_TABLE = re.compile(rf"(?:{_PART}\.)?{_PART}")
# Every table has them.
_SYSTEM_COLUMNS = ("tableoid", "xmin", "cmin", "xmax", "cmax", "ctid")
_MOST_BYTES = 63


def _variable(value: str) -> str:
    # A connection string is not repeated: a password may stand in it.
    if not _ENVIRONMENT_NAME.fullmatch(value):
        raise ValueError(
            "must be the name of an environment variable, such as SALES_DB, which holds the connection string "
            "(never the string itself: a declaration is kept with the code)"
        )
    return value


def table_parts(table: str) -> tuple[str, str]:
    """Schema and name of a table written as `name` or `schema.name`, each in double quotes where it holds a dot.

    Raises ValueError where it is neither, or longer than Postgres's names are.
    """
    found = _TABLE.fullmatch(table)
    if found is None:
        raise ValueError(
            "must be a table as name or schema.name; a part that holds a dot or a quote goes in double quotes"
        )
    schema, name = (_unquoted(part) if part else "public" for part in found.groups())
    for part in (schema, name):
        if "\0" in part or len(part.encode()) > _MOST_BYTES:
            raise ValueError(
                f"names something of more than {_MOST_BYTES} bytes, which Postgres cuts off"
            )
    return schema, name


def _table(value: str) -> str:
    table_parts(value)
    return value


Variable = Annotated[str, AfterValidator(_variable)]
"""The name of an environment variable that holds a connection string."""
Table = Annotated[str, AfterValidator(_table)]
"""A table as `table_parts` takes it apart."""


def check_column(name: str) -> None:
    """Raises ValueError for what no column of a promoted table can be called."""
    if name in _SYSTEM_COLUMNS:
        raise ValueError(
            f"{name!r} is a column that every Postgres table has, so `promote.to: postgres` has no place for it; rename "
            "the field"
        )
    if "\0" in name or len(name.encode()) > _MOST_BYTES:
        raise ValueError(
            f"{name[:20] + '...'!r} is a name of more than {_MOST_BYTES} bytes, which Postgres cuts off; rename it"
        )


def _unquoted(part: str) -> str:
    return part[1:-1].replace('""', '"') if part.startswith('"') else part
