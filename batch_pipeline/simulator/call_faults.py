"""The scripted faults of single calls: which rule, if any, fires for the next call of a kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from .api_errors import ApiError
from .scenario import CallKind, CallRule

_MESSAGES = {
    401: "invalid x-api-key",
    404: "Not found",
    408: "Request timed out",
    413: "Request exceeds the maximum size",
    429: "This request would exceed your rate limit",
    504: "Gateway timeout",
    529: "Overloaded",
}


class CallFaults:
    """Counts calls by kind, for as long as the state lives."""

    def __init__(self, rules: Sequence[CallRule], counts: Mapping[str, int]) -> None:
        self._rules = rules
        self._counts: Counter[str] = Counter(counts)
        self._fired: Counter[tuple[str, str]] = Counter()

    @property
    def fired(self) -> dict[str, dict[str, int]]:
        """How often a rule fired since the start: by kind of call, then by fault."""
        by_kind: dict[str, dict[str, int]] = {}
        for (kind, fault), number in sorted(self._fired.items()):
            by_kind.setdefault(kind, {})[fault] = number
        return by_kind

    def next(self, kind: CallKind) -> CallRule | None:
        """The rule that hits this call."""
        self._counts[kind] += 1
        for rule in self._rules:
            if kind in rule.kinds and rule.fires(sum(self._counts[k] for k in rule.kinds)):
                self._fired[kind, rule.fault] += 1
                return rule
        return None


def error_of(rule: CallRule, default_status: int = 500) -> ApiError:
    """The answer of a rule that answers with a status."""
    status = rule.status or default_status
    message = rule.message or _MESSAGES.get(
        status, "Internal server error" if status >= 500 else "This request cannot be processed"
    )
    return ApiError(
        status,
        message,
        error_type=rule.error_type,
        error_code=rule.error_code,
        retry_after=rule.retry_after,
    )
