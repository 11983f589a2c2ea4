"""SIGTERM and Ctrl-C, for commands that end with their exit code and their JSON whatever happens.

The first one interrupts work that may be interrupted, and is remembered where it may not: an import that is cut
short cannot be made good. A second one interrupts anything, a third one ends the process.
"""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from batch_pipeline.cli import EXIT_UNFINISHED

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _State:
    """Signals belong to the process, and so does this."""

    catching = False
    interruptible = False
    asked = 0


def asked() -> int:
    """How often this process was asked to stop."""
    return _State.asked


@contextmanager
def caught() -> Iterator[None]:
    """Both signals do what is said above, until the end of the block. Within another such block, nothing."""
    if _State.catching or threading.current_thread() is not threading.main_thread():
        yield
        return
    # Ignored from the start means: by whoever started this, for good reason.
    mine = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, _stop) for number in mine}
    _State.catching, _State.interruptible, _State.asked = True, False, 0
    try:
        yield
    finally:
        _State.catching = False
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def interruptible() -> Iterator[None]:
    """Work that may be cut anywhere. Raises KeyboardInterrupt at once where a stop was asked for before."""
    if not _State.catching:
        yield
        return
    before, _State.interruptible = _State.interruptible, True
    try:
        if _State.asked:
            raise KeyboardInterrupt
        yield
    finally:
        _State.interruptible = before


def _stop(_number: int, _frame: FrameType | None) -> None:
    _State.asked += 1
    if _State.asked > 2:
        os._exit(EXIT_UNFINISHED)
    if _State.interruptible or _State.asked == 2:
        raise KeyboardInterrupt
