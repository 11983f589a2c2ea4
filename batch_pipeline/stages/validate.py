"""validated_rows: judges every result that was read back, against the output contract."""

from dataclasses import dataclass, field

from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Chunk, ChunkState, Load
from batch_pipeline.rows.folder import present
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.source import KEY
from batch_pipeline.stages.verdicts import count_reasons, example_failures, write_verdicts


@dataclass
class ValidateSummary:
    """Verdicts of the whole load so far: by outcome and reason, with a few failing keys.

    There are no examples where the workload is declared sensitive.
    """

    judged_now: int = 0
    reasons: list[tuple[str, str, int]] = field(default_factory=list)
    examples: list[dict[str, object]] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return sum(n for _, _, n in self.reasons)

    @property
    def valid(self) -> int:
        return sum(n for outcome, _, n in self.reasons if outcome == "valid")

    @property
    def broken(self) -> int:
        return sum(n for outcome, _, n in self.reasons if outcome == "contract_broken")


def validate_results(context: LoadContext) -> ValidateSummary:
    """Writes the verdicts of every collected chunk that has none; verdicts once written stay.

    Raises:
        ConfigurationError: a check of the user's own cannot be evaluated.
        PipelineError: the output contract changed since the load was begun.
    """
    with context.ledger.hold(context.workload.name, context.load):
        record = context.record()
        folder = context.folder(record)
        collected = collected_chunks(context, record)
        judged = set(present(folder.verdicts(chunk.chunk_id) for chunk in collected))
        due = [c for c in collected if str(folder.verdicts(c.chunk_id)) not in judged]
        if due and context.workload.fingerprint() != record.fingerprint:
            raise PipelineError(
                f"{context}: the prompt, the output contract or the tiers changed since this load was "
                "begun, and results remain to be judged; restore them, or send the load again with --resend."
            )
        summary = ValidateSummary(judged_now=len(due))
        checks = context.workload.user_checks() if due else None
        with context.querying() as connection:
            for chunk in due:
                write_verdicts(
                    connection,
                    folder.results(chunk.chunk_id),
                    folder.source,
                    context.workload.contract,
                    checks,
                    folder.verdicts(chunk.chunk_id),
                )
            verdicts = [
                folder.verdicts(chunk.chunk_id) for chunk in collected_chunks(context, record)
            ]
            if present(verdicts):
                summary.reasons = count_reasons(connection, verdicts)
                if not context.workload.spec.sensitive:
                    summary.examples = example_failures(connection, verdicts, folder.source, KEY)
        return summary


def collected_chunks(context: LoadContext, record: Load) -> list[Chunk]:
    """The chunks whose results have been read back."""
    collected = {b.chunk_id for b in context.ledger.batches(record) if b.collected_at is not None}
    return [
        chunk
        for chunk in context.ledger.chunks(record)
        if chunk.state is ChunkState.SUBMITTED and chunk.chunk_id in collected
    ]
