"""Reads YAML so that every part of it can be found again by its line, and nothing in it is lost silently."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from batch_pipeline.errors import ConfigurationError


@dataclass(frozen=True)
class Document:
    """One YAML document of a file, as plain Python values."""

    path: Path
    value: Any
    _node: yaml.Node

    def at(self, location: Sequence[str | int]) -> str:
        """`<path>, line <n>`: where `location`, or the deepest part of it that exists, begins."""
        return f"{self.path}, line {_line(self._node, location)}"


def read_documents(path: Path) -> list[Document]:
    """The documents of a file that are not empty.

    Raises ConfigurationError with the line: not YAML, not UTF-8, or a name given twice, of which plain
    YAML would keep the second.
    """
    try:
        loader = _Loader(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not UTF-8 text; save it as UTF-8.") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}.") from None
    except yaml.YAMLError as error:
        raise ConfigurationError(_sentence(path, error)) from None
    documents = []
    try:
        while loader.check_node():
            node = loader.get_node()
            value = None if node is None else loader.construct_document(node)
            if node is not None and value is not None:
                documents.append(Document(path, value, node))
    except yaml.YAMLError as error:
        raise ConfigurationError(_sentence(path, error)) from None
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path} holds a value that YAML cannot take: {error}.") from None
    finally:
        loader.dispose()
    return documents


class _Loader(yaml.SafeLoader):
    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen: dict[tuple[str, str], yaml.Mark] = {}
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue
            first = seen.setdefault((key.tag, key.value), key.start_mark)
            if first is not key.start_mark:
                raise yaml.constructor.ConstructorError(
                    problem=f"{key.value!r} is given twice, first in line {first.line + 1}; remove one",
                    problem_mark=key.start_mark,
                )
        return super().construct_mapping(node, deep=deep)


def _sentence(path: Path, error: yaml.YAMLError) -> str:
    mark, begun = getattr(error, "problem_mark", None), getattr(error, "context_mark", None)
    problem = (
        getattr(error, "problem", None) or getattr(error, "reason", None) or "it cannot be read"
    )
    if "unhashable" in problem:
        problem = "text that begins with a brace must be in quotes, such as '{{ column }}'"
    where = f"{path}, line {mark.line + 1}" if mark else str(path)
    if mark and begun and begun.line < mark.line:
        problem += f", in what begins in line {begun.line + 1}"
    stated = problem if "given twice" in problem else f"not valid YAML: {problem}"
    return f"{where}: {stated}."


def _line(node: yaml.Node, location: Sequence[str | int]) -> int:
    line = node.start_mark.line
    for part in location:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                if _name(key) == part:
                    line, node = key.start_mark.line, value
                    break
            else:
                break
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return int(line) + 1


def _name(key: yaml.Node) -> Any:
    # Unquoted yes, no, on, off and numbers are names too, though not text.
    return yaml.SafeLoader("").construct_object(key) if isinstance(key, yaml.ScalarNode) else None
