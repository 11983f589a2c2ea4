"""What a load needs next: the one answer that both the sensor and the CLI act on.

Read from the ledger alone, so that asking is cheap however many rows there are.
"""

from dataclasses import dataclass
from enum import StrEnum

from batch_pipeline.ledger import Ledger, Load
from batch_pipeline.ledger.records import ChunkState, Phase


class Action(StrEnum):
    """A job to launch, or a state to wait in."""

    SUBMIT = "submit"
    COLLECT = "collect"
    PUBLISH = "publish"
    WAIT = "wait"
    UNRESOLVED = "unresolved"
    PROMOTED = "promoted"
    HELD = "held"


@dataclass(frozen=True)
class Step:
    """`work` names the piece of work: the same until it is done, another one afterwards."""

    action: Action
    work: str


def next_step(ledger: Ledger, workload: str, load: str) -> Step:
    """Decides by the latest generation of a load."""
    record = ledger.load(workload, load)
    if record is None:
        return Step(Action.SUBMIT, "first")
    return Step(*_decide(ledger, record))


def _decide(ledger: Ledger, record: Load) -> tuple[Action, str]:
    name = f"g{record.generation}"
    batches = ledger.batches(record)
    ready = [batch for batch in batches if batch.ready]
    if ready:
        return Action.COLLECT, f"{name}-{min(b.batch_id for b in ready)}-{len(ready)}"
    if any(chunk.state is ChunkState.INTENT for chunk in ledger.chunks(record)):
        return Action.UNRESOLVED, name
    if any(batch.open for batch in batches):
        # A wave that was cut off is completed before its batches end.
        if record.phase is Phase.SENDING:
            return Action.SUBMIT, f"{name}-{len(batches)}"
        return Action.WAIT, name
    if record.phase is Phase.SENDING:
        return Action.SUBMIT, f"{name}-{len(batches)}"
    if record.phase is Phase.WAITING:
        # All is read back, but nobody has decided yet what comes next.
        return Action.COLLECT, f"{name}-decide-{len(batches)}"
    if record.promoted_at is not None:
        return Action.PROMOTED, name
    if record.gate == "hold":
        return Action.HELD, name
    settled = record.settled_at.isoformat() if record.settled_at else ""
    return Action.PUBLISH, f"{name}-{settled}"
