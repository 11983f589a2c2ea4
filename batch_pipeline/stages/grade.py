"""golden_score: grades the golden rows, takes the gate's decision, and writes the measures down."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import median

import duckdb
import pyarrow as pa

from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Batch, Load
from batch_pipeline.measure.mix import count_labels
from batch_pipeline.measure.savings import WRITES, Savings
from batch_pipeline.measure.slices import count_slices
from batch_pipeline.measure.spend import TOKENS
from batch_pipeline.stages.broken_slices import broken_tonight
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.cost_history import costs_table
from batch_pipeline.stages.kept_scorecards import keep_scorecard
from batch_pipeline.stages.measured import remember
from batch_pipeline.stages.review_status import review_measures
from batch_pipeline.stages.scorecard import Scorecard, measuring
from batch_pipeline.stages.trends import same_declaration
from batch_pipeline.warehouse import GateRecord, LoadRecord, Measure, write_metrics
from batch_pipeline.warehouse.history import NightMeasures, SliceNight, nights, slice_nights
from batch_pipeline.warehouse.prometheus import write_prometheus


def grade(context: LoadContext) -> Scorecard:
    """Measures a settled load and records measures, golden outcomes and the gate's decision.

    Raises PipelineError while rows are still open, or when they were purged.
    """
    with context.ledger.hold(context.workload.name, context.load):
        record = context.record()
        context.folder(record)
        with measuring(context) as (connection, card):
            require_settled(context, card)
            gate = card.gate
            assert gate is not None
            write_metrics(
                context.settings,
                _load_record(context, record, card),
                fingerprint=gate.fingerprint,
                measures=[
                    *measures_of(card),
                    *_turnaround(context.ledger.batches(record)),
                    *review_measures(context, record),
                ],
                gate=GateRecord(gate.promote, gate.reasons, gate.override_reason),
                costs=costs_table(card.savings, record.generation),
                **_counted(connection, context, card),
            )
            write_prometheus(context.settings)
            # First, so that a load that counts as graded always has it.
            keep_scorecard(context.shared, record, card)
            context.ledger.record_gate(record, promote=gate.promote, fingerprint=gate.fingerprint)
            remember(context, card)
            return card


def _load_record(context: LoadContext, record: Load, card: Scorecard) -> LoadRecord:
    golden, points = card.golden, context.workload.spec.gates.golden_drop_points
    common = LoadRecord(
        record.workload,
        record.load,
        record.generation,
        record.fingerprint,
        cancelled=record.cancelled,
    )
    if golden is None:
        return common
    return replace(
        common,
        golden_set=golden.golden_set,
        verdict=golden.verdict(points).value,
        lost=golden.paired.lost if golden.paired else None,
        won=golden.paired.won if golden.paired else None,
        p=golden.p,
        smallest_drop=golden.smallest_visible_drop(points),
        baseline_id=golden.recorded.baseline_id if golden.recorded else None,
        baseline_score=golden.baseline_score,
    )


def _counted(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, card: Scorecard
) -> dict[str, pa.Table]:
    """What is stored row by row: golden outcomes, slices, labels; those that the workload has."""
    spec, contract = context.workload.spec, context.workload.contract
    found: dict[str, pa.Table] = {}
    if card.golden:
        found["golden_outcomes"] = connection.sql(
            "SELECT key, tier, disposition, correct FROM golden_outcomes"
        ).to_arrow_table()
    # A load that was read before a slice was declared may not have the column.
    have = {row[0] for row in connection.execute("DESCRIBE source").fetchall()}
    if columns := [column for column in spec.slices if column in have]:
        count_slices(connection, columns, golden=card.golden is not None, sensitive=spec.sensitive)
        found["slices"] = _flagged(
            connection, context, card.golden.golden_set if card.golden else None
        )
    if labelled := [field.name for field in contract.fields if field.enum]:
        count_labels(connection, labelled)
        found["labels"] = connection.sql("FROM labels").to_arrow_table()
    return found


def _flagged(
    connection: duckdb.DuckDBPyConnection, context: LoadContext, golden_set: str | None
) -> pa.Table:
    """The slices of this load, each with whether it broke: later nights are not held against those."""
    where, name, load = context.settings, context.workload.name, context.load
    rows = connection.execute(
        "SELECT slice_column, slice, measure, good, n FROM slices ORDER BY ALL"
    ).fetchall()
    tonight = [SliceNight(load, *row) for row in rows]
    declared = NightMeasures(load, context.record().fingerprint, golden_set=golden_set)
    earlier = [night for night in nights(where, name, load) if night.load != load]
    since = same_declaration([*earlier, declared])
    fell = broken_tonight(tonight, slice_nights(where, name, load), since)
    names = {(b.column, b.slice, b.measure) for b in fell}
    return pa.table(
        {
            "slice_column": [s.column for s in tonight],
            "slice": [s.slice for s in tonight],
            "measure": [s.measure for s in tonight],
            "good": pa.array([s.good for s in tonight], pa.int64()),
            "n": pa.array([s.n for s in tonight], pa.int64()),
            "broken": [(s.column, s.slice, s.measure) in names for s in tonight],
        }
    )


def _turnaround(batches: Sequence[Batch]) -> list[Measure]:
    """Hours from a batch's creation to its end: the longest of the load, and the median."""
    hours = [
        (batch.ended_at - batch.created_at).total_seconds() / 3600
        for batch in batches
        if batch.ended_at is not None
    ]
    if not hours:
        return []
    longest, middle = max(hours), median(hours)
    return [
        Measure("turnaround_hours_max", longest, None, longest),
        Measure("turnaround_hours_median", middle, None, middle),
    ]


