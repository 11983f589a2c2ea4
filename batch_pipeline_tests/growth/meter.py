"""What a piece of work costs this process: CPU seconds and bytes read, the median of several times."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Cost:
    """CPU seconds of all threads, and bytes asked of the kernel, cached or not."""

    cpu: float
    read: int


def cost_of(work: Callable[[], object], times: int = 5) -> Cost:
    """Does it once to warm up, then so many times."""
    work()
    costs = []
    for _ in range(times):
        began, read = time.process_time(), _read()
        work()
        costs.append((time.process_time() - began, _read() - read))
    return Cost(median(cpu for cpu, _ in costs), int(median(read for _, read in costs)))


def _read() -> int:
    """`rchar` of Linux's /proc/self/io."""
    said = Path("/proc/self/io").read_text(encoding="ascii")
    return int(next(line for line in said.splitlines() if line.startswith("rchar:")).split()[1])
