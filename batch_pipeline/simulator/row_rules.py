"""The scripted faults of single requests: which rule, if any, fires for the next request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .prompt import user_texts
from .scenario import RowRule


class RowRules:
    """Counts matches over all batches, in the order in which requests arrive."""

    def __init__(self, rules: Sequence[RowRule], counts: Sequence[Sequence[int]] = ()) -> None:
        """`counts` is what `counts()` gave earlier for the same rules; others are ignored."""
        self.rules = list(rules)
        self._reads_text = any(rule.contains is not None for rule in rules)
        known = len(counts) == len(rules)
        self._counts = [list(c) for c in counts] if known else [[0, 0] for _ in rules]

    def __bool__(self) -> bool:
        return bool(self.rules)

    def counts(self) -> list[list[int]]:
        """For each rule: requests matched, and times fired."""
        return [list(count) for count in self._counts]

    def restore(self, counts: list[list[int]]) -> None:
        self._counts = counts

    def next(self, params: dict[str, Any]) -> int | None:
        """Index of the rule that fires for this request."""
        text = "\n".join(user_texts(params)) if self._reads_text else ""
        for i, (rule, count) in enumerate(zip(self.rules, self._counts, strict=True)):
            if rule.contains is not None and rule.contains not in text:
                continue
            if rule.model is not None and rule.model != params.get("model"):
                continue
            count[0] += 1
            if count[0] % rule.every or (rule.times is not None and count[1] >= rule.times):
                continue
            count[1] += 1
            return i
        return None
