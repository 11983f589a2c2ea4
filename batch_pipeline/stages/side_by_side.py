"""Work on several things at once, in threads."""

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

T = TypeVar("T")


def side_by_side(work: Callable[[T], None], things: Sequence[T], at_once: int) -> None:
    """Calls `work` with each of `things`, so many at once; what fails keeps the others from being begun.

    Raises what the first that failed raised, when all that were begun have ended.
    """
    if at_once == 1 or len(things) < 2:
        for thing in things:
            work(thing)
        return
    pool = ThreadPoolExecutor(at_once, "side-by-side")
    try:
        begun = [pool.submit(work, thing) for thing in things]
        wait(begun, return_when=FIRST_EXCEPTION)
    finally:
        pool.shutdown(cancel_futures=True)
    for future in begun:
        if not future.cancelled():
            future.result()
