"""Compares what is wrong now with the alerts that are open, and writes down the difference and whom to tell."""

import secrets
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from batch_pipeline.alerts.conditions import PAGE, Condition
from batch_pipeline.alerts.config import AlertsConfig
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Ledger
from batch_pipeline.ledger.alerting import OPENED, RESOLVED, Alert, AlertChanges, Delivery
from batch_pipeline.ledger.transactions import now

# No workload is called this: names of workloads begin with a letter.
LOCKS = ".alerts"
_WAIT_SECONDS = 10.0
# A write per look would be many; a person only wants to know that it is still so.
_SEEN_EVERY = timedelta(minutes=5)


@dataclass(frozen=True)
class Look:
    """What was looked at and found.

    Attributes:
        found: the conditions that hold.
        unknown: whether an open alert's condition was out of this look's sight; it then stays as it is.
    """

    found: Iterable[Condition]
    unknown: Callable[[Alert], bool] = lambda _alert: False


@dataclass(frozen=True)
class Reconciled:
    """How many alerts were opened and resolved."""

    opened: int
    resolved: int


def reconcile(
    ledger: Ledger,
    config: AlertsConfig,
    workloads: Collection[str],
    look: Callable[[list[Alert]], Look],
    clock: Callable[[], datetime] = now,
) -> Reconciled:
    """Opens, updates and resolves the alerts of `workloads`, in one transaction with what is to be told.

    Every open alert is told to every channel that wants it, once: also to one that was declared later, or that
    wants it only now that the alert has become one that pages.

    Args:
        ledger: where alerts are kept.
        config: the channels.
        workloads: whose alerts are looked at; all others stay as they are.
        look: looks, being given the alerts that are open.
        clock: what time it is.

    Raises:
        PipelineError: another process has been at it for too long.
    """
    with ledger.try_hold(LOCKS, "reconcile", _WAIT_SECONDS) as held:
        if not held:
            raise PipelineError("Another process is looking at the alerts; the next look will do.")
        known = ledger.open_alerts(workloads)
        seen = look(known)
        changes = _changes(known, seen, clock())
        _tell(ledger, config, known, changes, clock())
        if changes:
            ledger.record_alerts(changes, clock())
    return Reconciled(len(changes.opened), len(changes.resolved))


def _changes(known: list[Alert], look: Look, moment: datetime) -> AlertChanges:
    changes = AlertChanges()
    conditions = {condition.key: condition for condition in look.found}
    still_open = {alert.condition: alert for alert in known}
    for key, condition in conditions.items():
        alert = still_open.get(key)
        if alert is None:
            changes.opened.append(_opened(condition, moment))
            continue
        updated = _updated(alert, condition)
        if updated != alert or moment - alert.seen_at >= _SEEN_EVERY:
            changes.updated.append(replace(updated, seen_at=moment))
    changes.resolved = [
        alert.alert_id
        for alert in known
        if alert.condition not in conditions and not look.unknown(alert)
    ]
    return changes


def _opened(condition: Condition, moment: datetime) -> Alert:
    return Alert(
        alert_id=secrets.token_hex(16),
        condition=condition.key,
        workload=condition.workload,
        load=condition.load,
        kind=condition.kind,
        severity=condition.severity,
        title=condition.title,
        sentence=condition.sentence,
        opened_at=moment,
        seen_at=moment,
        resolved_at=None,
        link=condition.link,
    )


def _updated(alert: Alert, condition: Condition) -> Alert:
    # What has paged stays a page until it is over: nobody is told of less.
    pages = PAGE in (alert.severity, condition.severity)
    return replace(
        alert,
        load=condition.load,
        severity=PAGE if pages else condition.severity,
        title=condition.title,
        sentence=condition.sentence,
        link=condition.link,
    )


def _tell(
    ledger: Ledger,
    config: AlertsConfig,
    known: list[Alert],
    changes: AlertChanges,
    moment: datetime,
) -> None:
    """Adds the deliveries that are missing."""
    written = ledger.deliveries_of([alert.alert_id for alert in known])
    told = {(delivery.alert_id, delivery.channel) for delivery in written}
    current = {alert.alert_id: alert for alert in [*known, *changes.updated, *changes.opened]}
    for alert in current.values():
        if alert.alert_id in changes.resolved:
            continue
        changes.deliveries += [
            Delivery.new(alert.alert_id, OPENED, channel.name, moment)
            for channel in config.channels
            if channel.wants(severity=alert.severity, workload=alert.workload)
            and (alert.alert_id, channel.name) not in told
        ]
    # Whoever was told that it began is told that it ended, whatever alerts.yaml says by then.
    changes.deliveries += [
        Delivery.new(delivery.alert_id, RESOLVED, delivery.channel, moment)
        for delivery in written
        if delivery.alert_id in changes.resolved and delivery.event == OPENED
    ]
