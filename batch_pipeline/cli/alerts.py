"""`alerts`: what is wrong, who was told, and whether they can be."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

from batch_pipeline.cli import EXIT_UNFINISHED
from batch_pipeline.cli.options import json_option
from batch_pipeline.errors import ConfigurationError, printable
from batch_pipeline.settings import Settings

if TYPE_CHECKING:
    from batch_pipeline.alerts.config import AlertsConfig
    from batch_pipeline.ledger.alerting import Alert, Delivery

# As many as a person may want to look back on.
_MOST = 200


@click.group(invoke_without_command=True)
@click.option(
    "--all", "everything", is_flag=True, help=f"Resolved ones, too: the newest {_MOST} of all."
)
@json_option
@click.pass_context
def alerts(context: click.Context, everything: bool, as_json: bool) -> None:
    """List the open alerts: since when, how urgent, what, and who was told.

    Exit codes: 0, whether there are alerts or not; 2 wrong use or configuration.
    """
    if context.invoked_subcommand is not None:
        return
    from batch_pipeline.ledger import Ledger
    from batch_pipeline.ledger.transactions import now

    ledger = Ledger.existing(Settings.from_environment())
    listed: list[Alert] = []
    if ledger is not None:
        listed = ledger.recent_alerts(_MOST) if everything else ledger.open_alerts()
    told: dict[str, list[Delivery]] = {}
    for delivery in ledger.deliveries_of([a.alert_id for a in listed]) if ledger else []:
        told.setdefault(delivery.alert_id, []).append(delivery)
    moment = now()
    if as_json:
        objects = [_object(alert, told.get(alert.alert_id, []), moment) for alert in listed]
        click.echo(json.dumps({"alerts": objects}))
        return
    for alert in listed:
        _print(alert, told.get(alert.alert_id, []), moment)
    if not listed:
        click.echo("No alert was ever opened." if everything else "No alert is open.")


@alerts.command("test")
@click.argument("channel", required=False)
@json_option
def test(channel: str | None, as_json: bool) -> None:
    """Send a message that is marked as a test to CHANNEL, or to every channel, and say what came of it.

    Exit codes: 0 all were taken, 4 some were not, 2 no such channel or a file that is wrong.
    """
    from batch_pipeline.alerts.config import read_config

    settings = Settings.from_environment()
    config = read_config(settings.alerts, os.environ)
    names = [each.name for each in config.channels]
    if channel is not None and channel not in names:
        raise ConfigurationError(
            f"There is no channel {channel!r} in {settings.alerts or 'alerts.yaml'}; known: {', '.join(names)}."
        )
    results = [
        _try(config, settings, name)
        for name in names
        if channel is None or channel in (name, name.partition("#")[0])
    ]
    if as_json:
        click.echo(json.dumps({"channels": results}))
    else:
        for result in results:
            verdict = "taken" if result["taken"] else "NOT taken"
            click.echo(f"{result['channel']}: {verdict}: {result['said']}")
    sys.exit(0 if all(result["taken"] for result in results) else EXIT_UNFINISHED)


def _try(config: AlertsConfig, settings: Settings, name: str) -> dict[str, Any]:
    from batch_pipeline.alerts.channels import open_channel
    from batch_pipeline.alerts.conditions import LEADING
    from batch_pipeline.alerts.deliver import foreseen
    from batch_pipeline.alerts.message import TEST, Message
    from batch_pipeline.ledger.transactions import now

    moment = now()
    message = Message(
        delivery_id=secrets.token_hex(16),
        answers=None,
        event=TEST,
        alert_id="test",
        condition="test",
        workload="test",
        load=None,
        kind=LEADING,
        severity="log",
        title="Batch pipeline: this is a test",
        sentence=f"A person called `batch-pipeline alerts test`. Channel {name} works; nothing is wrong.",
        opened_at=moment,
        resolved_at=None,
        link=config.spec.link,
    )
    try:
        opened = open_channel(config, name, settings.state)
        assert opened is not None
        return {"channel": name, "taken": True, "said": opened.send(message, again=False)}
    except Exception as raised:  # noqa: BLE001 - the other channels are tried all the same
        return {"channel": name, "taken": False, "said": str(foreseen(raised))}


def _object(alert: Alert, told: list[Delivery], moment: datetime) -> dict[str, Any]:
    return {
        "alert_id": alert.alert_id,
        "condition": alert.condition,
        "workload": alert.workload,
        "load": alert.load,
        "kind": alert.kind,
        "severity": alert.severity,
        "title": alert.title,
        "sentence": alert.sentence,
        "opened_at": alert.opened_at.isoformat(timespec="seconds"),
        "resolved_at": _iso(alert.resolved_at),
        "age_seconds": round(((alert.resolved_at or moment) - alert.opened_at).total_seconds()),
        "deliveries": [
            {
                "delivery_id": delivery.delivery_id,
                "channel": delivery.channel,
                "event": delivery.event,
                "state": delivery.state,
                "attempts": delivery.attempts,
                "sent_at": _iso(delivery.sent_at),
                "next_at": _iso(delivery.next_at) if delivery.state == "pending" else None,
                "error": delivery.error,
            }
            for delivery in told
        ],
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def _print(alert: Alert, told: list[Delivery], moment: datetime) -> None:
    state = "open" if alert.resolved_at is None else "lasted"
    age = _age((alert.resolved_at or moment) - alert.opened_at)
    click.echo(f"{alert.severity.upper():<4} {state} {age}  {printable(alert.title)}")
    click.echo(f"     {printable(alert.sentence)}")
    for delivery in told:
        click.echo(f"     {_told(delivery)}")


def _told(delivery: Delivery) -> str:
    said = f"{delivery.channel}: {delivery.event}"
    words: dict[str, Callable[[], str]] = {
        "sent": lambda: f"told at {delivery.sent_at:%Y-%m-%d %H:%M} UTC",
        "pending": lambda: f"to be told from {delivery.next_at:%Y-%m-%d %H:%M:%S} UTC on",
        "given_up": lambda: "given up",
    }
    said += f", {words[delivery.state]()}"
    if delivery.error:
        times = "once" if delivery.attempts == 1 else f"{delivery.attempts} times"
        said += f" (tried {times}; last: {printable(delivery.error)})"
    return said


def _age(lasted: timedelta) -> str:
    minutes = int(lasted.total_seconds() // 60)
    if minutes < 60:
        return f"{minutes} min"
    hours = minutes // 60
    return f"{hours} h" if hours < 48 else f"{hours // 24} days"
