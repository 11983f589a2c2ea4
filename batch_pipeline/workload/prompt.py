"""The prompt of a workload: a system text and a user message, both Jinja templates over a row's columns.

A system text without braces of Jinja's is sent as it stands. A template names a column as `{{ subject }}`, or as `{{ row['my column'] }}` where Jinja cannot take its name.
It is compiled once. One that is nothing but text and columns is recognised and joined directly, which is
several times faster over millions of rows.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, TemplateError, meta, nodes
from jinja2.exceptions import SecurityError
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.workload.spec import PromptSpec

_FILE_ENDINGS = (".md", ".txt", ".j2", ".jinja")

# The name under which a template finds every column; also the name of a column where one is called so.
_ROW = "row"

# What `*` and `**` may make of a number that a hostile row holds.
_MOST_REPEATED = 1_000_000
_MOST_BITS = 10_000


class _Sandbox(ImmutableSandboxedEnvironment):
    """Reaches no Python object's inside, and makes no row fill the memory by multiplication."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, int) and hasattr(other, "__len__"):
                    _bounded(one * len(other), _MOST_REPEATED)
        elif isinstance(left, int) and isinstance(right, int):
            _bounded(left.bit_length() * right, _MOST_BITS)
        return super().call_binop(context, operator, left, right)


def _bounded(size: int, most: int) -> None:
    if size > most:
        raise SecurityError(f"a product in the template is larger than {most:,}")


# A user's template is code that meets hostile row text: sandboxed, and an unknown name is an error, never
# an empty string. Null becomes empty text rather than the word None.
_ENVIRONMENT = _Sandbox(
    undefined=StrictUndefined,
    autoescape=False,
    keep_trailing_newline=False,
    finalize=lambda value: "" if value is None else value,
)
# A template sees the row and nothing else: `{{ range }}` is a column, not a Python object.
_ENVIRONMENT.globals.clear()
# A row's prompt is rendered more than once, and must be the same each time.
del _ENVIRONMENT.filters["random"]


# What makes a system text a template; and what to do with one that only looks like it.
_MARKS = ("{{", "{%", "{#")
_LITERAL = "; put {% raw %} and {% endraw %} around braces that are meant to be sent"


def literal_text(text: str) -> str:
    """`text` as a template that says just that."""
    return re.sub(r"\{[{%#]", lambda mark: "{{ '" + mark.group() + "' }}", text)


Render = Callable[[Mapping[str, Any]], str]


@dataclass(frozen=True)
class Prompt:
    """The templates' sources; `system` is None for none. `cache` is as declared."""

    system: str | None
    user: str
    cache: str

    @classmethod
    def load(cls, spec: PromptSpec, folder: Path) -> "Prompt":
        """Raises ConfigurationError for a missing or empty file, or a template that cannot be used."""
        prompt = cls(
            system=None if spec.system is None else _text(spec.system, folder, "prompt.system"),
            user=_text(spec.user, folder, "prompt.user"),
            cache=spec.cache,
        )
        if prompt.system is not None and not prompt.system.strip():
            raise ConfigurationError("prompt.system is empty; write it, or remove the field.")
        for field, source in (("prompt.system", prompt.system or ""), ("prompt.user", prompt.user)):
            try:
                _ENVIRONMENT.from_string(source)
            except TemplateError as error:
                line = getattr(error, "lineno", None)
                raise ConfigurationError(
                    f"{field} is not a valid Jinja template: {f'line {line}: ' if line else ''}"
                    f"{(error.message or '').rstrip('.')}{_LITERAL if field == 'prompt.system' else ''}."
                ) from None
        if not _columns(prompt.user, "prompt.user"):
            raise ConfigurationError(
                "prompt.user names no column, so every row would ask the same; "
                "write {{ column }} where the row's text goes."
            )
        return prompt

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """The row columns that the prompt reads, sorted. Raises ConfigurationError if none can tell."""
        return tuple(sorted({*_columns(self.user, "prompt.user"), *self.system_columns}))

    @cached_property
    def system_columns(self) -> tuple[str, ...]:
        """Those that the system text reads; none of it can be shared by rows where one of them differs."""
        return _columns(self.system or "", "prompt.system")

    def names(self, column: str) -> str:
        """The beginning of a sentence about a column that the prompt reads: which part of it does."""
        return f"prompt.{'system' if column in self.system_columns else 'user'} names"

    def hint(self, column: str) -> str:
        """What else may be meant by a column that the source does not have."""
        return _LITERAL if column in self.system_columns else ""

    @cached_property
    def parts(self) -> Sequence[tuple[str, str | None]] | None:
        """The user message as texts, (text, None), and columns, ("", column); None where it is more than that."""
        return _slots(self.user)

    @cached_property
    def render(self) -> Render:
        """The user message of a row. Raises jinja2.TemplateError, TypeError or ValueError at one it cannot take."""
        return _renderer(self.user)

    @cached_property
    def render_system(self) -> Render | None:
        """Likewise the system text; None where there is none."""
        if self.system is None:
            return None
        source = self.system
        if not any(mark in source for mark in _MARKS):
            return lambda _: source
        return _renderer(source)

    def render_in_two(self, head_parts: int) -> Callable[[Mapping[str, Any]], tuple[str, str]]:
        """The user message as its first `head_parts` parts and the rest. They are those of `parts`."""
        assert self.parts is not None
        head, rest = _joined(self.parts[:head_parts]), _joined(self.parts[head_parts:])
        return lambda row: (head(row), rest(row))


