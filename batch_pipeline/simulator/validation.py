"""Whether the API takes the params of one request, and what it says if not.

The shapes follow the API of version 2026-10-21: sampling parameters are gone, betas go on the call.
Under an older `anthropic-version` sampling parameters are still taken.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NotRequired, Required

import orjson
from pydantic import ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from .models import EXTENDED_OUTPUT_BETA, EXTENDED_OUTPUT_TOKENS, Effort, Model, find_model
from .schema_language import objection

SAMPLING_REMOVED = "2026-10-21"
MAX_BREAKPOINTS = 4
# As documented on data residency: the parameter came with Opus 4.6, and models before it refuse it.
_WITHOUT_GEO = frozenset(
    {"claude-opus-4-5-20251101", "claude-haiku-4-5-20251001", "claude-sonnet-4-5-20250929"}
)

_STRICT = ConfigDict(extra="forbid", strict=True)
_LOOSE = ConfigDict(extra="allow", strict=True)


class _CacheControl(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]
    type: Literal["ephemeral"]
    ttl: NotRequired[Literal["5m", "1h"]]


class _Text(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]
    type: Literal["text"]
    text: str
    cache_control: NotRequired[_CacheControl | None]
    citations: NotRequired[list[Any] | None]


class _OtherBlock(TypedDict):
    __pydantic_config__ = _LOOSE  # type: ignore[misc]
    type: str
    cache_control: NotRequired[_CacheControl | None]


def _block_tag(block: object) -> str:
    return "text" if isinstance(block, dict) and block.get("type") == "text" else "~other"


def _content_tag(content: object) -> str:
    return "~str" if isinstance(content, str) else "~list"


_Block = Annotated[
    Annotated[_Text, Tag("text")] | Annotated[_OtherBlock, Tag("~other")],
    Discriminator(_block_tag),
]
_Content = Annotated[
    Annotated[str, Tag("~str")] | Annotated[list[_Block], Tag("~list")],
    Discriminator(_content_tag),
]
_System = Annotated[
    Annotated[str, Tag("~str")] | Annotated[list[_Text], Tag("~list")],
    Discriminator(_content_tag),
]


class _Message(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]
    role: Literal["user", "assistant", "system"]
    content: _Content


class _Metadata(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]
    user_id: NotRequired[str | None]


class _Thinking(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]
    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: NotRequired[int]
    display: NotRequired[Literal["summarized", "omitted"] | None]


class _ToolChoice(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]
    type: Literal["auto", "any", "tool", "none"]
    name: NotRequired[str]
    disable_parallel_tool_use: NotRequired[bool]


class _Tool(TypedDict):
    __pydantic_config__ = _LOOSE  # type: ignore[misc]
    name: str
    input_schema: NotRequired[dict[str, Any]]
    strict: NotRequired[bool]
    cache_control: NotRequired[_CacheControl | None]


class _Format(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]
    type: Literal["json_schema"]
    schema: dict[str, Any]


class _OutputConfig(TypedDict):
    __pydantic_config__ = _STRICT  # type: ignore[misc]
    effort: NotRequired[Effort | None]
    format: NotRequired[_Format | None]


class _Counted(TypedDict, total=False):
    """What count_tokens takes."""

    __pydantic_config__ = _STRICT  # type: ignore[misc]
    model: Required[str]
    messages: Required[list[_Message]]
    system: _System
    tools: list[_Tool]
    tool_choice: _ToolChoice
    thinking: _Thinking
    output_config: _OutputConfig
    cache_control: _CacheControl | None


class _Params(_Counted, total=False):
    """What messages and batch requests take."""

    max_tokens: Required[Annotated[int, Field(ge=1)]]
    metadata: _Metadata
    stop_sequences: list[str]
    stream: bool
    service_tier: Literal["auto", "standard_only"]
    inference_geo: Literal["global", "us"] | None
    container: Any
    diagnostics: Any


class _ParamsWithSampling(_Params, total=False):
    temperature: Annotated[float, Field(ge=0, le=1, strict=False)]
    top_p: Annotated[float, Field(ge=0, le=1, strict=False)]
    top_k: Annotated[int, Field(ge=0)]


_COUNTED = TypeAdapter(_Counted)
_PARAMS = TypeAdapter(_Params)
_SAMPLED = TypeAdapter(_ParamsWithSampling)


class RefusedError(Exception):
    """The API does not take these params; `error_type` and `str(refusal)` are what it says."""

    def __init__(self, message: str, error_type: str = "invalid_request_error") -> None:
        super().__init__(message)
        self.error_type = error_type


class Validator:
    """Checks params. A batch repeats all but the messages a thousandfold, so the last good rest, and
    the schemas seen, are remembered.
    """

    def __init__(self) -> None:
        self._schemas: dict[bytes, str | None] = {}
        self._last: tuple[object, Model] | None = None

    def check(self, params: object, *, version: str, betas: frozenset[str] = frozenset()) -> Model:
        """The model that would answer.

        Args:
            params: of a message, decoded from JSON.
            version: the call's `anthropic-version`.
            betas: the call's `anthropic-beta` values.

        Raises:
            RefusedError: the API refuses them.
        """
        rest = None
        if isinstance(params, dict) and _plain_question(params.get("messages")):
            rest = (version, betas, {k: v for k, v in params.items() if k != "messages"})
            last = self._last
            whole = type(params.get("max_tokens")) is int  # 256.0 and True equal ints, too
            if whole and last is not None and last[0] == rest:
                return last[1]
        model = self._check_fully(params, version, betas)
        if rest is not None:
            self._last = (rest, model)
        return model

    def _check_fully(self, params: object, version: str, betas: frozenset[str]) -> Model:
        adapter: TypeAdapter[Any] = _PARAMS if version >= SAMPLING_REMOVED else _SAMPLED
        valid = _shaped(adapter, params)
        model = self._check_common(valid)
        if valid.get("stream"):
            raise RefusedError("stream: Input should be false; this call does not stream")
        most = model.max_output
        if model.extended_output and EXTENDED_OUTPUT_BETA in betas:
            most = EXTENDED_OUTPUT_TOKENS
        if valid["max_tokens"] > most:
            raise RefusedError(
                f"max_tokens: {valid['max_tokens']} > {most}, which is the maximum allowed number "
                f"of output tokens for {valid['model']}"
            )
        thinking = valid.get("thinking") or {}
        if thinking.get("budget_tokens", 0) >= valid["max_tokens"]:
            raise RefusedError("`max_tokens` must be greater than `thinking.budget_tokens`.")
        if valid.get("inference_geo") is not None and model.id in _WITHOUT_GEO:
            raise RefusedError(f"inference_geo is not supported by {valid['model']}")
        if not model.sampling:
            for name in ("temperature", "top_p", "top_k"):
                if valid.get(name, 1.0 if name != "top_k" else 0) not in (1.0, 0):
                    raise RefusedError(f"`{name}` is not supported by {valid['model']}")
        return model

    def check_counted(self, params: object) -> Model:
        """Likewise for the params of count_tokens."""
        return self._check_common(_shaped(_COUNTED, params))

    def _check_common(self, params: dict[str, Any]) -> Model:
        model = find_model(params["model"])
        if model is None or model.lifecycle == "retired":
            raise RefusedError(f"model: {params['model']}", "not_found_error")
        _check_messages(params["messages"], model)
        _check_breakpoints(params)
        _check_thinking(params, model)
        config = params.get("output_config")
        if config:
            effort = config.get("effort")
            if effort is not None and effort not in model.efforts:
                raise RefusedError(f"output_config.effort: {effort} is not supported by {model.id}")
            wanted = config.get("format")
            if wanted:
                self._check_schema(wanted["schema"], "output_config.format.schema")
        for i, tool in enumerate(params.get("tools") or ()):
            if tool.get("strict"):
                self._check_schema(tool.get("input_schema") or {}, f"tools.{i}.custom.input_schema")
        choice = params.get("tool_choice")
        if choice and choice["type"] in ("any", "tool") and not model.forced_tool:
            raise RefusedError(f"tool_choice: {choice['type']} is not supported by {model.id}")
        return model

    def _check_schema(self, schema: dict[str, Any], where: str) -> None:
        key = where.encode() + orjson.dumps(schema)
        if key not in self._schemas:
            if len(self._schemas) > 1_000:
                self._schemas.clear()
            self._schemas[key] = objection(schema, where)
        reason = self._schemas[key]
        if reason is not None:
            raise RefusedError(reason)


def _plain_question(messages: object) -> bool:
    """Whether messages are one user message that is a plain text: valid with any valid rest."""
    if not isinstance(messages, list) or len(messages) != 1:
        return False
    message = messages[0]
    return (
        isinstance(message, dict)
        and len(message) == 2
        and message.get("role") == "user"
        and isinstance(message.get("content"), str)
        and bool(message["content"])
    )


def _shaped(adapter: TypeAdapter[Any], params: object) -> dict[str, Any]:
    try:
        adapter.validate_python(params)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(p) for p in first["loc"] if not str(p).startswith("~"))
        raise RefusedError(f"{where}: {first['msg']}" if where else first["msg"]) from None
    assert isinstance(params, dict)
    return params


def _check_messages(messages: list[dict[str, Any]], model: Model) -> None:
    if not messages:
        raise RefusedError("messages: at least one message is required")
    if messages[0]["role"] == "assistant":
        raise RefusedError('messages: first message must use the "user" role')
    for i, message in enumerate(messages):
        content = message["content"]
        if isinstance(content, str):
            empty = not content and (i < len(messages) - 1 or message["role"] != "assistant")
        else:
            empty = not content
            if any(b["type"] == "text" and not b["text"] for b in content):
                raise RefusedError("messages: text content blocks must be non-empty")
        if empty:
            raise RefusedError(f"messages.{i}: all messages must have non-empty content")
    if messages[-1]["role"] == "assistant" and not model.prefill:
        raise RefusedError(
            "This model does not support assistant message prefill. "
            "The conversation must end with a user message."
        )


def _check_breakpoints(params: dict[str, Any]) -> None:
    ttls = breakpoint_ttls(params)
    if len(ttls) > MAX_BREAKPOINTS:
        raise RefusedError(
            f"A maximum of {MAX_BREAKPOINTS} blocks with cache_control may be provided. "
            f"Found {len(ttls)}."
        )
    if "1h" in ttls and "5m" in ttls[: len(ttls) - ttls[::-1].index("1h")]:
        raise RefusedError(
            "a ttl='1h' cache_control block must not come after a ttl='5m' cache_control block"
        )


def breakpoint_ttls(params: dict[str, Any]) -> list[str]:
    """The ttl of each cache breakpoint, in the order in which the prompt is read."""
    controls = [tool.get("cache_control") for tool in params.get("tools") or ()]
    system = params.get("system")
    if isinstance(system, list):
        controls += [block.get("cache_control") for block in system]
    for message in params["messages"]:
        if isinstance(message["content"], list):
            controls += [block.get("cache_control") for block in message["content"]]
    controls.append(params.get("cache_control"))
    return [control.get("ttl", "5m") for control in controls if control]


def _check_thinking(params: dict[str, Any], model: Model) -> None:
    thinking = params.get("thinking")
    if thinking is None:
        return
    kind = thinking["type"]
    if kind not in model.thinking:
        raise RefusedError(f"thinking.type: {kind} is not supported by {model.id}")
    if kind == "enabled" and thinking.get("budget_tokens", 0) < 1_024:
        raise RefusedError("thinking.enabled.budget_tokens: Input should be at least 1024")
