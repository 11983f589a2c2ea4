"""Seconds and peak memory by stage."""

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_KILOBYTES = re.compile(r"VmHWM:\s+(\d+) kB")


class Stopwatch:
    """`seconds` is what each named stage took, all its passes together; `peak_mb` the most that was resident."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.peak_mb: dict[str, float] = {}

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        # The kernel's high-water mark begins anew.
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began
            self.peak_mb[stage] = max(self.peak_mb.get(stage, 0.0), _high_water_mark())


def _high_water_mark() -> float:
    found = _KILOBYTES.search(Path("/proc/self/status").read_text(encoding="ascii"))
    return int(found[1]) / 1000 if found else 0.0
