"""Tells the channels what is due. Nothing is lost; what is sent again carries the same delivery_id.

The outbox is the ledger's table of deliveries. Between sending and writing down that it was sent, a process
can be killed: only then is a message sent a second time, and the receiver can know it by its delivery_id.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from batch_pipeline.alerts.channels import open_channel
from batch_pipeline.alerts.config import AlertsConfig
from batch_pipeline.alerts.message import Channel, Message, UndeliveredError
from batch_pipeline.alerts.reconcile import LOCKS
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Ledger
from batch_pipeline.ledger.alerting import Alert, Delivery
from batch_pipeline.ledger.transactions import now
from batch_pipeline.settings import Settings

# Doubled with every attempt. At its cap, a target that comes back is told within a quarter of an hour.
FIRST_PAUSE = timedelta(seconds=30)
LONGEST_PAUSE = timedelta(minutes=15)
# A target that nobody has mended in a week is not going to be.
GIVE_UP_AFTER = timedelta(days=7)
BUDGET_SECONDS = 20.0


@dataclass(frozen=True)
class Attempt:
    """One message, and what came of it."""

    channel: str
    headline: str
    sent: bool
    said: str


def deliver(
    ledger: Ledger,
    config: AlertsConfig,
    settings: Settings,
    *,
    budget_seconds: float = BUDGET_SECONDS,
    clock: Callable[[], datetime] = now,
) -> list[Attempt]:
    """Sends what is due, the oldest first. One process at a time talks to a channel; the others pass it by.

    A target that is out of reach is left alone until its pause is over: 30 s, doubled up to 15 min, or longer
    where it says so (Retry-After). After seven days a message is given up, which the ledger shows.
    """
    deadline = time.monotonic() + budget_seconds
    attempts: list[Attempt] = []
    known = {channel.name for channel in config.channels}
    for name in ledger.due_channels(clock()):
        if config.problem is not None and name not in known:
            # It may well be in the file; what is wrong with that is said elsewhere.
            continue
        with ledger.try_hold(LOCKS, f"to-{name}") as held:
            if held:
                attempts += _to_channel(ledger, config, settings, name, deadline, clock)
    return attempts


def _to_channel(
    ledger: Ledger,
    config: AlertsConfig,
    settings: Settings,
    name: str,
    deadline: float,
    clock: Callable[[], datetime],
) -> list[Attempt]:
    attempts: list[Attempt] = []
    # What was told may make more due: that an alert is over, say.
    while due := ledger.due_deliveries(name, clock()):
        for delivery, alert in due:
            if time.monotonic() >= deadline:
                return attempts
            if not ledger.begin_attempt(delivery, clock() + _pause(delivery)):
                continue
            try:
                said = _send(config, settings, delivery, alert)
            except Exception as raised:  # noqa: BLE001 - the other channels are told all the same
                error = foreseen(raised)
                attempts.append(_failed(ledger, delivery, alert, error, clock()))
                if not isinstance(error, UndeliveredError) or error.whole_channel:
                    return attempts
            else:
                ledger.record_sent(delivery, clock())
                headline = Message.of(delivery, alert, None).headline
                attempts.append(Attempt(name, headline, True, said))
    return attempts


def foreseen(error: Exception) -> UndeliveredError | ConfigurationError:
    """What nobody foresaw is told by its name alone: its words may quote a secret."""
    if isinstance(error, UndeliveredError | ConfigurationError):
        return error
    return UndeliveredError(f"it raised {type(error).__name__}.", whole_channel=True)


def _send(config: AlertsConfig, settings: Settings, delivery: Delivery, alert: Alert) -> str:
    channel: Channel | None = open_channel(config, delivery.channel, settings.state)
    if channel is None:
        raise UndeliveredError(f"there is no channel {delivery.channel!r} in alerts.yaml.")
    message = Message.of(delivery, alert, config.spec.link)
    return channel.send(message, again=delivery.attempts > 0)


def _failed(
    ledger: Ledger, delivery: Delivery, alert: Alert, error: Exception, moment: datetime
) -> Attempt:
    said = str(error)
    if moment - delivery.created_at >= GIVE_UP_AFTER:
        ledger.record_given_up(delivery, error=said)
        said = f"given up after {GIVE_UP_AFTER.days} days: {said}"
    else:
        asked = error.retry_after if isinstance(error, UndeliveredError) else None
        ledger.record_failed(
            delivery,
            error=said,
            next_at=moment + max(_pause(delivery), asked or timedelta()),
            unreachable=not isinstance(error, UndeliveredError) or error.whole_channel,
        )
    headline = Message.of(delivery, alert, None).headline
    return Attempt(delivery.channel, headline, False, said)


def _pause(delivery: Delivery) -> timedelta:
    """Before the attempt after the next one."""
    doublings = min(delivery.attempts, 10)
    return min(FIRST_PAUSE * (1 << doublings), LONGEST_PAUSE)
