"""Counts the tokens of some requests with the API, within a bounded time; free, but it may have no room."""

import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.errors import UnreachableError

CONCURRENCY = 8
_SECONDS = 20.0
_SECONDS_PER_CALL = 10.0
_MOST_FAILURES = 3
# What count_tokens takes of a request; the rest does not bear on the input.
_COUNTED = ("model", "system", "messages", "tools", "tool_choice", "thinking", "output_config")


@dataclass(frozen=True)
class Counted:
    """Tokens by position in what was asked; `problem` is why some are missing, in the API's words."""

    tokens: Mapping[int, int]
    problem: str | None


def counted_params(params: Mapping[str, Any]) -> dict[str, Any]:
    """The params of a message without those that count_tokens refuses."""
    return {name: params[name] for name in _COUNTED if name in params}


def count_all(
    api: BatchesApi, requests: Sequence[Mapping[str, Any]], seconds: float = _SECONDS
) -> Counted:
    """Counts each of `requests`, which are params of the Messages API.

    Gives up after a few failures or when `seconds` have passed, with what was counted by then.
    """
    until = time.monotonic() + seconds
    found: dict[int, int] = {}
    failures: list[str] = []
    guard = threading.Lock()

    def count(position: int) -> None:
        left = until - time.monotonic()
        if len(failures) >= _MOST_FAILURES or left <= 0:
            return
        try:
            tokens = api.count_tokens(
                counted_params(requests[position]), min(left, _SECONDS_PER_CALL)
            )
        except UnreachableError as error:
            with guard:
                failures.append(str(error))
        else:
            with guard:
                found[position] = tokens

    with ThreadPoolExecutor(min(CONCURRENCY, len(requests) or 1)) as pool:
        list(pool.map(count, range(len(requests))))
    if len(found) == len(requests):
        return Counted(found, None)
    return Counted(found, failures[0] if failures else f"It took longer than {seconds:.0f} s.")
