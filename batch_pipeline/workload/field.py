"""One field of an answer: what it may hold, and how the API and SQL are told so."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Literal

Kind = Literal["string", "integer", "number", "boolean", "array"]
Number = int | float

_DUCKDB_TYPES: dict[Kind, str] = {
    "string": "VARCHAR",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "boolean": "BOOLEAN",
}


@dataclass(frozen=True)
class Field:
    """One field of the answer, or the items of an array field (named `<field>.items`)."""

    name: str
    kind: Kind
    nullable: bool = False
    title: str | None = None
    description: str | None = None
    enum: tuple[str | Number, ...] | None = None
    const: str | None = None
    pattern: str | None = None
    min_length: int | None = None
    max_length: int | None = None
    minimum: Number | None = None
    maximum: Number | None = None
    exclusive_minimum: Number | None = None
    exclusive_maximum: Number | None = None
    multiple_of: Number | None = None
    items: Field | None = None
    min_items: int | None = None
    max_items: int | None = None
    unique_items: bool = False

    @property
    def allowed(self) -> tuple[str | Number, ...] | None:
        """The only values that count, from `enum` or `const`; None when any value may."""
        return self.enum if self.const is None else (self.const,)

    @cached_property
    def _labels(self) -> dict[str, str | None]:
        labels: dict[str, str | None] = {}
        for value in self.allowed or ():
            folded = _folded(str(value))
            labels[folded] = None if folded in labels else str(value)
        return labels

    def label(self, text: str) -> str | None:
        """The declared value that `text` stands for, or None.

        The API does not promise the capitalisation of an enum, so case and surrounding blanks may
        differ, unless several declared values differ in just that: then only an exact text counts.
        """
        if self.allowed is not None and text in self.allowed:
            return text
        return self._labels.get(_folded(text))

    def requirements(self) -> str:
        """What the API's schema language cannot say of this field, as sentences; may be empty."""
        sentences = [
            _range_sentence(self),
            None if self.multiple_of is None else f"A multiple of {self.multiple_of}.",
            _count_sentence("character", self.min_length, self.max_length, " long"),
            None if self.pattern is None else f"Matches the regular expression `{self.pattern}`.",
            _count_sentence("item", self._unsendable_min_items, self.max_items),
            "No item twice." if self.unique_items else None,
        ]
        return " ".join(sentence for sentence in sentences if sentence)

    @property
    def _unsendable_min_items(self) -> int | None:
        return self.min_items if self.min_items is not None and self.min_items > 1 else None

    @property
    def duckdb_type(self) -> str:
        """The SQL type in which a valid answer's field is stored."""
        if self.items is not None:
            return f"{self.items.duckdb_type}[]"
        return _DUCKDB_TYPES[self.kind]

    def api_schema(self) -> dict[str, Any]:
        """This field within the limits of the API's structured outputs (no bounds, no lengths)."""
        value: dict[str, Any] = {"type": self.kind}
        if self.enum is not None:
            value["enum"] = list(self.enum)
        if self.const is not None:
            value["const"] = self.const
        if self.items is not None:
            value["items"] = self.items.api_schema()
        if self.min_items in (0, 1):
            value["minItems"] = self.min_items
        schema: dict[str, Any] = {"anyOf": [value, {"type": "null"}]} if self.nullable else value
        if self.title is not None:
            schema["title"] = self.title
        description = " ".join(filter(None, (self.description, self.requirements())))
        if description:
            schema["description"] = description
        return schema

    def canonical(self) -> dict[str, Any]:
        """The declaration with every default left out, for the fingerprint."""
        stated = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.items is not None:
            stated["items"] = self.items.canonical()
        return {key: value for key, value in stated.items() if value not in (None, False)}


def _folded(text: str) -> str:
    return text.strip().lower()


def _range_sentence(field: Field) -> str | None:
    bounds = [
        f"{words} {bound}"
        for words, bound in (
            ("at least", field.minimum),
            ("greater than", field.exclusive_minimum),
            ("at most", field.maximum),
            ("less than", field.exclusive_maximum),
        )
        if bound is not None
    ]
    return _sentence(" and ".join(bounds))


def _count_sentence(thing: str, low: int | None, high: int | None, suffix: str = "") -> str | None:
    if low is not None and low == high:
        return f"Exactly {low} {thing}{'' if low == 1 else 's'}{suffix}."
    bounds = [
        f"{words} {bound} {thing}{'' if bound == 1 else 's'}{suffix}"
        for words, bound in (("at least", low), ("at most", high))
        if bound is not None
    ]
    return _sentence(" and ".join(bounds))


def _sentence(words: str) -> str | None:
    return f"{words[0].upper()}{words[1:]}." if words else None
