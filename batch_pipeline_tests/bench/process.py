"""Runs one contestant as a process of its own, and watches what it and its children take."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SAMPLE_SECONDS = 0.02
_MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Taken:
    """What a process tree took. `said` is the object it printed on standard output, if it printed one.

    `peak_mb` is the highest sum of the tree's resident memory that was seen, or the highest of any one
    process as the kernel counts it, whichever is more: shared pages count once per process.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float
    said: dict[str, Any]


def run_watched(command: Sequence[str], environment: Mapping[str, str]) -> Taken:
    """Runs `command` to its end. Raises SystemExit with its standard error where it fails."""
    began = time.perf_counter()
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=dict(environment)
    )
    outputs: dict[str, bytes] = {}

    def read(name: str, pipe: Any) -> None:
        outputs[name] = pipe.read()

    readers = [
        threading.Thread(target=read, args=("out", child.stdout)),
        threading.Thread(target=read, args=("err", child.stderr)),
    ]
    for reader in readers:
        reader.start()
    peak = 0
    while True:
        pid, status, used = os.wait4(child.pid, os.WNOHANG)
        if pid:
            break
        peak = max(peak, sum(map(_resident, _tree(child.pid))))
        time.sleep(_SAMPLE_SECONDS)
    wall = time.perf_counter() - began
    child.returncode = os.waitstatus_to_exitcode(status)
    for reader in readers:
        reader.join()
    if child.returncode:
        sys.exit(f"{' '.join(command)} ended with {child.returncode}:\n{outputs['err'].decode()}")
    return Taken(
        wall,
        used.ru_utime + used.ru_stime,
        max(peak, used.ru_maxrss * 1024) / _MEGABYTE,
        json.loads(outputs["out"]) if outputs["out"].startswith(b"{") else {},
    )


def _tree(pid: int) -> list[int]:
    found, queue = [], [pid]
    while queue:
        one = queue.pop()
        found.append(one)
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                queue += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def _resident(pid: int) -> int:
    try:
        fields = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return int(fields[1]) * os.sysconf("SC_PAGESIZE")
