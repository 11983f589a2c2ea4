"""Which Postgres type each promoted column has, and how it travels there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.rows.query import quoted

# DuckDB's type to Postgres's. What Arrow's driver does not write as that type goes as text and is cast there.
_TYPES = {
    "BOOLEAN": "boolean",
    "TINYINT": "smallint",
    "UTINYINT": "smallint",
    "SMALLINT": "smallint",
    "USMALLINT": "integer",
    "INTEGER": "integer",
    "UINTEGER": "bigint",
    "BIGINT": "bigint",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "VARCHAR": "text",
    "DATE": "date",
}
_AS_TEXT = {
    "UBIGINT": "numeric(20,0)",
    "TIME": "time without time zone",
    "TIMESTAMP": "timestamp without time zone",
    "TIMESTAMP WITH TIME ZONE": "timestamp with time zone",
    "UUID": "uuid",
}
# What takes the same values, and tells the same ones apart.
_ALIKE = {"text": ("text", "character varying"), "bigint": ("bigint", "numeric")}
# U+0000, which Postgres's text cannot hold, becomes the character that stands for what cannot be shown.
_NO_NUL = "replace({}, chr(0), chr(65533))"


@dataclass(frozen=True)
class Column:
    """A promoted column.

    Attributes:
        name: its name.
        kind: its Postgres type, as `format_type` writes it.
        sent: an SQL expression of DuckDB's for what is sent.
        arrives: the type that is sent.
    """

    name: str
    kind: str
    sent: str
    arrives: str

    def fits(self, held: str) -> bool:
        return held in _ALIKE.get(self.kind, (self.kind,))


def columns_of(types: Mapping[str, str]) -> list[Column]:
    """Raises ConfigurationError for a type that Postgres has no equal of."""
    return [_column(name, kind) for name, kind in types.items()]


def _column(name: str, kind: str) -> Column:
    cell = quoted(name)
    if kind == "VARCHAR":
        return Column(name, "text", _NO_NUL.format(cell), "text")
    if kind == "VARCHAR[]":
        return Column(
            name, "text[]", f"list_transform({cell}, lambda _x: {_NO_NUL.format('_x')})", "text[]"
        )
    if kind.startswith("ENUM("):
        return Column(name, "text", _NO_NUL.format(f"CAST({cell} AS VARCHAR)"), "text")
    if found := _TYPES.get(kind.removesuffix("[]")):
        array = "[]" if kind.endswith("[]") else ""
        # Postgres has no unsigned types; the others DuckDB calls by nearly the same names.
        sent = "double" if found == "double precision" else found
        return Column(name, found + array, f"CAST({cell} AS {sent}{array})", found + array)
    decimal = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind)
    as_text = f"numeric({decimal[1]},{decimal[2]})" if decimal else _AS_TEXT.get(kind)
    if as_text is None:
        raise ConfigurationError(
            f"promote.to: postgres has no type for the column {name!r}, which is of type {kind.partition('(')[0]}; cast "
            "it to text in the source."
        )
    return Column(name, as_text, f"CAST({cell} AS VARCHAR)", "text")