def require_settled(context: LoadContext, card: Scorecard) -> None:
    """Raises PipelineError unless every row of the load has its disposition."""
    if not card.settled:
        raise PipelineError(
            f"{context}: {max(card.unaccounted, 0):,} of {card.source_rows:,} source rows have no "
            "disposition yet; let the collect job run until none is open."
        )


def measures_of(card: Scorecard) -> list[Measure]:
    """The scorecard as rows of the metrics table."""
    measures = [
        Measure(name, rate.numerator, rate.denominator, rate.value)
        for name, rate in card.rates.items()
    ]
    measures += [
        Measure(name, amount, None, amount)
        for name, amount in (
            ("source_rows", card.source_rows),
            ("batches", card.batches),
            ("requests", card.requests),
            *card.dispositions.items(),
        )
    ]
    good = card.dispositions["validated"]
    measures.append(Measure("cost_usd", card.cost_usd, None, card.cost_usd))
    measures.append(
        Measure("cost_per_good_row_usd", card.cost_usd, good, card.cost_per_good_row_usd)
    )
    if card.golden is not None:
        golden = card.golden
        measures.append(Measure("golden_score", golden.correct, golden.n, golden.score))
    if card.spend is not None:
        tokens = card.spend.tokens
        inputs = sum(tokens[kind] for kind in TOKENS if kind != "output")
        measures.append(
            Measure("cache_hit_rate", tokens["cache_read"], inputs, card.spend.cache_hit_rate)
        )
        measures += [Measure(f"tokens_{kind}", n, None, n) for kind, n in tokens.items()]
        measures += [Measure(f"usd_{kind}", usd, None, usd) for kind, usd in card.spend.usd.items()]
        measures += [
            Measure(f"usd_tier_{tier}", usd, None, usd)
            for tier, usd in card.spend.usd_by_tier.items()
        ]
    if card.foreseen_usd is not None:
        expected, most = card.foreseen_usd
        measures.append(Measure("estimate_usd", expected, None, expected))
        measures.append(Measure("estimate_bound_usd", most, None, most))
    if card.savings is not None:
        measures += _saved(card.savings)
    return measures


def _saved(savings: Savings) -> list[Measure]:
    """What was saved, and how often the cached prefix was found: read, of what was read or written."""
    read, written = savings.tokens("cache_read"), savings.tokens(*WRITES)
    amounts = {
        "synchronous_usd": savings.synchronous_usd,
        "saved_batch_usd": savings.saved_batch_usd,
        "saved_cache_usd": savings.saved_cache_usd,
        "asked_once_usd": savings.asked_once_usd,
    }
    return [
        *(Measure(name, float(usd), None, float(usd)) for name, usd in amounts.items()),
        Measure("prefix_hit_share", read, read + written, savings.prefix_hit_share),
    ]
