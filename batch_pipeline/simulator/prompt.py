"""The parts of a request's params that a person would call its text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any


def block_text(block: Mapping[str, Any]) -> str:
    text = block.get("text")
    return text if isinstance(text, str) else ""


def content_text(content: object) -> str:
    """The text of a message's content: the string, or its text blocks joined."""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(block_text(b) for b in content if isinstance(b, dict))
    return ""


def user_texts(params: Mapping[str, Any]) -> Iterator[str]:
    """The text of each user message, last first. Params need not be valid."""
    messages = params.get("messages")
    if isinstance(messages, list):
        for message in reversed(messages):
            if isinstance(message, dict) and message.get("role") == "user":
                yield content_text(message.get("content"))


def last_user_text(params: Mapping[str, Any]) -> str:
    return next(user_texts(params), "")


def output_schema(params: Mapping[str, Any]) -> dict[str, Any] | None:
    """The JSON Schema the answer must obey, if the (valid) params ask for one."""
    wanted = (params.get("output_config") or {}).get("format")
    return wanted["schema"] if wanted else None
