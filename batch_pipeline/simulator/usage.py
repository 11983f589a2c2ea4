"""Tokens: an estimate from the text, and what prompt caching makes of them.

A token is taken to be four characters, whatever the model; images and documents count as 1,500
tokens. Cache entries live per model, prefix and ttl, in memory: a simulator that starts again starts
cold. Below the model's minimum nothing is cached.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import orjson

from .models import Model

CHARS_PER_TOKEN = 4
_MEDIA_CHARS = 6_000
_TTL_SECONDS = {"5m": 300.0, "1h": 3_600.0}
_MAX_ENTRIES = 50_000


def tokens_of(chars: int) -> int:
    return -(-chars // CHARS_PER_TOKEN)


@dataclass(slots=True)
class Input:
    """Input tokens of one request by how they are billed."""

    uncached: int
    read: int = 0
    written_5m: int = 0
    written_1h: int = 0

    @property
    def total(self) -> int:
        return self.uncached + self.read + self.written_5m + self.written_1h

    def usage(
        self, output_tokens: int, thinking_tokens: int, tier: str, geo: str | None
    ) -> dict[str, Any]:
        """The `usage` object of a message."""
        return {
            "input_tokens": self.uncached,
            "cache_creation_input_tokens": self.written_5m + self.written_1h,
            "cache_read_input_tokens": self.read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": self.written_5m,
                "ephemeral_1h_input_tokens": self.written_1h,
            },
            "output_tokens": output_tokens,
            "output_tokens_details": {"thinking_tokens": thinking_tokens},
            "server_tool_use": None,
            "service_tier": tier,
            "inference_geo": geo or "global",
            "speed": None,
        }


@dataclass(slots=True)
class _Breakpoint:
    chars: int  # of the whole prefix
    ttl: str
    key: bytes


@dataclass(slots=True)
class _Entry:
    expires: float
    writes: int


@dataclass(slots=True)
class _Prefix:
    """Tools and system prompt, which a batch repeats in every request."""

    tools: Any
    system: Any
    chars: int
    state: Any
    breakpoints: list[_Breakpoint]


class PromptCache:
    """Counts input tokens and remembers prefixes. Not for use by several threads at once."""

    def __init__(self, hit_rate: float, first_writes: int) -> None:
        self._hit_rate = hit_rate
        self._first_writes = first_writes
        self._entries: OrderedDict[bytes, _Entry] = OrderedDict()
        self._last: _Prefix | None = None

    def count(self, params: dict[str, Any]) -> int:
        """Input tokens of (valid) params, without any caching."""
        return tokens_of(self._measure(params)[0])

    def charge(self, params: dict[str, Any], model: Model, now: float, draw: float) -> Input:
        """Input tokens of one request, and its trace in the cache.

        Args:
            params: valid.
            model: that answers.
            now: Unix time at which the request runs.
            draw: in [0, 1); decides whether a prefix that is there is found.
        """
        chars, found = self._measure(params)
        total = tokens_of(chars)
        marks = [b for b in found if tokens_of(b.chars) >= model.cache_minimum]
        if not marks:
            return Input(uncached=total)
        for mark in marks:
            mark.key = blake2b(
                mark.key + f"{model.id} {mark.ttl}".encode(), digest_size=16
            ).digest()
        result = Input(uncached=total - tokens_of(marks[-1].chars))
        reached = 0
        if draw < self._hit_rate:
            for mark in reversed(marks):
                entry = self._entries.get(mark.key)
                if entry and entry.expires > now and entry.writes >= self._first_writes:
                    entry.expires = now + _TTL_SECONDS[mark.ttl]
                    reached = result.read = tokens_of(mark.chars)
                    break
        for mark in marks:
            upto = tokens_of(mark.chars)
            if upto <= reached:
                continue
            if mark.ttl == "1h":
                result.written_1h += upto - reached
            else:
                result.written_5m += upto - reached
            reached = upto
            self._remember(mark, now)
        return result

    def _remember(self, mark: _Breakpoint, now: float) -> None:
        entry = self._entries.get(mark.key)
        if entry is None or entry.expires <= now:
            entry = self._entries[mark.key] = _Entry(0.0, 0)
            if len(self._entries) > _MAX_ENTRIES:
                self._entries.popitem(last=False)
        entry.expires = now + _TTL_SECONDS[mark.ttl]
        entry.writes += 1

    def _measure(self, params: dict[str, Any]) -> tuple[int, list[_Breakpoint]]:
        """Characters of the prompt, and its cache breakpoints in order."""
        prefix = self._prefix(params.get("tools"), params.get("system"))
        messages = params["messages"]
        overall = params.get("cache_control")
        if not overall and not any(
            block.get("cache_control")
            for message in messages
            if isinstance(message["content"], list)
            for block in message["content"]
        ):
            chars = sum(_content_chars(message["content"]) for message in messages)
            return prefix.chars + chars, [_copy(b) for b in prefix.breakpoints]
        state = prefix.state.copy()
        # Another output format means another conversation cache.
        state.update(orjson.dumps((params.get("output_config") or {}).get("format")))
        chars, marks = prefix.chars, [_copy(b) for b in prefix.breakpoints]
        for message in messages:
            content = message["content"]
            blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
            for block in blocks:
                chars = _extend(state, chars, block, marks)
        if overall:
            marks.append(_Breakpoint(chars, overall.get("ttl", "5m"), state.digest()))
        return chars, marks

    def _prefix(self, tools: Any, system: Any) -> _Prefix:
        last = self._last
        if last is not None and last.system == system and last.tools == tools:
            return last
        state, chars = blake2b(digest_size=16), 0
        marks: list[_Breakpoint] = []
        for tool in tools or ():
            chars = _extend(state, chars, tool, marks)
        if isinstance(system, str):
            chars = _extend(state, chars, {"type": "text", "text": system}, marks)
        else:
            for block in system or ():
                chars = _extend(state, chars, block, marks)
        self._last = _Prefix(tools, system, chars, state, marks)
        return self._last


def _extend(state: Any, chars: int, block: dict[str, Any], marks: list[_Breakpoint]) -> int:
    control = block.get("cache_control")
    state.update(orjson.dumps({k: v for k, v in block.items() if k != "cache_control"}))
    chars += _block_chars(block)
    if control:
        marks.append(_Breakpoint(chars, control.get("ttl", "5m"), state.digest()))
    return chars


def _copy(mark: _Breakpoint) -> _Breakpoint:
    return _Breakpoint(mark.chars, mark.ttl, mark.key)


def _content_chars(content: Any) -> int:
    return len(content) if isinstance(content, str) else sum(map(_block_chars, content))


def _block_chars(block: dict[str, Any]) -> int:
    kind = block.get("type")
    if kind == "text":
        return len(block["text"])
    if kind in {"image", "document"}:
        return _MEDIA_CHARS
    return len(orjson.dumps(block))
