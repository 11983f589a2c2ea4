"""The measures of a load, computed from its files and the ledger: the same for the CLI, Dagster and the gate.

Works on a load at any moment; the gate's decision is only there once every row has a disposition.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import duckdb

from batch_pipeline.claude.prices import load_prices
from batch_pipeline.ledger import Batch, Chunk, ChunkState, Load
from batch_pipeline.ledger.records import Phase
from batch_pipeline.measure.gate import GateDecision, decide
from batch_pipeline.measure.golden import (
    GoldenScore,
    golden_score,
    golden_set,
    grade_rows,
    pair_outcomes,
)
from batch_pipeline.measure.rates import Rate, disposition_reasons, dispositions, rates, unasked
from batch_pipeline.measure.savings import Savings
from batch_pipeline.measure.spend import Spend
from batch_pipeline.stages.baseline import held_against, in_force, is_readable, outcomes
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.costs import costs_of
from batch_pipeline.stages.decisions import fingerprint_of_people
from batch_pipeline.stages.load_tables import load_answers, load_tables, paid_for
from batch_pipeline.stages.plan import kept_plan

_RESULTS = ("succeeded", "errored", "canceled", "expired")


@dataclass(frozen=True)
class Scorecard:
    """The measures of one load. Rates are shares; money is US dollars; None means not known yet."""

    workload: str
    load: str
    settled: bool
    source_rows: int
    golden_rows: int
    dispositions: dict[str, int]
    reasons: list[tuple[str, str, int]]
    rates: dict[str, Rate]
    spend: Spend | None
    golden: GoldenScore | None
    gate: GateDecision | None
    batches: int
    requests: int
    results: dict[str, int]
    batches_reconciled: bool
    promoted_rows: int
    answered_by: tuple[str, ...] = ()
    requests_by_tier: dict[int, int] = field(default_factory=dict)
    # Requests whose results the API no longer has, or whose synchronous answer was lost: what they cost is not
    # known, so the cost is at least this.
    unpriced_requests: int = 0
    # Source rows without a request of their own: they share one's answer, or keep that of an earlier load.
    asked_once: int = 0
    reused: int = 0
    savings: Savings | None = None
    # What the load should cost, and at most, before anything of it was sent; None of loads without a plan.
    foreseen_usd: tuple[float, float] | None = None

    @property
    def cost_usd(self) -> float:
        return self.spend.total_usd if self.spend else 0.0

    @property
    def cost_per_good_row_usd(self) -> float | None:
        good = self.dispositions["validated"]
        return self.cost_usd / good if good else None

    @property
    def unaccounted(self) -> int:
        return self.source_rows - sum(self.dispositions.values())

    def to_json(self) -> dict[str, Any]:
        """The scorecard as `--json` prints it: plain numbers, rates as shares, None where unknown."""
        return {
            "workload": self.workload,
            "load": self.load,
            "source_rows": self.source_rows,
            "dispositions": self.dispositions,
            "coverage": self._rate("coverage"),
            "validity": self._rate("validity"),
            "validity_all_tiers": self._rate("validity_all_tiers"),
            "escalation_rate": self._rate("escalation_rate"),
            "cost_usd": round(self.cost_usd, 9),
            "cost_per_good_row_usd": self.cost_per_good_row_usd,
            "unpriced_requests": self.unpriced_requests,
            "golden": self.golden
            and {
                "score": self.golden.score,
                "n": self.golden.n,
                "baseline": self.golden.baseline_score,
                "drop_points": self.golden.drop_points,
            },
            "baseline": _baseline_json(self.golden),
            "gate": self.gate and {"promote": self.gate.promote, "reasons": self.gate.reasons},
            "batches": self.batches,
            "requests": self.requests,
            "results": self.results,
            "tokens": self.spend.tokens if self.spend else {},
            "cache_hit_rate": self.spend.cache_hit_rate if self.spend else None,
            "promoted_rows": self.promoted_rows,
            "asked_once": self.asked_once,
            "reused": self.reused,
            "estimate": self.foreseen_usd
            and {"usd": self.foreseen_usd[0], "bound_usd": self.foreseen_usd[1]},
            "savings": self.savings and self.savings.to_json(self.dispositions["validated"]),
        }

    def _rate(self, name: str) -> float | None:
        rate = self.rates.get(name)
        return rate.value if rate else None


def _baseline_json(golden: GoldenScore | None) -> dict[str, Any] | None:
    """How the golden rows compare with a recorded baseline; None where none counts."""
    if golden is None or golden.recorded is None:
        return None
    return {
        "recorded_at": golden.recorded.recorded_at.isoformat(),
        "recorded_by": golden.recorded.recorded_by,
        "load": golden.recorded.load,
        "lost": golden.paired and golden.paired.lost,
        "won": golden.paired and golden.paired.won,
        "p": golden.p,
        "apart": golden.recorded.apart,
    }


def empty_scorecard(workload: str, load: str) -> Scorecard:
    """The scorecard of a load that was never begun."""
    return Scorecard(
        workload=workload,
        load=load,
        settled=False,
        source_rows=0,
        golden_rows=0,
        dispositions={"validated": 0, "quarantined": 0, "human_review": 0},
        reasons=[],
        rates={},
        spend=None,
        golden=None,
        gate=None,
        batches=0,
        requests=0,
        results=dict.fromkeys(_RESULTS, 0),
        batches_reconciled=True,
        promoted_rows=0,
    )


def measure_load(context: LoadContext) -> Scorecard:
    """Computes the scorecard. Reads the load's files and the ledger; writes nothing."""
    with measuring(context) as (_, card):
        return card


