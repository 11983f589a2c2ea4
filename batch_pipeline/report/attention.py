"""What needs a person: the most urgent first, each with what to do."""

from collections.abc import Iterator
from dataclasses import dataclass

from batch_pipeline.report.facts import PageFacts
from batch_pipeline.report.wording import percent, plain, plural
from batch_pipeline.stages.review_status import ReviewStatus
from batch_pipeline.stages.scorecard import Scorecard
from batch_pipeline.stages.trends import Level

# By urgency; each with the shape that stands beside its word.
LEVELS = {"leak": "✕", "held": "✕", "page": "▲", "watch": "◆", "review": "●", "note": "○"}


@dataclass(frozen=True)
class Item:
    """One thing to look at. `command` can be typed as it is."""

    level: str
    title: str
    sentence: str
    command: str | None = None

    @property
    def shape(self) -> str:
        return LEVELS[self.level]


def needs_a_person(facts: PageFacts) -> list[Item]:
    """Everything of this load that somebody should know or do."""
    items = [
        *_leak(facts.card),
        *_gate(facts),
        *(Item("page" if one.page else "note", "Sending", one.sentence) for one in facts.findings),
        *(
            Item(trend.level.value, f"Trend of {plain(measure)}", trend.sentence)
            for measure, trend in facts.trends.items()
            if trend.level in (Level.WATCH, Level.PAGE)
        ),
        *_slices(facts),
        *(
            Item("note", f"Unusual {plain(one.name)}", one.sentence)
            for one in facts.noticed
            if one.unusual
        ),
        *_rows(facts),
    ]
    order = list(LEVELS)
    return sorted(items, key=lambda item: order.index(item.level))


def _leak(card: Scorecard) -> Iterator[Item]:
    if card.settled and card.unaccounted:
        yield Item(
            "leak",
            "Rows are unaccounted for",
            f"{abs(card.unaccounted):,} of {card.source_rows:,} source rows have no disposition, or more than "
            "one. Promotion is stopped and cannot be overridden; report it.",
            _command("dispositions", card, "--to", "dispositions.csv"),
        )
    if not card.batches_reconciled:
        yield Item(
            "leak",
            "A batch does not add up",
            "Its results do not add up to the requests sent in it; the check results_complete names it.",
        )


def _gate(facts: PageFacts) -> Iterator[Item]:
    card, record = facts.card, facts.record
    if record is not None and record.cancelled:
        yield Item(
            "held",
            "The load was cancelled",
            "Nothing more of it is sent. To begin it anew, and pay for it again, send it again.",
            _command("run", card, "--resend"),
        )
    elif _needs_a_baseline(card):
        yield Item(
            "held",
            "A new baseline is needed",
            "The prompt, the contract, the tiers or the golden set have changed. Look at the golden answers; if they "
            "are good enough, accept them, then run the load again.",
            _command("baseline record", card, "--reason", "'why they are good enough'"),
        )
    elif card.gate is not None and not card.gate.promote:
        yield Item(
            "held",
            "The gate is closed",
            "Look at the failing answers and mend the prompt; or promote it all the same, with a reason that is "
            "recorded. The reasons are at the top of this page.",
            _command("promote", card, "--reason", "'why it may go out'"),
        )


def _needs_a_baseline(card: Scorecard) -> bool:
    golden = card.golden
    return (
        card.gate is not None
        and not card.gate.promote
        and golden is not None
        and golden.recorded is not None
        and golden.recorded.apart is not None
    )


def _slices(facts: PageFacts) -> Iterator[Item]:
    for one in facts.broken:
        yield Item(
            "page" if facts.spec.trends.page else "watch",
            f"Slice {one.slice} broke",
            f"{plain(one.measure).capitalize()} where {one.column} is {one.slice}: {percent(one.tonight, 1)} of "
            f"{plural(one.n, 'row')}, usually {percent(one.usual, 1)}.",
        )


def _rows(facts: PageFacts) -> Iterator[Item]:
    card = facts.card
    waiting = card.dispositions["human_review"]
    if facts.review is not None:
        waiting = facts.review.left
        if facts.review.decided:
            yield Item("note", "Review", _reviewed(facts.review))
    if waiting:
        yield Item(
            "review",
            f"{plural(waiting, 'row waits', 'rows wait')} for review",
            "No tier gave an answer that meets the contract.",
            _command("review export", card, "--to", f"review_{card.load}.csv"),
        )
    quarantined = card.dispositions["quarantined"]
    if quarantined:
        yield Item(
            "note",
            f"{plural(quarantined, 'row is', 'rows are')} quarantined",
            "The API gave no answer to them; the reasons are below, and each row with its own is in this file.",
            _command("dispositions", card, "--to", "dispositions.csv"),
        )
    if card.unpriced_requests:
        yield Item(
            "note",
            "The cost is a lower bound",
            f"What {plural(card.unpriced_requests, 'request')} cost is not known: their results are gone from the API, "
            "or their synchronous answers were lost and may have been charged.",
        )


def _reviewed(review: ReviewStatus) -> str:
    said = (
        f"{review.decided:,} of {plural(review.rows, 'row')} decided: {review.accepted:,} accepted as the model "
        f"answered, {review.fixed:,} fixed, {review.dropped:,} dropped"
    )
    return f"{said}. What is promoted holds {'them' if review.promoted else 'not all of them yet'}."


def _command(name: str, card: Scorecard, *more: str) -> str:
    verb, _, rest = name.partition(" ")
    words = ["batch-pipeline", verb, *([rest] if rest else []), card.workload, "--date", card.load]
    return " ".join([*words, *more])