def _renderer(source: str) -> Render:
    parts = _slots(source)
    if parts is not None:
        return _joined(parts)
    template = _ENVIRONMENT.from_string(source)
    if _uses_row(_ENVIRONMENT.parse(source)):
        return lambda row: template.render({**row, _ROW: _Row(row)})
    return template.render


def _joined(parts: Sequence[tuple[str, str | None]]) -> Render:
    return lambda row: "".join(
        part if column is None else _as_text(row[column]) for part, column in parts
    )


class _Row:
    """The columns of a row by name, and nothing more: no method hides a column called `items`."""

    __slots__ = ("_columns",)

    def __init__(self, columns: Mapping[str, Any]) -> None:
        self._columns = columns

    def __getitem__(self, name: str) -> Any:
        return self._columns[name]


def _text(value: str, folder: Path, field: str) -> str:
    if not value.endswith(_FILE_ENDINGS) or "\n" in value or "{{" in value:
        return value
    path = folder / value
    try:
        return path.read_text(encoding="utf-8-sig").strip()
    except FileNotFoundError:
        raise ConfigurationError(
            f"{field} names {value}, but {path} does not exist; create it or mend the name."
        ) from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{field} names {path}, which is not UTF-8 text.") from None
    except OSError as error:
        raise ConfigurationError(
            f"{field} names {path}, which cannot be read: {error.strerror}."
        ) from None


def _as_text(value: Any) -> str:
    return "" if value is None else str(value)


def _columns(source: str, field: str) -> tuple[str, ...]:
    template = _ENVIRONMENT.parse(source)
    for node in template.find_all((nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)):
        raise ConfigurationError(
            f"{field}, line {node.lineno}: a template cannot use another one; copy its text in."
        )
    named = set(meta.find_undeclared_variables(template))
    if any(node.name == "self" for node in template.find_all(nodes.Name)):
        raise ConfigurationError(
            f"{field} uses `self`, which Jinja keeps for itself; write row['self'] for a column of that name."
        )
    if _uses_row(template):
        named.discard(_ROW)
        of_row = _row_subscripts(template)
        named |= {_column_of(subscript, field) for subscript in of_row}
        if sum(map(_is_row, template.find_all(nodes.Name))) > len(of_row):
            raise ConfigurationError(
                f"{field} uses `row` both by itself and as row['column']; write row['row'] for a "
                "column of that name."
            )
    return tuple(sorted(named))


def _uses_row(template: nodes.Template) -> bool:
    """Whether `row` stands for the whole row: it is subscripted, and no name of the template's own."""
    if any(node.name == _ROW and node.ctx != "load" for node in template.find_all(nodes.Name)):
        return False
    return bool(_row_subscripts(template))


def _row_subscripts(template: nodes.Template) -> list[nodes.Getitem | nodes.Getattr]:
    every: list[nodes.Getitem | nodes.Getattr] = list(template.find_all(nodes.Getitem))
    every += template.find_all(nodes.Getattr)
    return [subscript for subscript in every if _is_row(subscript.node)]


def _is_row(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == _ROW


def _column_of(node: nodes.Getitem | nodes.Getattr, field: str = "prompt.user") -> str:
    if isinstance(node, nodes.Getattr):
        return node.attr
    if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
        return node.arg.value
    raise ConfigurationError(
        f"{field}, line {node.lineno}: write a column's name in row[...], such as row['my column'], so "
        "that it is known which columns are read."
    )


def _slots(source: str) -> Sequence[tuple[str, str | None]] | None:
    """The template as (text, None) and ("", column) parts, or None where it is more than that."""
    parts: list[tuple[str, str | None]] = []
    for node in _ENVIRONMENT.parse(source).body:
        if not isinstance(node, nodes.Output):
            return None
        for child in node.nodes:
            if isinstance(child, nodes.TemplateData):
                parts.append((child.data, None))
            elif isinstance(child, nodes.Name):
                parts.append(("", child.name))
            elif isinstance(child, nodes.Getitem | nodes.Getattr) and _is_row(child.node):
                parts.append(("", _column_of(child)))
            else:
                return None
    return parts
