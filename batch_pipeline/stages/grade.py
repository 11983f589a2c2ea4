"""golden_score: grades the golden rows, takes the gate's decision, and writes the measures down."""

from batch_pipeline.errors import PipelineError
from batch_pipeline.measure.spend import TOKENS
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.kept_scorecards import keep_scorecard
from batch_pipeline.stages.scorecard import Scorecard, measuring
from batch_pipeline.warehouse import GateRecord, Measure, write_metrics


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
                context.settings.state,
                workload=card.workload,
                load=card.load,
                fingerprint=gate.fingerprint,
                measures=measures_of(card),
                golden_outcomes=connection.sql(
                    "SELECT key, tier, disposition, correct FROM golden_outcomes"
                ).to_arrow_table()
                if card.golden
                else None,
                gate=GateRecord(gate.promote, gate.reasons, gate.override_reason),
            )
            # First, so that a load that counts as graded always has it.
            keep_scorecard(context.settings.state, record, card)
            context.ledger.record_gate(record, promote=gate.promote, fingerprint=gate.fingerprint)
            return card


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
    return measures