def to_promote_anew(context: LoadContext, card: Scorecard) -> bool:
    """Whether a promoted load has answers of people that are not promoted yet, and may be."""
    record = context.record()
    return (
        record.purged_at is None
        and card.gate is not None
        and card.gate.promote
        and card.gate.fingerprint != record.promoted_fingerprint
    )


@contextmanager
def measuring(
    context: LoadContext, override_reason: str | None = None
) -> Iterator[tuple[duckdb.DuckDBPyConnection, Scorecard]]:
    """The scorecard, with the connection that still holds the tables behind it.

    Args:
        context: the load.
        override_reason: a reason given now, beside those on record.

    Of a purged load it is the scorecard that was kept, and no tables are behind it.
    """
    record = context.ledger.load(context.workload.name, context.load)
    with context.querying() as connection:
        if record is None:
            yield connection, empty_scorecard(context.workload.name, context.load)
            return
        if record.purged_at is not None:
            from batch_pipeline.stages.kept_scorecards import kept_scorecard

            yield connection, kept_scorecard(context.shared, record)
            return
        load_tables(connection, context, record)
        yield connection, _scorecard(connection, context, record, override_reason)


def _scorecard(
    connection: duckdb.DuckDBPyConnection,
    context: LoadContext,
    record: Load,
    override_reason: str | None,
) -> Scorecard:
    spec = context.workload.spec
    folder = context.folder(record)
    accepted = (ChunkState.SUBMITTED, ChunkState.DUPLICATE)
    chunks = [c for c in context.ledger.chunks(record) if c.state in accepted]
    batches = context.ledger.batches(record)
    measured = rates(connection, record.source_rows)
    settled = record.phase is Phase.SETTLED
    changed = _changed(context, record)
    load_answers(connection, context, record, folder)
    golden = None
    if spec.golden is not None and record.golden_rows and not changed:
        golden = graded(connection, context, record)
    paid = paid_for(context, record)
    priced_on = batches[0].created_at.date() if batches else datetime.now(UTC).date()
    spend = paid.measure(connection, load_prices(context.settings.prices), priced_on)
    unpriced, unpriced_usd = paid.unpriced(connection)
    reconciled = batches_reconcile(chunks, batches)
    by_tier: dict[int, int] = {}
    for chunk in chunks:
        by_tier[chunk.tier] = by_tier.get(chunk.tier, 0) + chunk.requests
    counted = dispositions(connection)
    asked_once, reused = unasked(connection)
    gate = None
    if settled:
        fingerprint = fingerprint_rows(connection, record)
        fingerprint += _mark_of_rollback(record) + fingerprint_of_people(connection, folder)
        override = context.ledger.override(record.workload, record.load, fingerprint)
        gate = decide(
            gates=spec.gates,
            coverage=measured["coverage"],
            validated=counted["validated"],
            changed=changed,
            ungraded=spec.golden is not None and not record.golden_rows,
            batches_reconciled=reconciled,
            validity=measured["validity"],
            golden=golden,
            cost_usd=spend.total_usd,
            unpriced=unpriced,
            unpriced_usd=unpriced_usd,
            fingerprint=fingerprint,
            override_reason=override.reason if override else override_reason,
            cancelled=record.cancel_reason,
            reused=reused,
            rolled_back=rollback_sentence(record),
        )
        if changed and record.promoted_at is not None:
            said = f"promoted at {record.promoted_at:%Y-%m-%d %H:%M} UTC; the declaration changed since"
            gate = GateDecision(True, [said], record.promoted_fingerprint or fingerprint)
    elif record.held_by is not None and record.stopped is not None:
        # Closed before all was sent; no row is promoted, so it names none.
        gate = GateDecision(False, [record.stopped.rstrip(".")], "")
    plan = kept_plan(folder)
    return Scorecard(
        workload=record.workload,
        load=record.load,
        settled=settled,
        source_rows=record.source_rows,
        golden_rows=record.golden_rows,
        dispositions=counted,
        reasons=disposition_reasons(connection),
        rates=measured,
        spend=spend,
        golden=golden if settled or record.held_by == "pilot" else None,
        gate=gate,
        batches=len(batches),
        requests=sum(chunk.requests for chunk in chunks),
        results={kind: sum(getattr(b, kind) for b in batches) for kind in _RESULTS},
        batches_reconciled=reconciled,
        promoted_rows=record.promoted_rows or 0,
        answered_by=tuple(sorted({batch.api for batch in batches if batch.api})),
        requests_by_tier=by_tier,
        unpriced_requests=unpriced,
        asked_once=asked_once,
        reused=reused,
        savings=costs_of(connection, context, record, priced_on),
        foreseen_usd=plan.foreseen_usd if plan else None,
    )


