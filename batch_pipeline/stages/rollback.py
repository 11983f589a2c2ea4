"""Undoes a load's promotion, and says so wherever the load is spoken of.

The system of record comes first, in one transaction of its own, then the ledger. Killed in between, the load counts
as promoted still, and the next call finds nothing to undo there and completes the ledger.
"""

from dataclasses import dataclass, replace

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger import Load
from batch_pipeline.measure.gate import GateDecision
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.kept_scorecards import keep_scorecard
from batch_pipeline.stages.measured import remember
from batch_pipeline.stages.scorecard import Scorecard, measuring, rollback_sentence
from batch_pipeline.targets import target_of
from batch_pipeline.warehouse import GateRecord, Rollback, write_gate


@dataclass(frozen=True)
class RollbackSummary:
    """What became of the rows, None where an earlier call had undone them already; and the scorecard now.

    There is no scorecard where the load's files cannot be read.
    """

    done: Rollback | None
    card: Scorecard | None

    @property
    def sentence(self) -> str:
        if self.done is None:
            return "its rows had been taken back already, and now the ledger says so"
        return (
            f"{self.done.rows:,} rows of it were taken back from {self.done.table}: {self.done.removed:,} are gone, "
            f"{self.done.restored:,} have their former row again, {self.done.kept:,} belong to later loads"
        )


def rollback(context: LoadContext, *, reason: str, by: str) -> RollbackSummary:
    """Makes the system of record what it were without this load, and closes the load's gate.

    Nothing promotes the load again but a person, with a reason.

    Args:
        context: the load.
        reason: why; recorded, and shown with the gate's decision.
        by: who: a Dagster run or a user name.

    Raises:
        ConfigurationError: it is not promoted now.
        PipelineError: it cannot be undone, or not reached; nothing was changed.
    """
    with context.ledger.hold(context.workload.name, context.load):
        record = context.record()
        require_promoted(context)
        done = target_of(context.workload).roll_back(
            context.settings,
            workload=record.workload,
            load=record.load,
            key=context.workload.spec.source.key,
            reason=reason,
            by=by,
        )
        context.ledger.record_rollback(record, by=by, reason=reason)
        return RollbackSummary(done, _say_so(context))


def require_promoted(context: LoadContext) -> None:
    """Raises ConfigurationError where there is nothing to roll back."""
    generations = context.ledger.generations(context.workload.name, context.load)
    if any(record.promoted_at is not None for record in generations):
        return
    undone = [record for record in generations if record.rolled_back]
    if undone:
        raise ConfigurationError(
            f"{context} was rolled back already, {rollback_sentence(undone[-1])}. To promote it again: "
            f"{promote_again(context)}."
        )
    raise ConfigurationError(f"{context} is not promoted, so there is nothing to roll back.")


def promote_again(context: LoadContext) -> str:
    """What a person calls."""
    return f"`batch-pipeline promote {context.workload.name} --date {context.load} --reason ...`"


def _say_so(context: LoadContext) -> Scorecard | None:
    """The scorecard and the metrics follow: they are told by the ledger, at the latest when somebody looks."""
    record = context.record()
    try:
        with measuring(context) as (_, card):
            pass
    except PipelineError:
        return None
    if record.purged_at is not None:
        card = _closed(card, record)
    keep_scorecard(context.shared, record, card)
    if record.purged_at is None:
        remember(context, card)
    if card.gate is not None:
        write_gate(
            context.settings,
            record.workload,
            record.load,
            fingerprint=card.gate.fingerprint,
            gate=GateRecord(card.gate.promote, card.gate.reasons, card.gate.override_reason),
        )
    return card


def _closed(card: Scorecard, record: Load) -> Scorecard:
    """Of a purged load nothing can be measured: the scorecard that was kept, with the gate as it is now."""
    fingerprint = card.gate.fingerprint if card.gate else ""
    said = f"the load was rolled back {rollback_sentence(record)}"
    return replace(card, promoted_rows=0, gate=GateDecision(False, [said], fingerprint))
