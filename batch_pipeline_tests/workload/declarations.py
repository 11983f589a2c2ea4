"""Hypothesis strategies for `output:` declarations and for values that meet them, or nearly."""

from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]

LETTERS = "abAB 1é😀"
words = st.text(LETTERS, max_size=6)
names = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,8}", fullmatch=True)
# Python's `re`, which jsonschema uses, and RE2 agree on these where there are no line breaks.
patterns = st.sampled_from(["a", "^a", "^[abAB]*$", "[0-9]", "^.{2}$", "b|é"])
steps = st.sampled_from([1, 2, 3, 0.5, 0.25])
whole = st.integers(-12, 12)
quarters = whole.map(lambda n: n / 4)
edges = st.sampled_from([2**53, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**30])


def _some(schema: Schema, optional: dict[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[Schema]:
    return st.fixed_dictionaries({}, optional=optional).map(lambda more: {**schema, **more})


def _ordered(low: str, high: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    """Neither, either or both bounds, the lower one below the upper."""
    pairs = st.tuples(values, values).filter(lambda pair: pair[0] < pair[1])
    both = pairs.map(lambda pair: {low: pair[0], high: pair[1]})
    return st.one_of(
        st.just({}), both, values.map(lambda v: {low: v}), values.map(lambda v: {high: v})
    )


def _merged(*parts: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.tuples(*parts).map(lambda found: {k: v for part in found for k, v in part.items()})


def _enum(kind: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    return st.lists(values, min_size=1, max_size=4, unique=True).map(
        lambda found: {"type": kind, "enum": found}
    )


def _numeric(kind: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    bounds = st.one_of(
        _ordered("minimum", "maximum", values),
        _ordered("exclusiveMinimum", "exclusiveMaximum", values.map(lambda v: 3 * v)),
    )
    step = steps if kind == "number" else st.sampled_from([1, 2, 3])
    return st.one_of(
        _enum(kind, values),
        _merged(st.just({"type": kind}), bounds, _some({}, {"multipleOf": step})),
    )


def _nullable(schema: Schema) -> Schema:
    if "const" in schema:
        return schema
    more = {"enum": [*schema["enum"], None]} if "enum" in schema else {}
    return {**schema, **more, "type": [schema["type"], "null"]}


lengths = st.integers(0, 5)
strings = st.one_of(
    _enum("string", words),
    words.map(lambda word: {"type": "string", "const": word}),
    _merged(
        st.just({"type": "string"}),
        _ordered("minLength", "maxLength", lengths),
        _some({}, {"pattern": patterns}),
    ),
)
plain_scalars = st.one_of(
    strings,
    _numeric("integer", whole),
    _numeric("number", quarters),
    st.just({"type": "boolean"}),
)
scalars = st.one_of(plain_scalars, plain_scalars.map(_nullable))
plain_arrays = _merged(
    scalars.map(lambda items: {"type": "array", "items": items}),
    _ordered("minItems", "maxItems", st.integers(0, 4)),
    _some({}, {"uniqueItems": st.booleans()}),
)
arrays = st.one_of(plain_arrays, plain_arrays.map(_nullable))
worded = st.fixed_dictionaries({}, optional={"title": words, "description": words})
fields = _merged(worded, st.one_of(scalars, arrays))


@st.composite
def declarations(draw: st.DrawFn) -> dict[str, Schema]:
    """An `output:` mapping of one to three fields that the contract supports."""
    found = draw(st.lists(names, min_size=1, max_size=3, unique_by=str.lower))
    return {name: draw(fields) for name in found}


scalar_values = st.one_of(words, whole, quarters, whole.map(float), edges, st.booleans(), st.none())
any_values = st.one_of(
    scalar_values,
    st.lists(scalar_values, max_size=4),
    st.dictionaries(words, scalar_values, max_size=2),
)


def _limits(schema: Schema, keyword: str) -> list[Any]:
    """The stated bounds whose keyword ends so: where `less` and `at most` differ."""
    return [bound for key, bound in schema.items() if key.endswith(keyword)]


def _of_length(n: int) -> st.SearchStrategy[str]:
    return st.text(LETTERS, min_size=n, max_size=n)


def _near(schema: Schema) -> st.SearchStrategy[Any]:
    """Values of the declared type that often, but not always, meet the rest of the declaration."""
    stated = schema["type"]
    kind = stated if isinstance(stated, str) else stated[0]
    allowed = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    choices: list[st.SearchStrategy[Any]] = []
    if allowed:
        choices.append(st.sampled_from(allowed))
        texts = [each for each in allowed if isinstance(each, str)]
        if texts:
            choices += [
                st.sampled_from(texts).map(str.upper),
                st.sampled_from(texts).map(lambda text: f" {text.lower()}\t"),
            ]
    match kind:
        case "string":
            choices += [words, *(_of_length(n) for n in _limits(schema, "Length"))]
        case "integer":
            choices += [whole, whole.map(float), *map(st.just, _limits(schema, "imum"))]
        case "number":
            choices += [whole, quarters, *map(st.just, _limits(schema, "imum"))]
        case "boolean":
            choices.append(st.booleans())
        case _:
            items = _near(schema["items"])
            choices.append(st.lists(items, max_size=5))
            choices += [st.lists(items, min_size=n, max_size=n) for n in _limits(schema, "Items")]
            choices.append(
                st.lists(items, min_size=1, max_size=2).map(lambda some: [*some, some[0]])
            )
    if kind != stated:
        choices.append(st.none())
    return st.one_of(choices)


def answers(declared: dict[str, Schema]) -> st.SearchStrategy[dict[str, Any]]:
    """Objects with the declared fields, of which about one in twelve has a value of any kind."""

    def value(schema: Schema) -> st.SearchStrategy[Any]:
        return st.integers(0, 11).flatmap(lambda n: any_values if n == 0 else _near(schema))

    return st.fixed_dictionaries({name: value(schema) for name, schema in declared.items()})
