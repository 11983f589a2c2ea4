"""What a channel is given to say, and what came of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from batch_pipeline.errors import printable
from batch_pipeline.ledger.alerting import OPENED, Alert, Delivery, delivery_id

TEST = "test"


@dataclass(frozen=True)
class Message:
    """One event of one alert for one channel.

    Attributes:
        delivery_id: the same however often the message is tried; receivers may know a repetition by it.
        answers: the delivery_id of the opening that this one resolves, or None.
        event: opened, resolved or test.
        link: a whole address, or None where the configuration gives no host.
    """

    delivery_id: str
    answers: str | None
    event: str
    alert_id: str
    condition: str
    workload: str
    load: str | None
    kind: str
    severity: str
    title: str
    sentence: str
    opened_at: datetime
    resolved_at: datetime | None
    link: str | None

    @classmethod
    def of(cls, delivery: Delivery, alert: Alert, base: str | None) -> "Message":
        opened = delivery.event == OPENED
        return cls(
            delivery_id=delivery.delivery_id,
            answers=None if opened else delivery_id(alert.alert_id, OPENED, delivery.channel),
            event=delivery.event,
            alert_id=alert.alert_id,
            condition=alert.condition,
            workload=alert.workload,
            load=alert.load,
            kind=alert.kind,
            severity=alert.severity,
            title=printable(alert.title),
            sentence=printable(alert.sentence),
            opened_at=alert.opened_at,
            # An opening that is told late is still the opening.
            resolved_at=None if opened else alert.resolved_at,
            link=f"{base.rstrip('/')}/{alert.link}" if base and alert.link else None,
        )

    @property
    def headline(self) -> str:
        """One line: how urgent, and what."""
        word = self.severity if self.event == OPENED else self.event
        return f"[{word}] {self.title}"

    def to_json(self) -> dict[str, str | None]:
        return {
            "event": self.event,
            "delivery_id": self.delivery_id,
            "alert_id": self.alert_id,
            "condition": self.condition,
            "workload": self.workload,
            "load": self.load,
            "kind": self.kind,
            "severity": self.severity,
            "title": self.title,
            "sentence": self.sentence,
            "opened_at": self.opened_at.isoformat(timespec="seconds"),
            "resolved_at": self.resolved_at.isoformat(timespec="seconds")
            if self.resolved_at
            else None,
            "link": self.link,
        }


class UndeliveredError(Exception):
    """The message did not arrive, as far as we know.

    Attributes:
        whole_channel: the next message would fare no better. False: it was this one that was refused.
        retry_after: how long the receiver asked to be left alone.
    """

    def __init__(
        self, sentence: str, *, whole_channel: bool = True, retry_after: timedelta | None = None
    ) -> None:
        super().__init__(printable(sentence))
        self.whole_channel = whole_channel
        self.retry_after = retry_after


class Channel(Protocol):
    """Somewhere that messages go."""

    def send(self, message: Message, *, again: bool) -> str:
        """Returns what the receiver said, in a few words without secrets.

        Args:
            message: what to say.
            again: an earlier attempt may have arrived.

        Raises:
            UndeliveredError: its sentence holds no secret.
        """
        ...
