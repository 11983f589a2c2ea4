"""What becomes of one request: a message, an error, or neither; decided by scenario, key and draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import orjson

from .answer_key import AnswerKey, KeyRow
from .answers import BROKEN, Shape, dump, plain_answer, spoilt_plain
from .draws import digest, draws, pick
from .models import Model
from .prompt import last_user_text, output_schema
from .scenario import ROW_FAULTS, RowFault, Scenario
from .usage import PromptCache, tokens_of
from .validation import RefusedError, Validator

THINKING_TOKENS = 32  # of a model that thinks; a token count, not a simulation of thought

_ERRORS: dict[RowFault, tuple[str, str]] = {
    "server_error": ("api_error", "Internal server error"),
    "overloaded": ("overloaded_error", "Overloaded"),
    "rate_limit": ("rate_limit_error", "This request would exceed your rate limit"),
    "invalid_request": ("invalid_request_error", "messages: this request cannot be processed"),
}
_OF_ANSWER: frozenset[RowFault] = frozenset(ROW_FAULTS[: ROW_FAULTS.index("server_error")])
_OF_BATCHES: frozenset[RowFault] = frozenset(ROW_FAULTS[ROW_FAULTS.index("expired") :])
_OF_LINE: frozenset[RowFault] = frozenset({"absent", "duplicate", "unparseable", "foreign"})
_MAX_SHAPES = 1_000


@dataclass(frozen=True, slots=True)
class Call:
    """What a request's headers say, and when and where it runs."""

    version: str
    betas: frozenset[str]
    now: float  # Unix time
    sequence: int  # of the batch, from 1; of the call, for single messages
    tier: Literal["batch", "standard"] = "batch"


@dataclass(slots=True)
class Outcome:
    """The result of one request. `line` is a fault of the results file, if any."""

    type: Literal["succeeded", "errored", "canceled", "expired"]
    message: dict[str, Any] | None = None
    error: tuple[str, str] | None = None  # type and message
    billed: bool = False
    keyed: bool = False  # answered from the answer key
    line: RowFault | None = None


class Responder:
    """Answers requests, one at a time."""

    def __init__(self, scenario: Scenario, key: AnswerKey | None) -> None:
        self._scenario = scenario
        self._key = key
        self._cache = PromptCache(scenario.cache_hit_rate, scenario.cache_first_writes)
        self._validator = Validator()
        self._shapes: dict[bytes, Shape] = {}
        self._rates: dict[str, _Rates] = {}

    @property
    def validator(self) -> Validator:
        return self._validator

    def count_tokens(self, params: dict[str, Any]) -> int:
        return self._cache.count(params)

    def respond(
        self, params: dict[str, Any], call: Call, message_id: str, scripted: RowFault | None = None
    ) -> Outcome:
        """The outcome of one request. Params need not be valid.

        Args:
            params: of the request, decoded.
            call: its circumstances.
            message_id: id of the message, should there be one.
            scripted: a fault that a rule of the scenario demands.
        """
        try:
            model = self._validator.check(params, version=call.version, betas=call.betas)
        except RefusedError as refusal:
            return Outcome("errored", error=(refusal.error_type, str(refusal)))
        text = last_user_text(params)
        row = self._key.find(text) if self._key is not None else None
        numbers, fault = self._fault(params["model"], model, text, row, call, scripted)
        if fault in _ERRORS:
            return Outcome("errored", error=_ERRORS[fault])
        if fault == "expired":
            return Outcome("expired")
        if fault == "canceled":
            return Outcome("canceled")
        spent = self._cache.charge(params, model, call.now, numbers[2])
        if spent.total > model.context:
            reason = f"prompt is too long: {spent.total} tokens > {model.context} maximum"
            return Outcome("errored", error=("invalid_request_error", reason))
        thinking = THINKING_TOKENS if _thinks(params, model) else 0
        answer = self._answer(params, row, fault, numbers[3])
        content, stop, output = _delivered(answer, fault, params["max_tokens"], thinking)
        message = {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": model.id,
            "content": content,
            "stop_reason": stop,
            "stop_sequence": None,
            "stop_details": {"type": "refusal", "category": None, "explanation": None}
            if stop == "refusal"
            else None,
            "usage": spent.usage(
                output, thinking if content else 0, call.tier, params.get("inference_geo")
            ),
        }
        line = fault if fault in _OF_LINE else None
        billed = fault not in {"refusal", "absent", "unparseable"}
        return Outcome("succeeded", message, billed=billed, keyed=row is not None, line=line)

    def _fault(
        self,
        name: str,
        model: Model,
        text: str,
        row: KeyRow | None,
        call: Call,
        scripted: RowFault | None,
    ) -> tuple[tuple[float, ...], RowFault | None]:
        """The request's draws (2 and 3 are free for use) and the fault, if any, that befalls it."""
        seed, about = self._scenario.seed, digest(text)
        fresh = draws(seed, call.sequence, name, about)
        numbers = fresh
        if fresh[7] >= self._scenario.redraw:
            numbers = draws(seed, name, about)
        fault = scripted
        if fault is None and row is not None and row.fault_model in {"", name, model.id}:
            fault = row.fault
        if fault is None:
            rates = self._rates.get(name)
            if rates is None:
                rates = self._rates[name] = _Rates(self._scenario.rates(name, model.id))
            difficulty = 2 * row.difficulty if row is not None else 1.0
            fault = rates.drawn(numbers[0], fresh[1], difficulty)
        if fault in _OF_BATCHES and call.tier != "batch":
            fault = None
        if fault == "broken":
            fault = BROKEN[pick(numbers[4], len(BROKEN))]
        return (*fresh[:3], *numbers[3:]), fault

    def _answer(
        self, params: dict[str, Any], row: KeyRow | None, fault: RowFault | None, draw: float
    ) -> str:
        known = self._key.answer(row) if self._key is not None and row is not None else None
        spoil = fault in _OF_ANSWER and fault not in _STOPS
        schema = output_schema(params)
        if schema is None:
            plain = plain_answer(known)
            return spoilt_plain(plain, fault) if spoil and fault else plain
        shape = self._shape(schema)
        answer = shape.answer(known, draw)
        return shape.spoilt(answer, fault, draw) if spoil and fault else dump(answer)

    def _shape(self, schema: dict[str, Any]) -> Shape:
        key = orjson.dumps(schema)
        shape = self._shapes.get(key)
        if shape is None:
            if len(self._shapes) > _MAX_SHAPES:
                self._shapes.clear()
            shape = self._shapes[key] = Shape(schema)
        return shape


