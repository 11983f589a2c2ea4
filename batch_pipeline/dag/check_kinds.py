"""What each asset check is to a person: does it look ahead or back, and does it page or is it only logged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from batch_pipeline.alerts.conditions import LAGGING, LEADING, LOG, PAGE


@dataclass(frozen=True)
class CheckKind:
    """`kind` is leading or lagging, `severity` is page or log."""

    kind: str
    severity: str

    @property
    def dagster_severity(self) -> dg.AssetCheckSeverity:
        error, warn = dg.AssetCheckSeverity.ERROR, dg.AssetCheckSeverity.WARN
        return error if self.severity == PAGE else warn

    @property
    def metadata(self) -> Mapping[str, Any]:
        """For the check's result; its own `severity` cannot be seen in Dagster's lists."""
        return {
            "kind": dg.MetadataValue.text(self.kind),
            "severity": dg.MetadataValue.text(self.severity),
        }


_KINDS = {
    "cost_estimate": CheckKind(LEADING, PAGE),
    "sending": CheckKind(LEADING, PAGE),
    "results_complete": CheckKind(LEADING, PAGE),
    "output_contract": CheckKind(LEADING, LOG),
    "user_checks": CheckKind(LEADING, LOG),
    "coverage": CheckKind(LEADING, PAGE),
    "golden_gate": CheckKind(LEADING, PAGE),
    "slices": CheckKind(LEADING, PAGE),
    "trend_validity": CheckKind(LEADING, PAGE),
    "trend_escalation_rate": CheckKind(LEADING, PAGE),
    "trend_golden_score": CheckKind(LEADING, PAGE),
    "trend_truncation_rate": CheckKind(LEADING, PAGE),
    "trend_refusal_rate": CheckKind(LEADING, PAGE),
    "trend_expired_rate": CheckKind(LAGGING, LOG),
    "label_mix": CheckKind(LAGGING, LOG),
    "cost_per_good_row": CheckKind(LAGGING, LOG),
    "cache_hits": CheckKind(LAGGING, LOG),
    "cache_pays": CheckKind(LAGGING, LOG),
}

# The ledger says these better, and at every moment: the gate's decision and the findings of the sending.
LEDGER_CHECKS = frozenset({"cost_estimate", "sending", "coverage", "golden_gate"})


def kind_of(check: str) -> CheckKind:
    """A check that is not listed, a team's own say, is loud until somebody lists it."""
    return _KINDS.get(check, CheckKind(LEADING, PAGE))
