"""What the API's schema language lacks: the reasons for which it refuses an output schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_LACKING = {
    "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "minLength",
    "maxLength", "maxItems", "uniqueItems", "contains", "prefixItems", "minProperties",
    "maxProperties", "patternProperties", "propertyNames", "unevaluatedProperties",
    "dependentRequired", "dependentSchemas", "not", "if", "then", "else", "oneOf",
}  # fmt: skip
MAX_OPTIONAL = 24
MAX_UNIONS = 16


def objection(schema: dict[str, Any], where: str) -> str | None:
    """Why the API refuses this schema, in its way of saying it, or None. `where` leads the message."""
    for node in _nodes(schema):
        reason = _node_objection(node)
        if reason is not None:
            return f"{where}: {reason}"
    reason = _reference_objection(schema)
    if reason is not None:
        return f"{where}: {reason}"
    optional = unions = 0
    for node in _nodes(schema):
        properties = node.get("properties")
        if isinstance(properties, dict):
            optional += len(properties.keys() - set(node.get("required") or ()))
        unions += "anyOf" in node or isinstance(node.get("type"), list)
    if optional > MAX_OPTIONAL:
        return (
            f"{where}: Schema contains too many optional parameters ({optional}). "
            f"Reduce them to at most {MAX_OPTIONAL}."
        )
    if unions > MAX_UNIONS:
        return (
            f"{where}: Schema contains too many parameters with union types ({unions}). "
            f"Reduce them to at most {MAX_UNIONS}."
        )
    return None


def resolve(schema: dict[str, Any], root: dict[str, Any]) -> dict[str, Any]:
    """Follow a local $ref (of a schema that `objection` lets pass) to what it names."""
    while isinstance(schema.get("$ref"), str):
        target = _target(schema["$ref"], root)
        if target is None:
            return {}
        schema = target
    return schema


def _nodes(node: object) -> Iterator[dict[str, Any]]:
    """Every subschema, definitions included."""
    if not isinstance(node, dict):
        return
    yield node
    for group in ("properties", "$defs", "definitions"):
        children = node.get(group)
        if isinstance(children, dict):
            for child in children.values():
                yield from _nodes(child)
    for group in ("anyOf", "allOf"):
        children = node.get(group)
        if isinstance(children, list):
            for child in children:
                yield from _nodes(child)
    yield from _nodes(node.get("items"))


def _node_objection(node: dict[str, Any]) -> str | None:
    kind = node.get("type")
    lacking = sorted(_LACKING & node.keys())
    if lacking:
        named = (
            f"property '{lacking[0]}' is"
            if len(lacking) == 1
            else ("properties " + ", ".join(f"'{k}'" for k in lacking) + " are")
        )
        return f"For '{kind if isinstance(kind, str) else 'any'}' type, {named} not supported"
    if node.get("minItems", 0) not in (0, 1):
        return "For 'array' type, 'minItems' values other than 0 or 1 are not supported"
    is_object = kind == "object" or "properties" in node
    if is_object and node.get("additionalProperties") is not False:
        return "For 'object' type, 'additionalProperties' must be explicitly set to false"
    required = node.get("required", [])
    properties = node.get("properties") or {}
    if is_object and not set(required) <= set(properties):
        return "'required' names a property that 'properties' lacks"
    return None


def _target(ref: str, root: dict[str, Any]) -> dict[str, Any] | None:
    if ref == "#":
        return root
    if not ref.startswith("#/"):
        return None
    node: Any = root
    for part in ref[2:].split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        node = node.get(key) if isinstance(node, dict) else None
    return node if isinstance(node, dict) else None


def _reference_objection(root: dict[str, Any]) -> str | None:
    """External and dangling references, and recursion, which is a reference cycle."""
    done: set[int] = set()

    def visit(node: dict[str, Any], path: frozenset[int]) -> str | None:
        if id(node) in path:
            return "Recursive schemas are not supported"
        if id(node) in done:
            return None
        children = _parts(node)
        ref = node.get("$ref")
        if isinstance(ref, str):
            target = _target(ref, root)
            if target is None:
                external = not ref.startswith("#")
                return f"{'External' if external else 'Dangling'} $ref is not supported"
            children.append(target)
        reasons = (visit(child, path | {id(node)}) for child in children)
        reason = next((r for r in reasons if r is not None), None)
        done.add(id(node))
        return reason

    return visit(root, frozenset())


def _parts(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The subschemas that an answer to this one is made of; definitions only count when used."""
    properties = node.get("properties")
    parts = [*properties.values()] if isinstance(properties, dict) else []
    for group in ("anyOf", "allOf"):
        if isinstance(node.get(group), list):
            parts += node[group]
    parts.append(node.get("items"))
    return [part for part in parts if isinstance(part, dict)]
