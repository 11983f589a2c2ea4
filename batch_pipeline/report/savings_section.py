"""What a page says of the costs: what it would have cost, what was saved, and what the dollars were spent on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from batch_pipeline.measure.savings import WRITES, Savings
from batch_pipeline.report.wording import UNKNOWN, percent, plural, usd
from batch_pipeline.stages.scorecard import Scorecard

_PART_WORDS = {
    "golden": "Golden rows",
    "first_answers": "First answers",
    "retries": "Retries",
    "escalations": "Escalations",
    "paid_twice": "Paid twice",
    "resent": "Earlier sendings",
}
_ENDINGS = {
    "quarantined": "of which quarantined",
    "human_review": "of which in human review",
}


@dataclass(frozen=True)
class Step:
    """A bar from one amount to another; `start` and `width` are shares of the longest."""

    words: str
    amount: str
    share: str  # of the synchronous price
    start: float
    width: float
    lost: bool = False


@dataclass(frozen=True)
class Part:
    words: str
    requests: str
    spent: str
    of_good_row: str
    share: float | None  # None: it is within the parts above


@dataclass(frozen=True)
class SavingsSection:
    """The costs as the page shows them."""

    steps: Sequence[Step]
    parts: Sequence[Part]
    caching: str
    asked_once: str
    month: str


def savings_section(card: Scorecard, month: Sequence[Mapping[str, Any]]) -> SavingsSection | None:
    """The section of a load, or None where nothing was spent or saved, or nothing is known but the spend.

    Args:
        card: the load.
        month: the savings of its month's loads up to and with it, as metrics.savings has them.
    """
    savings = card.savings
    if savings is None or not (savings.spent_usd or savings.asked_once_rows):
        return None
    return SavingsSection(
        steps=_steps(savings),
        parts=_parts(savings, card.dispositions["validated"]),
        caching=_caching(savings),
        asked_once=_asked_once(savings),
        month=_month(month),
    )


def _steps(savings: Savings) -> list[Step]:
    """From the synchronous price to what was spent. A batch halves what the cache has left."""
    whole, spent = float(savings.synchronous_usd), float(savings.spent_usd)
    cached = whole - float(savings.saved_cache_usd)
    longest = max(whole, cached) or 1.0

    def step(words: str, amount: float, low: float, high: float, *, lost: bool = False) -> Step:
        share = percent(abs(amount) / whole, 1) if whole else UNKNOWN
        return Step(words, usd(abs(amount)), share, low / longest, (high - low) / longest, lost)

    lost = cached > whole
    words = "Lost by caching" if lost else "Saved by caching"
    steps = [
        step("One by one, without a cache", whole, 0.0, whole),
        step(words, whole - cached, min(cached, whole), max(cached, whole), lost=lost),
    ]
    if savings.saved_batch_usd:
        steps.append(step("Saved by batching", cached - spent, spent, cached))
    return [*steps, step("Spent", spent, 0.0, spent)]


def _parts(savings: Savings, good: int) -> list[Part]:
    spent = float(savings.spent_usd)
    found = []
    for part, amount in savings.parts.items():
        requests = sum(line.requests for line in savings.lines if line.part == part)
        if not amount and not requests:
            continue
        each = float(amount)
        found.append(
            Part(
                _PART_WORDS[part],
                f"{requests:,}" if requests else UNKNOWN,
                usd(each),
                usd(each / good if good else None),
                each / spent if spent else 0.0,
            )
        )
    for disposition, words in _ENDINGS.items():
        if amount := savings.on(disposition):
            each = float(amount)
            found.append(Part(words, "", usd(each), usd(each / good if good else None), None))
    return found


def _caching(savings: Savings) -> str:
    found, share = savings.prefix_hit_share, savings.saved_cache_share
    if found is None:
        return "Nothing was written to a cache or read from one."
    read, written = savings.tokens("cache_read"), savings.tokens(*WRITES)
    saved = savings.saved_cache_usd
    word = "saved" if saved >= 0 else "lost"
    return (
        f"Of the cached prefix {percent(found, 1)} was read rather than written ({read:,} of "
        f"{read + written:,} tokens), and {percent(savings.request_hit_share, 1)} of the requests with one "
        f"found it. Caching {word} {usd(float(abs(saved)))} at full prices, {percent(abs(share or 0.0), 1)} of "
        "what the input costs without it."
    )


def _asked_once(savings: Savings) -> str:
    rows = savings.asked_once_rows
    if not rows:
        return ""
    verb = "was" if rows == 1 else "were"
    return (
        f"{plural(rows, 'row')} {verb} not asked, since the answer was there: about "
        f"{usd(float(savings.asked_once_usd))} at the mean price of a request, beside the sum above."
    )


def _month(month: Sequence[Mapping[str, Any]]) -> str:
    """What the month has cost so far."""
    if not month:
        return ""
    total = {
        name: float(sum(line[name] for line in month))
        for name in ("synchronous_usd", "spent_usd", "asked_once_usd")
    }
    good = sum(line["good_rows"] or 0 for line in month)
    whole, spent = total["synchronous_usd"], total["spent_usd"]
    said = (
        f"{date.fromisoformat(month[-1]['load']):%B %Y} up to this load: {plural(len(month), 'load')}, "
        f"{usd(spent)} spent instead of {usd(whole)}"
    )
    if whole:
        said += f" ({percent((whole - spent) / whole, 1)} saved)"
    if good:
        said += f", {usd(spent / good)} for each of {plural(good, 'good row')}"
    if total["asked_once_usd"]:
        said += f"; rows asked once saved about {usd(total['asked_once_usd'])} more"
    return f"{said}."
