"""How long an object store may keep whoever calls waiting, where that is less than usual."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_seconds: ContextVar[float | None] = ContextVar("seconds", default=None)


@contextmanager
def in_a_hurry(seconds: float) -> Iterator[None]:
    """In the block no store that is not well is tried for longer: whoever calls must soon be done."""
    before = _seconds.set(seconds)
    try:
        yield
    finally:
        _seconds.reset(before)


def allowed(usual: float) -> float:
    """For how many seconds a call is tried here and now."""
    seconds = _seconds.get()
    return usual if seconds is None else min(seconds, usual)
