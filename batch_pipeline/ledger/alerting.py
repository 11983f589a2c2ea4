"""Alerts, and what is to be said of them to whom: written together, so that neither is without the other."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import or_, select, update

from batch_pipeline.ledger.generations import is_latest, load_of
from batch_pipeline.ledger.records import Load
from batch_pipeline.ledger.tables import alerts, deliveries, loads
from batch_pipeline.ledger.transactions import Transactions

OPENED = "opened"
RESOLVED = "resolved"
PENDING = "pending"
SENT = "sent"
GIVEN_UP = "given_up"


@dataclass(frozen=True)
class Alert:
    """One time that something was wrong, from when it was first seen until it was gone."""

    alert_id: str
    condition: str
    workload: str
    load: str | None
    kind: str
    severity: str
    title: str
    sentence: str
    opened_at: datetime
    seen_at: datetime
    resolved_at: datetime | None
    link: str | None


@dataclass(frozen=True)
class Delivery:
    """One message to one channel. `delivery_id` is the same however often it is tried."""

    delivery_id: str
    alert_id: str
    event: str
    channel: str
    state: str
    attempts: int
    next_at: datetime
    sent_at: datetime | None
    error: str | None
    created_at: datetime
    unreachable: int

    @classmethod
    def new(cls, alert_id: str, event: str, channel: str, moment: datetime) -> "Delivery":
        return cls(
            delivery_id=delivery_id(alert_id, event, channel),
            alert_id=alert_id,
            event=event,
            channel=channel,
            state=PENDING,
            attempts=0,
            next_at=moment,
            sent_at=None,
            error=None,
            created_at=moment,
            unreachable=0,
        )


def delivery_id(alert_id: str, event: str, channel: str) -> str:
    """Follows from what is said to whom: a message that is written down twice is one message."""
    return hashlib.sha256(f"{alert_id}|{event}|{channel}".encode()).hexdigest()[:32]


@dataclass
class AlertChanges:
    """What one look changes. `resolved` holds ids of alerts."""

    opened: list[Alert] = field(default_factory=list)
    updated: list[Alert] = field(default_factory=list)
    resolved: list[str] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.opened or self.updated or self.resolved or self.deliveries)


class Alerting(Transactions):
    """The part of the ledger that alerts are kept in."""

    def open_alerts(self, workloads: Collection[str] | None = None) -> list[Alert]:
        """Those not resolved, of any workload or of those given, the oldest first."""
        query = select(alerts).where(alerts.c.resolved_at.is_(None))
        if workloads is not None:
            query = query.where(alerts.c.workload.in_(list(workloads)))
        return [Alert(**row) for row in self._all(query.order_by(alerts.c.opened_at))]

    def recent_alerts(self, most: int) -> list[Alert]:
        """The newest, resolved or not, the newest first."""
        query = select(alerts).order_by(alerts.c.opened_at.desc()).limit(most)
        return [Alert(**row) for row in self._all(query)]

    def deliveries_of(self, alert_ids: Sequence[str]) -> list[Delivery]:
        query = (
            select(deliveries)
            .where(deliveries.c.alert_id.in_(list(alert_ids)))
            .order_by(deliveries.c.created_at, deliveries.c.channel)
        )
        return [Delivery(**row) for row in self._all(query)]

    def record_alerts(self, changes: AlertChanges, moment: datetime) -> None:
        """Alerts and their deliveries, in one transaction: an alert that is known will be told."""
        statements = [
            self._upsert(alerts).values(**asdict(alert)).on_conflict_do_nothing()
            for alert in changes.opened
        ]
        statements += [
            update(alerts).where(alerts.c.alert_id == alert.alert_id).values(**asdict(alert))
            for alert in changes.updated
        ]
        statements += [
            update(alerts)
            .where(alerts.c.alert_id == alert_id, alerts.c.resolved_at.is_(None))
            .values(resolved_at=moment, seen_at=moment)
            for alert_id in changes.resolved
        ]
        statements += [
            self._upsert(deliveries).values(**asdict(delivery)).on_conflict_do_nothing()
            for delivery in changes.deliveries
        ]
        self._write_all(statements)

    def due_channels(self, moment: datetime) -> list[str]:
        """The channels that have something to be told now."""
        query = (
            select(deliveries.c.channel)
            .where(
                deliveries.c.state == PENDING,
                deliveries.c.next_at <= moment,
                deliveries.c.channel.not_in(_left_alone(moment)),
            )
            .distinct()
        )
        return sorted(row["channel"] for row in self._all(query))

    def due_deliveries(self, channel: str, moment: datetime) -> list[tuple[Delivery, Alert]]:
        """What the channel is to be told now, the oldest first.

        Of one condition everything goes in its order: told first that it is over and then that it has opened, a
        person would look at what is well.
        """
        earlier, of_earlier, of_this = (
            deliveries.alias("earlier"),
            alerts.alias("of_earlier"),
            alerts.alias("of_this"),
        )
        condition = (
            select(of_this.c.condition)
            .where(of_this.c.alert_id == deliveries.c.alert_id)
            # Of the outermost query: within two more, SQLAlchemy would list the deliveries anew.
            .correlate(deliveries)
            .scalar_subquery()
        )
        before = or_(
            earlier.c.created_at < deliveries.c.created_at,
            (earlier.c.alert_id == deliveries.c.alert_id)
            & (earlier.c.event == OPENED)
            & (deliveries.c.event != OPENED),
        )
        untold = (
            select(earlier.c.delivery_id)
            .join(of_earlier, of_earlier.c.alert_id == earlier.c.alert_id)
            .where(
                earlier.c.channel == deliveries.c.channel,
                earlier.c.state == PENDING,
                of_earlier.c.condition == condition,
                before,
            )
            .correlate(deliveries)
            .exists()
        )
        query = (
            select(deliveries)
            .where(
                deliveries.c.channel == channel,
                deliveries.c.state == PENDING,
                deliveries.c.next_at <= moment,
                deliveries.c.channel.not_in(_left_alone(moment)),
                ~untold,
            )
            .order_by(deliveries.c.created_at, deliveries.c.delivery_id)
        )
        due = [Delivery(**row) for row in self._all(query)]
        of = {
            row["alert_id"]: Alert(**row)
            for row in self._all(
                select(alerts).where(alerts.c.alert_id.in_({d.alert_id for d in due}))
            )
        }
        return [(delivery, of[delivery.alert_id]) for delivery in due]

    def begin_attempt(self, delivery: Delivery, next_at: datetime) -> bool:
        """Before sending: whoever dies on the way leaves a delivery that is tried again at `next_at`.

        False where the delivery is pending no more.
        """
        return bool(
            self._write(
                update(deliveries)
                .where(
                    deliveries.c.delivery_id == delivery.delivery_id,
                    deliveries.c.state == PENDING,
                    deliveries.c.attempts == delivery.attempts,
                )
                .values(attempts=delivery.attempts + 1, next_at=next_at, unreachable=0)
            )
        )

    def record_sent(self, delivery: Delivery, moment: datetime) -> None:
        self._write(_update(delivery).values(state=SENT, sent_at=moment, error=None))

    def record_failed(
        self, delivery: Delivery, *, error: str, next_at: datetime, unreachable: bool
    ) -> None:
        """Tried in vain. A channel that is unreachable is left alone until then, with all it is to be told."""
        self._write(
            _update(delivery).values(error=error, next_at=next_at, unreachable=int(unreachable))
        )

    def record_given_up(self, delivery: Delivery, *, error: str) -> None:
        """It will not be tried again; nor will the channel be told that what it never heard of is over."""
        self._write(
            _update(delivery).values(state=GIVEN_UP, error=error),
            update(deliveries)
            .where(
                deliveries.c.alert_id == delivery.alert_id,
                deliveries.c.channel == delivery.channel,
                deliveries.c.state == PENDING,
            )
            .values(state=GIVEN_UP, error="its opening could not be told"),
        )

    def held_loads(self, workloads: Collection[str]) -> list[Load]:
        """Latest generations that the gate holds and nobody cancelled, rolled back or purged."""
        query = (
            select(loads)
            .where(
                loads.c.workload.in_(list(workloads)),
                is_latest(),
                loads.c.gate == "hold",
                loads.c.promoted_at.is_(None),
                loads.c.cancelled_at.is_(None),
                loads.c.rolled_back_at.is_(None),
                loads.c.purged_at.is_(None),
            )
            .order_by(loads.c.load)
        )
        return [load_of(row) for row in self._all(query)]

    def newest_loads(self, workload: str, most: int, *, graded: bool) -> list[str]:
        """The latest dates that were begun, or that were graded, and not cancelled; the newest first.

        Of a load that was sent again, its newest generation counts.
        """
        query = (
            select(loads.c.load)
            .where(
                loads.c.workload == workload,
                loads.c.cancelled_at.is_(None),
                is_latest(),
                *([loads.c.graded_at.is_not(None)] if graded else []),
            )
            .distinct()
            .order_by(loads.c.load.desc())
            .limit(most)
        )
        return [row["load"] for row in self._all(query)]


def _left_alone(moment: datetime) -> Any:
    """The channels that could not be reached and are not to be tried yet."""
    waiting = deliveries.alias("waiting")
    return select(waiting.c.channel).where(
        waiting.c.state == PENDING, waiting.c.unreachable == 1, waiting.c.next_at > moment
    )


def _update(delivery: Delivery) -> Any:
    return update(deliveries).where(deliveries.c.delivery_id == delivery.delivery_id)
