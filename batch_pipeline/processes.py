"""Whether a process of this machine is still there."""

import os
import signal
from contextlib import suppress
from pathlib import Path


def alive(process: int) -> bool:
    """False once it is dead, also while its parent has not taken notice yet."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # somebody else's
    try:
        # Linux only; the state comes after the name, which may hold anything.
        return Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return True


def end_children() -> None:
    """Ends what this process has started (Linux): for who leaves without waiting for anything.

    Dagster follows a step's output with `tail`, and starts what would end that a moment later: left in between,
    it would keep this process's standard error open for ever.
    """
    for children in Path("/proc/self/task").glob("*/children"):
        with suppress(OSError):
            for pid in children.read_text().split():
                with suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGTERM)
