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
    settled = record.settled_at.isoformat() if record.settled_at else ""
    unresolved = any(chunk.state is ChunkState.INTENT for chunk in ledger.chunks(record))
    # In order: the first that holds decides.
    steps = (
        (
            ready,
            Action.COLLECT,
            f"{name}-{min((b.batch_id for b in ready), default='')}-{len(ready)}",
        ),
        (unresolved, Action.UNRESOLVED, name),
        # A wave that was cut off is completed before its batches end.
        (record.phase is Phase.SENDING, Action.SUBMIT, f"{name}-{len(batches)}"),
        (any(batch.open for batch in batches), Action.WAIT, name),
        # All is read back, but nobody has decided yet what comes next.
        (record.phase is Phase.WAITING, Action.COLLECT, f"{name}-decide-{len(batches)}"),
        (record.promoted_at is not None, Action.PROMOTED, name),
        (record.gate == "hold", Action.HELD, name),
        (True, Action.PUBLISH, f"{name}-{settled}"),
    )
    return next((action, work) for holds, action, work in steps if holds)
