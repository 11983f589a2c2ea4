"""Ends a look at the API when its time is up, however slowly the API answers."""

import time
from typing import TYPE_CHECKING

from batch_pipeline.claude.errors import UnreachableError

if TYPE_CHECKING:
    import httpx2

# A call that begins in the last moment is given this much, or its time-out would look like a network that is down.
_LEAST_SECONDS = 1.0


class OutOfTimeError(UnreachableError):
    """The time for looking is up. It says nothing of the API; the next look goes on."""


class Deadline:
    """A request hook: no call begins once `seconds` are over, and none is waited for much beyond them."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.monotonic() + seconds

    @property
    def passed(self) -> bool:
        return time.monotonic() >= self._ends

    def __call__(self, request: "httpx2.Request") -> None:
        """Raises OutOfTimeError, which the SDK wraps in an APIConnectionError."""
        left = self._ends - time.monotonic()
        if left <= 0:
            raise OutOfTimeError(
                "the API answers slowly, so not all could be asked; the next look goes on"
            )
        given = request.extensions.get("timeout", {})
        request.extensions["timeout"] = {
            # None waits for ever.
            kind: min(given.get(kind) or left, max(left, _LEAST_SECONDS))
            for kind in ("connect", "read", "write", "pool")
        }