_STOPS: dict[RowFault, str] = {
    "refusal": "refusal",
    "refusal_midway": "refusal",
    "truncated": "max_tokens",
    "context_exceeded": "model_context_window_exceeded",
    "pause_turn": "pause_turn",
}


class _Rates:
    """One model's rates, faults of the service apart from those of the answer."""

    def __init__(self, rates: dict[RowFault, float]) -> None:
        self._service = [(f, r) for f, r in rates.items() if f not in _OF_ANSWER]
        self._answer = [(f, r) for f, r in rates.items() if f in _OF_ANSWER]

    def drawn(self, of_answer: float, of_service: float, difficulty: float) -> RowFault | None:
        """The fault that the draws land on. Those of the service come first."""
        passed = 0.0
        for fault, rate in self._service:
            passed += rate
            if of_service < passed:
                return fault
        passed = 0.0
        for fault, rate in self._answer:
            passed += rate * difficulty if fault in {"wrong", "broken"} else rate
            if of_answer < passed:
                return fault
        return None


def _thinks(params: dict[str, Any], model: Model) -> bool:
    """Whether thinking is on: as asked, else by default from the fifth generation on."""
    asked = params.get("thinking")
    if asked is not None:
        return asked["type"] in {"enabled", "adaptive"}
    return "-4-" not in model.id


def _delivered(
    text: str, fault: RowFault | None, max_tokens: int, thinking: int
) -> tuple[list[dict[str, Any]], str, int]:
    """Content, stop reason and output tokens of an answer, cut where it has to stop."""
    if fault == "refusal":
        return [], "refusal", 1
    stop = _STOPS.get(fault, "end_turn") if fault else "end_turn"
    if fault in _STOPS:
        text = text[: max(1, len(text) // 2)]
    output = thinking + max(1, tokens_of(len(text)))
    if output > max_tokens:  # it would have been cut anyway
        stop = "max_tokens"
        text = text[: 4 * max(0, max_tokens - thinking)]
    if stop == "max_tokens":
        output = max_tokens
    content: list[dict[str, Any]] = []
    if thinking:
        content.append({"type": "thinking", "thinking": "", "signature": "c2ltdWxhdGVk"})
    if text:
        content.append({"type": "text", "text": text})
    return content, stop, output
