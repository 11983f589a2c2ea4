"""One look, and telling whom it concerns: what the sensor does every half minute, and `run` at its end."""

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass

from batch_pipeline.alerts.conditions import ledger_conditions
from batch_pipeline.alerts.config import usable_config
from batch_pipeline.alerts.deliver import Attempt, deliver
from batch_pipeline.alerts.reconcile import Look, Reconciled, reconcile
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Ledger
from batch_pipeline.ledger.alerting import Alert
from batch_pipeline.ledger.transactions import now
from batch_pipeline.settings import Settings

# The first part of the keys of what the ledger itself knows.
_OURS = ("gate:", "sending:")


def beyond_the_ledger(alert: Alert) -> bool:
    """Whether an alert is of something that the ledger cannot tell the end of."""
    return not alert.condition.startswith(_OURS)


def nothing_more(_open: list[Alert]) -> Look:
    """For a look at the ledger alone: what Dagster knows stays as it was."""
    return Look((), beyond_the_ledger)


@dataclass(frozen=True)
class Watched:
    """What one look did. `problem` is what is wrong with alerts.yaml."""

    reconciled: Reconciled
    attempts: list[Attempt]
    problem: ConfigurationError | None

    def __str__(self) -> str:
        sent = sum(attempt.sent for attempt in self.attempts)
        said = [
            f"{self.reconciled.opened} alerts opened, {self.reconciled.resolved} resolved, {sent} told"
        ]
        said += [
            f"channel {attempt.channel} not reached: {attempt.said}"
            for attempt in self.attempts
            if not attempt.sent
        ]
        return "; ".join(said)


def watch(
    ledger: Ledger,
    settings: Settings,
    workloads: Collection[str],
    elsewhere: Callable[[list[Alert]], Look] = nothing_more,
) -> Watched:
    """Looks at the ledger and `elsewhere`, writes down what began and ended, and delivers what is due.

    Raises PipelineError where another process has been looking for too long.
    """
    config = usable_config(settings.alerts, os.environ)

    def look(known: list[Alert]) -> Look:
        further = elsewhere(known)
        return Look(
            [*ledger_conditions(ledger, settings, workloads), *further.found], further.unknown
        )

    reconciled = reconcile(ledger, config, workloads, look)
    return Watched(reconciled, deliver(ledger, config, settings), config.problem)


def is_quiet(ledger: Ledger, workload: str) -> bool:
    """Whether no alert of the workload is open and no channel is to be told anything now."""
    return not ledger.open_alerts([workload]) and not ledger.due_channels(now())
