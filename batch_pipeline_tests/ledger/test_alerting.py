"""What is to be told, and in which order, as the ledger keeps it."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from batch_pipeline.ledger import Ledger
from batch_pipeline.ledger.alerting import OPENED, RESOLVED, Alert, AlertChanges, Delivery

MOMENT = datetime(2026, 11, 21, 2, 0, tzinfo=UTC)


def alert(name: str, condition: str) -> Alert:
    return Alert(
        alert_id=name,
        condition=condition,
        workload="w",
        load=None,
        kind="leading",
        severity="page",
        title="t",
        sentence="s",
        opened_at=MOMENT,
        seen_at=MOMENT,
        resolved_at=None,
        link=None,
    )


def delivery(name: str, event: str, minutes: int) -> Delivery:
    return Delivery.new(name, event, "mail", MOMENT + timedelta(minutes=minutes))


def due(ledger: Ledger, minutes: int) -> set[tuple[str, str]]:
    moment = MOMENT + timedelta(minutes=minutes)
    return {(d.alert_id, d.event) for d, _ in ledger.due_deliveries("mail", moment)}


def test_of_one_condition_everything_is_told_in_its_order_and_none_waits_for_another_condition(
    opened: Callable[[], Ledger],
) -> None:
    ledger = opened()
    later = delivery("first", RESOLVED, 2)
    ledger.record_alerts(
        AlertChanges(
            opened=[alert("first", "a"), alert("second", "b"), alert("third", "c")],
            deliveries=[
                delivery("first", OPENED, 0),
                later,
                delivery("second", OPENED, 1),
                delivery("third", OPENED, 1),
            ],
        ),
        MOMENT,
    )
    assert due(ledger, 5) == {("first", OPENED), ("second", OPENED), ("third", OPENED)}
    [first] = [d for d, _ in ledger.due_deliveries("mail", MOMENT) if d.alert_id == "first"]
    ledger.record_sent(first, MOMENT)
    assert due(ledger, 5) == {("first", RESOLVED), ("second", OPENED), ("third", OPENED)}
