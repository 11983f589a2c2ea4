"""What became of a load, in one word and one sentence."""

from collections.abc import Sequence
from dataclasses import dataclass

from batch_pipeline.measure.gate import GateDecision
from batch_pipeline.report.facts import PageFacts
from batch_pipeline.report.wording import plural
from batch_pipeline.stages.scorecard import Scorecard, rollback_sentence

# How a thing stands, by the shape that shows it beside its word.
SHAPES = {"good": "✓", "watch": "◆", "bad": "✕", "open": "…", "none": "○"}


@dataclass(frozen=True)
class Banner:
    """The banner: one word, one sentence, and the reasons behind them."""

    state: str
    word: str
    sentence: str
    reasons: Sequence[str] = ()

    @property
    def shape(self) -> str:
        return SHAPES[self.state]


def banner_of(facts: PageFacts) -> Banner:
    """What became of the load."""
    card, record, gate = facts.card, facts.record, facts.card.gate
    if record is not None and record.cancelled:
        reason = f": {record.cancel_reason}" if record.cancel_reason else ""
        return Banner(
            "bad", "Cancelled", f"The load was cancelled{reason}.", gate.reasons if gate else ()
        )
    if record is not None and record.rolled_back and gate is not None and not gate.promote:
        said = rollback_sentence(record)
        return Banner("bad", "Rolled back", f"The promotion was undone {said}.", gate.reasons)
    if gate is None:
        return _undecided(card)
    return _decided(card, gate)


def _undecided(card: Scorecard) -> Banner:
    if not card.source_rows:
        return Banner("open", "Not begun", "No source rows were read yet.")
    left = max(card.unaccounted, 0)
    return Banner(
        "open",
        "In flight",
        f"{plural(left, 'row')} of {card.source_rows:,} {'has' if left == 1 else 'have'} no disposition yet; "
        "the gate decides when every row has one.",
    )


def _decided(card: Scorecard, gate: GateDecision) -> Banner:
    if not gate.promote:
        return Banner("bad", "Held", f"Not promoted: {gate.reasons[0]}.", gate.reasons[1:])
    promoted = f"{plural(card.promoted_rows, 'row is', 'rows are')} in the system of record"
    if gate.override_reason is not None:
        said = promoted if card.promoted_rows else "nothing is promoted yet"
        word = "Promoted by override" if card.promoted_rows else "Overridden"
        sentence = (
            f"The gate was closed and a person opened it, saying “{gate.override_reason}”; {said}."
        )
        return Banner(
            "watch", word, sentence, [r for r in gate.reasons if not r.startswith("override: ")]
        )
    if card.promoted_rows:
        return Banner("good", "Promoted", f"The gate let it through; {promoted}.", gate.reasons)
    return Banner(
        "good",
        "May be promoted",
        "The gate lets it through; nothing is promoted yet.",
        gate.reasons,
    )
