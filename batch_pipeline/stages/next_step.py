"""What a load needs next: the one answer that both the sensor and the CLI act on.

Read from the ledger alone, so that asking is cheap however many rows there are.
"""

from dataclasses import dataclass
from enum import StrEnum

from batch_pipeline.ledger import Batch, Ledger, Load
from batch_pipeline.ledger.records import ChunkState, Lane, Phase
from batch_pipeline.ledger.transactions import now


class Action(StrEnum):
    """A job to launch, or a state to wait in.

    resolve: the answer to a create call was lost, and its batch must be looked for. stopped: nothing can be
    sent until a person mends what the load says, and launches it again.
    """

    SUBMIT = "submit"
    COLLECT = "collect"
    PUBLISH = "publish"
    WAIT = "wait"
    RESOLVE = "resolve"
    STOPPED = "stopped"
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
    chunks = ledger.chunks(record)
    batches = ledger.batches(record)
    ready = [batch for batch in batches if batch.ready]
    settled = record.settled_at.isoformat() if record.settled_at else ""
    later = record.not_before is not None and record.not_before > now()
    intents = [chunk for chunk in chunks if chunk.state is ChunkState.INTENT]
    # Requests that are sent one by one and were cut off: they go on, and of a cancelled load are closed.
    cut_off = any(chunk.lane is Lane.SYNC for chunk in intents)
    sending = (record.phase is Phase.SENDING or cut_off) and not record.cancelled
    # In order: the first that holds decides.
    steps = (
        (
            ready,
            Action.COLLECT,
            # The same batches, ready again after a fetch in vain, are another piece of work.
            "-".join((name, min((b.batch_id for b in ready), default=""), _tries(ready))),
        ),
        (any(chunk.lane is Lane.BATCH for chunk in intents), Action.RESOLVE, name),
        (cut_off and record.cancelled, Action.SUBMIT, f"{name}-close-{len(intents)}"),
        # A wave that was cut off is completed before its batches end.
        (
            sending and not later and record.stopped is None,
            Action.SUBMIT,
            f"{name}-{len(chunks)}-{record.not_before or ''}",
        ),
        # What waits for its time, runs, or cannot be read back at the moment.
        (
            (sending and later) or any(batch.collected_at is None for batch in batches),
            Action.WAIT,
            name,
        ),
        (sending and record.stopped is not None, Action.STOPPED, name),
        # All is read back, but nobody has decided yet what comes next.
        (record.phase is not Phase.SETTLED, Action.COLLECT, f"{name}-decide-{len(batches)}"),
        (record.promoted_at is not None, Action.PROMOTED, name),
        (record.gate == "hold", Action.HELD, name),
        (True, Action.PUBLISH, f"{name}-{settled}"),
    )
    return next((action, work) for holds, action, work in steps if holds)


def _tries(batches: list[Batch]) -> str:
    return f"{len(batches)}-{sum(batch.retries for batch in batches)}"
