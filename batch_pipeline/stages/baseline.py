"""baseline: makes a load's golden outcomes the ones that later loads are held against, row by row."""

import uuid
from contextlib import closing

import duckdb

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger.records import Baseline, Load
from batch_pipeline.ledger.transactions import now
from batch_pipeline.measure.golden import RecordedBaseline
from batch_pipeline.rows import Place, replacing
from batch_pipeline.rows.engine import register_stores
from batch_pipeline.rows.store_errors import behind
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.workload.data_file import literal


def record_baseline(context: LoadContext, *, reason: str, by: str) -> Baseline:
    """Accepts what the golden rows of a settled load gave.

    The outcomes are on disk before the ledger names them; a crash in between leaves a file that nobody reads.

    Args:
        context: the load.
        reason: why; shown beside every verdict.
        by: who.

    Raises:
        ConfigurationError: the workload has no golden set, or the reason is blank.
        PipelineError: rows are still open or purged, the load was cancelled, or the declaration has
            changed since.
    """
    from batch_pipeline.stages.scorecard import measuring

    if not reason.strip():
        raise ConfigurationError("A baseline needs a reason: why this outcome is good enough.")
    if context.workload.spec.golden is None:
        raise ConfigurationError(
            f"{context.workload.name} declares no golden set, so there is nothing to accept; add one to its "
            "defs.yaml."
        )
    with context.ledger.hold(context.workload.name, context.load):
        record = context.record()
        context.folder(record)
        with measuring(context) as (connection, card):
            if not card.settled:
                raise PipelineError(
                    f"{context} has rows without a disposition; let `batch-pipeline run` finish it first."
                )
            if record.cancelled:
                raise PipelineError(
                    f"{context} was cancelled, so its golden rows say little; take another load."
                )
            if card.golden is None or not card.golden.golden_set:
                raise PipelineError(
                    f"{context} cannot be graded: its prompt, contract or tiers were declared otherwise, or it "
                    "had no golden set; take a load that was sent under the declaration as it is now."
                )
            baseline = Baseline(
                baseline_id=uuid.uuid4().hex,
                workload=record.workload,
                load=record.load,
                generation=record.generation,
                fingerprint=record.fingerprint,
                golden_fingerprint=card.golden.golden_set,
                correct=card.golden.correct,
                n=card.golden.n,
                reason=reason,
                recorded_by=by,
                recorded_at=now(),
            )
            with replacing(outcomes(context.shared, baseline)) as path:
                connection.execute(
                    f"COPY (SELECT key, correct FROM golden_outcomes ORDER BY key) "
                    f"TO {literal(str(path))} (FORMAT parquet)"
                )
            context.ledger.record_baseline(baseline)
            return baseline


def outcomes(root: Place, baseline: Baseline) -> Place:
    """Where a baseline's rows lie below `root`, as `rows.shared` gives it: key, and whether it was right."""
    return root / "baselines" / baseline.workload / f"{baseline.baseline_id}.parquet"


def in_force(context: LoadContext, record: Load) -> Baseline | None:
    """The baseline that counts for a load: of a promoted one, the newest when it was promoted."""
    return context.ledger.baseline(record.workload, record.promoted_at)


def held_against(baseline: Baseline, record: Load, golden_set: str) -> RecordedBaseline:
    """A baseline beside a load; `apart` says why they cannot be compared."""
    apart = None
    if baseline.golden_fingerprint != golden_set:
        apart = "the golden set has changed since"
    elif baseline.fingerprint != record.fingerprint:
        apart = "the prompt, the contract or the tiers have changed since"
    return RecordedBaseline(
        baseline_id=baseline.baseline_id,
        correct=baseline.correct,
        n=baseline.n,
        load=baseline.load,
        recorded_by=baseline.recorded_by,
        recorded_at=baseline.recorded_at,
        apart=apart,
    )


def is_readable(rows: Place) -> bool:
    """Whether a baseline's rows are there and whole. Where they are lost, another can be recorded."""
    try:
        with closing(duckdb.connect()) as connection:
            register_stores(connection)
            connection.execute("SELECT key, correct FROM read_parquet(?) LIMIT 0", [str(rows)])
    except duckdb.Error as error:
        # A store that cannot be reached has lost nothing.
        if (said := behind(error)) is not None:
            raise said from None
        return False
    return True