def graded(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, record: Load
) -> GoldenScore:
    """The golden score of a load, beside the baseline that counts for it."""
    spec = context.workload.spec.golden
    assert spec is not None
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE golden AS SELECT _row AS row, * EXCLUDE (_row) "
        "FROM read_parquet(?)",
        [str(context.folder(record).golden)],
    )
    grade_rows(connection, context.workload.contract, spec.match)
    inputs = context.workload.prompt.columns
    golden = replace(
        golden_score(connection, spec.baseline),
        golden_set=golden_set(connection, sorted(inputs), spec.match),
    )
    baseline = in_force(context, record)
    if baseline is None or golden.golden_set is None:
        return golden
    recorded = held_against(baseline, record, golden.golden_set)
    if baseline.golden_fingerprint != golden.golden_set:
        return replace(golden, recorded=recorded)
    rows = outcomes(context.shared, baseline)
    if not is_readable(rows):
        return replace(golden, recorded=replace(recorded, apart=f"its rows, {rows}, are lost"))
    return replace(golden, recorded=recorded, paired=pair_outcomes(connection, str(rows)))


def _changed(context: LoadContext, record: Load) -> str | None:
    """Why the answers of this load can no longer be graded or promoted; None where they can."""
    if context.workload.fingerprint() != record.fingerprint:
        return (
            "the key, the prompt, the output contract or the tiers changed since this load was begun; "
            "restore them, or send the load again with --resend"
        )
    return None


def rollback_sentence(record: Load) -> str | None:
    """By whom, when and why its promotion was last undone; None of a load whose promotion never was."""
    if record.rolled_back_at is None:
        return None
    said = f"by {record.rolled_back_by} at {record.rolled_back_at:%Y-%m-%d %H:%M} UTC"
    return f"{said}: {record.rollback_reason}"


def _mark_of_rollback(record: Load) -> str:
    """Makes another fingerprint of the same rows, so that what opened the gate before a rollback does not now."""
    if record.rolled_back_at is None:
        return ""
    moment = record.rolled_back_at.isoformat().encode()
    return f"-r{hashlib.sha256(moment).hexdigest()[:8]}"


def batches_reconcile(chunks: list[Chunk], batches: list[Batch]) -> bool:
    """Whether each collected batch's counts add up to the requests sent in it.

    A batch whose results are gone has no counts to compare; its rows are quarantined one by one.
    """
    sent = {chunk.chunk_id: chunk.requests for chunk in chunks}
    return all(
        batch.succeeded + batch.errored + batch.canceled + batch.expired == sent.get(batch.chunk_id)
        for batch in batches
        if batch.collected_at is not None and not batch.results_gone
    )


def fingerprint_rows(connection: duckdb.DuckDBPyConnection, record: Load) -> str:
    """Names the exact set of dispositions and answers that a promotion would write."""
    rows, digest = connection.execute(
        "SELECT count(*), bit_xor(md5_number(concat_ws('|', row, key, disposition, chunk_id))) FROM rows"
    ).fetchall()[0]
    return f"g{record.generation}-{rows}-{digest or 0:032x}"
