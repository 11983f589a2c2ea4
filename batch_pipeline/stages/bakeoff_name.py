"""Under which name a workload's bake-offs are recorded: their spending counts with its loads'."""

import hashlib

_LONGEST_NAME = 64  # of the ledger's column


def bakeoff_name(workload: str) -> str:
    """What the candidates' loads are recorded under."""
    name = f"{workload}-bakeoff"
    if len(name) <= _LONGEST_NAME:
        return name
    return f"{workload[:40]}-{hashlib.sha256(workload.encode()).hexdigest()[:8]}-bakeoff"
