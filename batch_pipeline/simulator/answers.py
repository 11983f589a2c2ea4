"""Answers: right ones from the answer key, made-up ones from the schema, and spoilt ones.

A text goes out as the model's only text block. With an output schema it is JSON that obeys the
schema, unless it is spoilt on purpose; without one it is the key's column `answer`, or all its answer
columns as JSON, or a sentence that says it is made up.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import orjson

from .draws import pick
from .scenario import RowFault
from .schema_language import resolve

BROKEN: tuple[RowFault, ...] = (
    "not_json",
    "wrong_type",
    "unknown_label",
    "out_of_range",
    "missing_field",
)
FAR_OUT = -1_000_000_007  # outside any range a person would ask for
_MADE_UP = "Made up by the simulator"
_LOW = re.compile(r"(?:minimum|at least|between|from)\W{1,3}(-?\d+)", re.IGNORECASE)
_FORMATS = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


class Shape:
    """An output schema, prepared for answering. The schema is one the API accepts."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._root = schema
        self._top = resolve(schema, schema)
        self._fields = {
            name: _plain(field, schema) for name, field in self._top.get("properties", {}).items()
        }

    def answer(self, known: dict[str, str] | None, draw: float) -> Any:
        """An answer that obeys the schema: `known` cells by property, the rest made up."""
        if known is None or not self._fields:
            return _made_up(self._top, self._root, draw)
        return {
            name: _converted(known[name], field)
            if name in known
            else _made_up(field, self._root, draw)
            for name, field in self._fields.items()
        }

    def wrong(self, answer: Any, draw: float) -> Any:
        """Still valid, and another one: every label and flag differs; without those, numbers and
        texts do.
        """
        if not isinstance(answer, dict):
            return answer
        changed = {
            name: _other(answer[name], choices, draw)
            for name, field in self._fields.items()
            if name in answer and len(choices := _choices(field)) > 1
        }
        if not changed:
            changed = {
                name: value + 1 if isinstance(value, int | float) else f"Not so: {value}"
                for name, value in answer.items()
                if isinstance(value, int | float | str) and "const" not in self._fields[name]
            }
        return {**answer, **changed}

    def spoilt(self, answer: Any, fault: RowFault, draw: float) -> str:
        """The text of an answer with an answer fault. One that the schema has no room for becomes
        text that is not JSON.
        """
        if fault == "wrong":
            return dump(self.wrong(answer, draw))
        change = self._change(answer, fault, draw) if isinstance(answer, dict) else None
        if change is None:
            return f"Here is my answer, in words instead of JSON. {_MADE_UP}."
        return dump(change)

    def _change(  # noqa: PLR0911 - one per fault
        self, answer: dict[str, Any], fault: RowFault, draw: float
    ) -> dict[str, Any] | None:
        """The answer with a fault, or None if there is no room for that one."""
        labels = self._labels(answer)
        match fault:
            case "missing_field" if answer:
                gone = list(answer)[pick(draw, len(answer))]
                return {name: value for name, value in answer.items() if name != gone}
            case "extra_field":
                return {**answer, "unasked_field": _MADE_UP}
            case "wrong_type" if answer:
                name = list(answer)[pick(draw, len(answer))]
                wrong = 12_345 if isinstance(answer[name], str) else [str(answer[name])]
                return {**answer, name: wrong}
            case "unknown_label" if labels:
                return {**answer, labels[pick(draw, len(labels))]: "no_such_label"}
            case "enum_case" if labels:
                return {**answer, **{name: answer[name].swapcase() for name in labels}}
            case "out_of_range" if numbers := self._numbers(answer):
                return {**answer, numbers[pick(draw, len(numbers))]: FAR_OUT}
        return None

    def _numbers(self, answer: dict[str, Any]) -> list[str]:
        return [
            name
            for name, value in answer.items()
            if type(value) in {int, float} and not _choices(self._fields[name])
        ]

    def _labels(self, answer: dict[str, Any]) -> list[str]:
        return [
            name
            for name, value in answer.items()
            if isinstance(value, str) and _choices(self._fields[name])
        ]


def plain_answer(known: dict[str, str] | None) -> str:
    """The text of a right answer when the request asks for no schema."""
    if known is None:
        return f"{_MADE_UP}: a plain answer."
    return known["answer"] if "answer" in known else dump(known)


def spoilt_plain(answer: str, fault: RowFault) -> str:
    return f"Not so ({fault}): {answer}"


def dump(value: Any) -> str:
    return orjson.dumps(value).decode()


def _plain(field: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """The field with references followed and a union reduced to its first branch that is not null,
    marked as nullable.
    """
    field = resolve(field, root)
    branches = field.get("anyOf")
    if branches:
        kept = [resolve(b, root) for b in branches]
        solid = [b for b in kept if b.get("type") != "null"]
        chosen = _plain((solid or kept)[0], root)
        return {**chosen, "nullable": len(solid) < len(kept) or chosen.get("nullable", False)}
    kind = field.get("type")
    if isinstance(kind, list):
        solid_kinds = [k for k in kind if k != "null"]
        return {**field, "type": (solid_kinds or ["null"])[0], "nullable": "null" in kind}
    return field


def _choices(field: dict[str, Any]) -> list[Any]:
    if "enum" in field:
        return [choice for choice in field["enum"] if choice is not None]
    return [True, False] if field.get("type") == "boolean" else []


def _other(value: Any, choices: list[Any], draw: float) -> Any:
    others = [choice for choice in choices if choice != value]
    return others[pick(draw, len(others))] if others else value


def _converted(cell: str, field: dict[str, Any]) -> Any:
    """A cell of the answer key as the schema's type; as it stands if it does not convert."""
    kind = field.get("type")
    if not cell and field.get("nullable"):
        return None
    for choice in field.get("enum", ()):
        if str(choice) == cell:
            return choice
    try:
        return _CONVERSIONS[kind](cell) if kind in _CONVERSIONS else cell
    except ValueError:
        return cell


_CONVERSIONS: dict[Any, Callable[[str], Any]] = {
    "integer": int,
    "number": float,
    "boolean": lambda cell: cell.strip().lower() in {"true", "1", "yes"},
    "array": orjson.loads,
    "object": orjson.loads,
}


def _made_up(field: dict[str, Any], root: dict[str, Any], draw: float) -> Any:  # noqa: PLR0911
    """A value that obeys the schema; the draw decides among labels."""
    field = _plain(field, root)
    if "const" in field:
        return field["const"]
    choices = _choices(field)
    if choices:
        return choices[pick(draw, len(choices))]
    if "properties" in field:
        return {n: _made_up(f, root, draw) for n, f in field["properties"].items()}
    match field.get("type"):
        case "object":
            return {}
        case "array":
            return [_made_up(field.get("items", {}), root, draw)]
        case "integer" | "number":
            # A range can only stand in the description: the schema language has no minimum.
            low = _LOW.search(str(field.get("description", "")))
            return int(low.group(1)) if low else 1
        case "null":
            return None
    return _FORMATS.get(str(field.get("format")), _MADE_UP)
