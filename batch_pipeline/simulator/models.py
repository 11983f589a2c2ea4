"""The models the simulated API offers, with the facts that decide whether a request is refused.

Figures as published in November 2026. A name without a date stands for its dated snapshot, which is
what answers and the model list show, as the API does it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

EXTENDED_OUTPUT_BETA = "output-300k-2026-03-24"
EXTENDED_OUTPUT_TOKENS = 300_000

Thinking = Literal["adaptive", "enabled", "disabled", "between_tools"]
Effort = Literal["low", "medium", "high", "xhigh", "max"]

_EFFORTS: frozenset[Effort] = frozenset({"low", "medium", "high", "xhigh", "max"})


@dataclass(frozen=True, slots=True)
class Model:
    """What the API knows of one model. Token figures are tokens; `cache_minimum` is the shortest
    prefix that is cached at all.
    """

    id: str
    name: str
    line: Literal["haiku", "sonnet", "opus", "fable", "mythos"]
    released: str
    context: int
    max_output: int
    cache_minimum: int
    thinking: frozenset[Thinking]
    efforts: frozenset[Effort] = _EFFORTS
    prefill: bool = False
    forced_tool: bool = True
    extended_output: bool = False
    sampling: bool = False  # accepts non-default temperature under the older API version
    lifecycle: Literal["active", "deprecated", "retired"] = "active"
    retires: str | None = None
    aliases: tuple[str, ...] = field(default=())

    def info(self) -> dict[str, Any]:
        """The body of GET /v1/models/{id}."""

        def support(*, supported: bool) -> dict[str, bool]:
            return {"supported": supported}

        efforts = {
            e: support(supported=e in self.efforts)
            for e in ("low", "medium", "high", "xhigh", "max")
        }
        thinking = {
            t: support(supported=t in self.thinking)
            for t in ("adaptive", "enabled", "disabled", "between_tools")
        }
        return {
            "type": "model",
            "id": self.id,
            "display_name": self.name,
            "created_at": f"{self.released}T00:00:00Z",
            "line": self.line,
            "lifecycle": self.lifecycle,
            "deprecated_at": None,
            "retires_at": f"{self.retires}T00:00:00Z" if self.retires else None,
            "max_input_tokens": self.context,
            "max_tokens": self.max_output,
            "capabilities": {
                "batch": support(supported=True),
                "citations": support(supported=True),
                "code_execution": support(supported=True),
                "context_management": {
                    "supported": True,
                    "clear_thinking_20251015": support(supported=True),
                    "clear_tool_uses_20250919": support(supported=True),
                    "compact_20260112": support(supported=self.context >= 1_000_000),
                },
                "effort": {"supported": bool(self.efforts), **efforts},
                "image_input": support(supported=True),
                "pdf_input": support(supported=True),
                "server_tools": {
                    "supported": True,
                    "code_execution": support(supported=True),
                    "web_search": support(supported=True),
                },
                "structured_outputs": support(supported=True),
                "thinking": {"supported": True, "types": thinking},
            },
        }


_ALWAYS: frozenset[Thinking] = frozenset({"adaptive"})
_OPTIONAL: frozenset[Thinking] = frozenset({"adaptive", "disabled"})
_BETWEEN: frozenset[Thinking] = frozenset({"adaptive", "between_tools"})
_BUDGETED: frozenset[Thinking] = frozenset({"adaptive", "enabled", "disabled"})
_BUDGET_ONLY: frozenset[Thinking] = frozenset({"enabled", "disabled"})
_UNKNOWN = "1970-01-01"  # what the API, too, gives for a date it does not know
_M = 1_000_000
_K128 = 128_000
_K64 = 64_000
_NO_EFFORT: frozenset[Effort] = frozenset()
_OLD_EFFORT: frozenset[Effort] = frozenset({"low", "medium", "high"})

# Newest first: the order of GET /v1/models.
MODELS: tuple[Model, ...] = (
    Model("claude-fable-5-2", "Claude Fable 5.2", "fable", "2026-11-09", _M, _K128, 512, _ALWAYS,
          forced_tool=False),
    Model("claude-mythos-5-2", "Claude Mythos 5.2", "mythos", "2026-11-09", _M, _K128, 512, _ALWAYS,
          forced_tool=False),
    Model("claude-haiku-5-5", "Claude Haiku 5.5", "haiku", "2026-10-07", _M, _K128, 512, _OPTIONAL,
          extended_output=True),
    Model("claude-sonnet-5-5", "Claude Sonnet 5.5", "sonnet", "2026-09-28", _M, _K128, 512, _BETWEEN,
          forced_tool=False, extended_output=True),
    Model("claude-opus-5-5", "Claude Opus 5.5", "opus", "2026-09-22", _M, _K128, 512, _ALWAYS,
          forced_tool=False, extended_output=True),
    Model("claude-fable-5-1", "Claude Fable 5.1", "fable", "2026-09-01", _M, _K128, 512, _ALWAYS,
          forced_tool=False),
    Model("claude-mythos-5-1", "Claude Mythos 5.1", "mythos", "2026-09-01", _M, _K128, 512, _ALWAYS,
          forced_tool=False),
    Model("claude-sonnet-5", "Claude Sonnet 5", "sonnet", _UNKNOWN, _M, _K128, 1_024, _OPTIONAL,
          extended_output=True),
    Model("claude-fable-5", "Claude Fable 5", "fable", _UNKNOWN, _M, _K128, 512, _ALWAYS),
    Model("claude-mythos-5", "Claude Mythos 5", "mythos", _UNKNOWN, _M, _K128, 512, _ALWAYS),
    Model("claude-opus-5", "Claude Opus 5", "opus", _UNKNOWN, _M, _K128, 512, _OPTIONAL,
          extended_output=True),
    Model("claude-opus-4-8", "Claude Opus 4.8", "opus", _UNKNOWN, _M, _K128, 1_024, _OPTIONAL,
          extended_output=True),
    Model("claude-opus-4-7", "Claude Opus 4.7", "opus", _UNKNOWN, _M, _K128, 2_048, _OPTIONAL,
          extended_output=True),
    Model("claude-mythos-preview", "Claude Mythos Preview", "mythos", _UNKNOWN, _M, _K128, 2_048,
          _ALWAYS, lifecycle="retired", retires="2026-06-30"),
    Model("claude-sonnet-4-6", "Claude Sonnet 4.6", "sonnet", _UNKNOWN, _M, _K128, 1_024,
          _BUDGETED, extended_output=True, sampling=True),
    Model("claude-opus-4-6", "Claude Opus 4.6", "opus", _UNKNOWN, _M, _K128, 4_096, _BUDGETED,
          extended_output=True, sampling=True),
    Model("claude-opus-4-5-20251101", "Claude Opus 4.5", "opus", "2025-11-01", 200_000, _K64, 4_096,
          _BUDGET_ONLY, efforts=_OLD_EFFORT, prefill=True, sampling=True,
          aliases=("claude-opus-4-5",)),
    Model("claude-haiku-4-5-20251001", "Claude Haiku 4.5", "haiku", "2025-10-01", 200_000, _K64,
          4_096, _BUDGET_ONLY, efforts=_NO_EFFORT, prefill=True, sampling=True,
          aliases=("claude-haiku-4-5",)),
    Model("claude-sonnet-4-5-20250929", "Claude Sonnet 4.5", "sonnet", "2025-09-29", 200_000, _K64,
          1_024, _BUDGET_ONLY, efforts=_NO_EFFORT, prefill=True, sampling=True,
          lifecycle="deprecated", retires="2026-11-30", aliases=("claude-sonnet-4-5",)),
)  # fmt: skip

_BY_NAME: dict[str, Model] = {name: m for m in MODELS for name in (m.id, *m.aliases)}
NAMES: tuple[str, ...] = tuple(_BY_NAME)


def find_model(name: str) -> Model | None:
    """The model of that id or alias, or None."""
    return _BY_NAME.get(name)
