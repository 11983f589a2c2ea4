"""Whether a process of this machine is still there."""

import os
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
