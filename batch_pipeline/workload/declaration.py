"""Reads a field's JSON Schema as a user wrote it, and says in one sentence what is wrong with it."""

import math
import re
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.workload.field import Field, Kind, Number

# DuckDB's BIGINT and pandas' Int64, in which an integer field is kept.
INTEGER_RANGE = (-(2**63), 2**63 - 1)
# Of characters and items: more than any answer can hold.
MAX_COUNT = 1_000_000_000

_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
_KEYWORDS: dict[Kind, tuple[str, ...]] = {
    "string": ("enum", "const", "pattern", "minLength", "maxLength"),
    "integer": (*_BOUNDS, "enum"),
    "number": (*_BOUNDS, "enum"),
    "boolean": (),
    "array": ("items", "minItems", "maxItems", "uniqueItems"),
}
_SUPPORTED_TYPES = (
    'string, integer, number, boolean, array of these, and [one of these, "null"]'
    " for a field that may be null"
)
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")


def read_field(name: object, schema: object) -> Field:
    """The field that `name` and its JSON Schema declare. Raises ConfigurationError."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"output.{name}: a field's name begins with a letter and holds at most 64 letters,"
            " digits and underscores (quote names such as yes, no, on, off in YAML)."
        )
    return _field(name, schema)


def _field(name: str, schema: object) -> Field:
    declaration = _Declaration(name, schema)
    declaration.refuse_unknown(None)
    kind, nullable = declaration.type()
    declaration.refuse_unknown(kind)
    field = Field(
        name=name,
        kind=kind,
        nullable=nullable,
        title=declaration.text("title"),
        description=declaration.text("description"),
        enum=declaration.enum(kind, nullable=nullable),
        const=declaration.const(nullable=nullable),
        pattern=declaration.pattern(),
        min_length=declaration.count("minLength"),
        max_length=declaration.count("maxLength"),
        minimum=declaration.bound("minimum", kind),
        maximum=declaration.bound("maximum", kind),
        exclusive_minimum=declaration.bound("exclusiveMinimum", kind),
        exclusive_maximum=declaration.bound("exclusiveMaximum", kind),
        multiple_of=declaration.multiple_of(kind),
        items=declaration.items(kind),
        min_items=declaration.count("minItems"),
        max_items=declaration.count("maxItems"),
        unique_items=declaration.flag("uniqueItems"),
    )
    _refuse_the_impossible(field)
    return field


class _Declaration:
    """One field's JSON Schema as it was written, with its name for the sentences of errors."""

    def __init__(self, name: str, schema: object) -> None:
        self.name = name
        if not isinstance(schema, Mapping):
            raise self.error(None, "is not a JSON Schema; write for example `{type: string}`")
        self.schema: Mapping[str, Any] = schema

    def error(self, keyword: str | None, problem: str) -> ConfigurationError:
        where = f"output.{self.name}" if keyword is None else f"output.{self.name}.{keyword}"
        return ConfigurationError(f"{where}: {problem}.")

    def type(self) -> tuple[Kind, bool]:
        stated = self.schema.get("type")
        names = [stated] if isinstance(stated, str) else stated
        if not isinstance(names, Sequence) or not all(isinstance(each, str) for each in names):
            raise self.error("type", f"is missing or not a name; supported: {_SUPPORTED_TYPES}")
        kinds = [each for each in names if each != "null"]
        if len(kinds) != 1 or kinds[0] not in _KEYWORDS or len(set(names)) != len(names):
            said = ", ".join(names)
            raise self.error("type", f"{said} is not supported; supported: {_SUPPORTED_TYPES}")
        if self.name.endswith(".items") and kinds[0] == "array":
            raise self.error("type", "an array of arrays is not supported; use an array of scalars")
        return kinds[0], "null" in names

    def refuse_unknown(self, kind: Kind | None) -> None:
        """Refuses keywords that a field of this kind, or of any, cannot have."""
        kinds = tuple(_KEYWORDS) if kind is None else (kind,)
        supported = ["type", "title", "description"]
        supported += dict.fromkeys(keyword for each in kinds for keyword in _KEYWORDS[each])
        for keyword in self.schema:
            if keyword not in supported:
                of_type = "" if kind is None else f" for a field of type {kind}"
                raise ConfigurationError(
                    f"output.{self.name}: keyword {keyword} is not supported{of_type};"
                    f" supported: {', '.join(supported)}."
                )

    def text(self, keyword: str) -> str | None:
        value = self.schema.get(keyword)
        if keyword in self.schema and not isinstance(value, str):
            raise self.error(keyword, "must be text (quote it)")
        return value

    def flag(self, keyword: str) -> bool:
        value = self.schema.get(keyword, False)
        if not isinstance(value, bool):
            raise self.error(keyword, "must be true or false")
        return value

    def count(self, keyword: str) -> int | None:
        if keyword not in self.schema:
            return None
        value = _plain(self.schema[keyword])
        if not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
            raise self.error(keyword, f"must be a whole number from 0 to {MAX_COUNT:,}")
        return value

    def bound(self, keyword: str, kind: Kind) -> Number | None:
        if keyword not in self.schema:
            return None
        value = self.schema[keyword]
        if not _is_value(value, kind):
            wanted = "a whole number within 64 bits" if kind == "integer" else "a finite number"
            raise self.error(keyword, f"must be {wanted} (unquoted; write 100000, not 1e5)")
        bound: Number = _plain(value)
        return bound

    def multiple_of(self, kind: Kind) -> Number | None:
        value = self.bound("multipleOf", kind)
        if value is not None and value <= 0:
            raise self.error("multipleOf", "must be greater than 0")
        return value

    def enum(self, kind: Kind, *, nullable: bool) -> tuple[str | Number, ...] | None:
        if "enum" not in self.schema:
            return None
        values = self.schema["enum"]
        if isinstance(values, str) or not isinstance(values, Sequence) or not values:
            raise self.error("enum", "must be a list of at least one value")
        if (None in values) != nullable:
            raise self.error(
                "enum",
                'lists null but the type does not; write `type: [string, "null"]`'
                if None in values
                else "leaves out null, which the type allows; add null to the list",
            )
        stated = [value for value in values if value is not None]
        if not stated:
            raise self.error("enum", "must list a value besides null")
        for value in stated:
            if not _is_value(value, kind):
                raise self.error(
                    "enum",
                    f"{value!r} is not of type {kind}"
                    " (in YAML, quote text such as yes, no, on, off, 1.0)",
                )
        plain = [_plain(value) for value in stated]
        if len(set(plain)) != len(plain):
            raise self.error("enum", "lists a value twice")
        return tuple(plain)

    def const(self, *, nullable: bool) -> str | None:
        if nullable and "const" in self.schema:
            raise self.error("const", "leaves no room for null, which the type allows; use an enum")
        return self.text("const")

    def pattern(self) -> str | None:
        pattern = self.text("pattern")
        if pattern is not None:
            # Slow to import, and needed only here.
            arrow = import_module("pyarrow")
            compute = import_module("pyarrow.compute")
            # A null, since making an array of values imports pandas where it is installed.
            # RE2 will meet the hostile text: it takes linear time, and has no lookaround for that.
            try:
                compute.match_substring_regex(arrow.nulls(1, arrow.string()), pattern=pattern)
            except arrow.ArrowInvalid:
                raise self.error(
                    "pattern",
                    f"{pattern!r} is not a regular expression that RE2 can read"
                    " (it has no lookaround and no backreferences)",
                ) from None
        return pattern

    def items(self, kind: Kind) -> Field | None:
        if kind != "array":
            return None
        if "items" not in self.schema:
            raise self.error("items", "is missing; say what the array holds: {type: string}")
        return _field(f"{self.name}.items", self.schema["items"])


