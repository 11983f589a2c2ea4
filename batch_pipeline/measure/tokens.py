"""How many tokens a text or an answer may have, where nobody counted them. A guess, and labelled as one."""

import re

from batch_pipeline.measure.estimate import MeanInterval
from batch_pipeline.workload.contract import Contract
from batch_pipeline.workload.field import Field

# UTF-8 bytes per token of the tokenizer up to Claude 4.6: English prose has 4 to 5, code and JSON 3, digits and
# scripts without blanks 2.
_BYTES_PER_TOKEN, _MOST_BYTES, _LEAST_BYTES = 3.5, 5.0, 2.0
# Anthropic's documentation on token counting: the tokenizer since Claude 4.7 makes about 30% more of a text.
NEWER_TOKENIZER = 1.3
# What a conversation adds around a text, and structured output around its schema.
_FRAME_TOKENS = 10.0

_VERSION = re.compile(r"-(\d+)(?:-(\d{1,2}))?(?:-\d{8})?$")
# An open text of an answer that declares no longest length, in characters.
_USUAL_TEXT = 200
_USUAL_ITEMS = 3
# What a model that thinks before it answers adds to a short answer: an assumption.
THINKING_TOKENS = 400


def version(model: str) -> tuple[int, int]:
    """(4, 7) for claude-opus-4-7; a name without a number counts as the newest."""
    found = _VERSION.search(model)
    return (int(found[1]), int(found[2] or 0)) if found else (99, 0)


def tokenizer_factor(model: str) -> float:
    """Tokens of a text in relation to those of models up to Claude 4.6."""
    return NEWER_TOKENIZER if version(model) >= (4, 7) else 1.0


def thinks_unasked(model: str) -> bool:
    """Whether a request without `thinking` is answered after some, which is charged as output: since Claude 5."""
    return version(model) >= (5, 0)


def guessed_tokens(size: int, model: str) -> MeanInterval:
    """Tokens of a text of so many UTF-8 bytes. The bounds hold for nearly any text; they are no interval."""
    factor = tokenizer_factor(model)
    return MeanInterval(
        *(factor * size / each for each in (_BYTES_PER_TOKEN, _MOST_BYTES, _LEAST_BYTES))
    )


def tokens_per_byte(model: str) -> MeanInterval:
    """Likewise of one byte of a long text."""
    return guessed_tokens(1, model)


def guessed_input(mean: MeanInterval, schema_bytes: int, model: str) -> MeanInterval:
    """Input tokens of a request whose texts have so many bytes on average, with the answer's schema."""
    frame = _FRAME_TOKENS + guessed_tokens(schema_bytes, model).mean
    factor = tokenizer_factor(model)
    return MeanInterval(
        factor * mean.mean / _BYTES_PER_TOKEN + frame,
        factor * mean.low / _MOST_BYTES,
        factor * mean.high / _LEAST_BYTES + 4 * frame,
    )


def guessed_output(
    contract: Contract, model: str, max_tokens: int, *, thinks: bool
) -> MeanInterval:
    """Output tokens of an answer: the JSON that the contract asks for, and thinking; at most `max_tokens`."""
    size = 2 + sum(len(field.name) + 6 + _characters(field) for field in contract.fields)
    tokens = tokenizer_factor(model) * size / _BYTES_PER_TOKEN
    typical = min(tokens + (THINKING_TOKENS if thinks else 0), float(max_tokens))
    return MeanInterval(typical, min(tokens / 2, typical), float(max_tokens))


def _characters(field: Field) -> float:
    if field.allowed:
        lengths = [len(str(value)) for value in field.allowed]
        return sum(lengths) / len(lengths) + 2
    if field.items is not None:
        items = _USUAL_ITEMS if field.max_items is None else min(field.max_items, _USUAL_ITEMS)
        return items * (_characters(field.items) + 2) + 2
    if field.kind == "string":
        return min(field.max_length or _USUAL_TEXT, _USUAL_TEXT) + 2
    return 5
