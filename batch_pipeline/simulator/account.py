"""What the simulator has accepted and billed, for tests and for people."""

from __future__ import annotations

import time
from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from itertools import groupby
from typing import Any

from .batches import Batches
from .results import RESULT_TYPES
from .scenario import Scenario
from .store import Store

Calls = dict[str, Counter[str]]


class CallLog:
    """Calls by kind and by what they ended with: an HTTP status, or `dropped`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.begun: Counter[str] = Counter()
        self.ended: Calls = {}
        for kind, status in store.logged_calls():
            self._add(kind, status)

    def begin(self, kind: str) -> None:
        self._add(kind, "")
        self._store.log_call(kind, "")

    def end(self, kind: str, status: str) -> None:
        self._add(kind, status)
        self._store.log_call(kind, status)

    def _add(self, kind: str, status: str) -> None:
        if status:
            self.ended.setdefault(kind, Counter())[status] += 1
        else:
            self.begun[kind] += 1


def account(batches: Batches, store: Store, calls: CallLog) -> dict[str, Any]:
    """The body of GET /simulator/account, but for `faults`: how often the rules for calls fired since the start.

    `batches` is newest first. `tokens` and `params_billed` count batches that have ended; the latter
    says how many distinct params were billed once, twice, ...: more than once is paid twice, unless
    the caller has equal rows. `messages` counts single messages. `arrived` counts the calls with a valid key as
    they come in, `calls` all of them as they end.
    """
    now = time.time()
    tokens: dict[str, Counter[str]] = {}
    digests: list[int] = []
    totals: Counter[str] = Counter(dict.fromkeys(RESULT_TYPES, 0))
    listed = []
    for batch in batches.all():
        record, ended = batch.record, batch.ended(now)
        listed.append(
            {
                "id": record.id,
                "created_at": batch.describe(now, "")["created_at"],
                "requests": record.requests,
                "bytes": record.bytes,
                "sha256": record.sha256,
                "status": "deleted" if record.deleted else batch.describe(now, "")["processing_status"],
                "counts": batch.outcome.counts if ended and batch.outcome else None,
            }
        )  # fmt: skip
        if ended and batch.outcome is not None:
            totals.update(batch.outcome.counts)
            totals["billed"] += batch.outcome.billed
            totals["from_answer_key"] += batch.outcome.from_key
            digests.extend(store.billed(record))
            for model, spent in batch.outcome.tokens.items():
                tokens.setdefault(model, Counter()).update(spent)
    digests.sort()
    histogram = Counter(sum(1 for _ in same) for _, same in groupby(digests))
    messages_billed, message_tokens = batches.message_account()
    return {
        "batches": listed,
        "requests": {"accepted": sum(b["requests"] for b in listed), **totals},
        "tokens": tokens,
        "params_billed": {str(times): n for times, n in sorted(histogram.items())},
        "messages": {"billed": messages_billed, "tokens": message_tokens},
        "arrived": calls.begun,
        "calls": calls.ended,
    }


def greeting(batches: Batches, scenario: Scenario) -> str:
    """The text of GET /simulator."""
    try:
        release = version("batch-pipeline")
    except PackageNotFoundError:
        release = "(not installed)"
    now = time.time()
    source = f"answers from {scenario.answers.file.name}" if scenario.answers else "made-up answers"
    lines = [
        f"This is batch-pipeline's simulator of the Message Batches API, version {release}.",
        "No model answers here: answers come from an answer key or are made up.",
        "",
        f"Scenario: {scenario.description or '(no description)'}; seed {scenario.seed}; {source}.",
        "",
    ]
    lines += [
        f"{b.record.id}  {b.record.requests:>7} requests  {b.describe(now, '')['processing_status']}"
        for b in batches.all()
        if not b.record.deleted
    ]
    if len(lines) == 5:
        lines.append("No batches yet.")
    return "\n".join(lines) + "\n"