_SUPPORTED_TYPES = (
    'string, integer, number, boolean, array of these, and [one of these, "null"]'
    " for a field that may be null"
)


def _is_value(value: object, kind: Kind) -> bool:
    """Whether JSON Schema would call the value one of this type, and we could store it."""
    if kind == "string":
        return isinstance(value, str)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    if isinstance(value, float) and (kind == "number" or not value.is_integer()):
        return kind == "number" and math.isfinite(value)
    return INTEGER_RANGE[0] <= value <= INTEGER_RANGE[1]


def _plain(value: Any) -> Any:
    """JSON Schema makes no difference between 3.0 and 3; True is not a number."""
    if isinstance(value, bool):
        return None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _refuse_the_impossible(field: Field) -> None:
    for low, high, low_name, high_name in (
        (field.min_length, field.max_length, "minLength", "maxLength"),
        (field.min_items, field.max_items, "minItems", "maxItems"),
        (field.minimum, field.maximum, "minimum", "maximum"),
    ):
        if low is not None and high is not None and low > high:
            raise ConfigurationError(
                f"output.{field.name}: {low_name} {low} is more than {high_name} {high};"
                " no answer could be valid."
            )
    lows = [each for each in (field.minimum, field.exclusive_minimum) if each is not None]
    highs = [each for each in (field.maximum, field.exclusive_maximum) if each is not None]
    if lows and highs:
        low, high = max(lows), min(highs)
        excluded = low == field.exclusive_minimum or high == field.exclusive_maximum
        if low > high or (low == high and excluded):
            raise ConfigurationError(
                f"output.{field.name}: no number lies between its lower bound {low} and its"
                f" upper bound {high}; no answer could be valid."
            )
