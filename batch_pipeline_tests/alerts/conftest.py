"""Alerts on a ledger of their own, with a clock that the test turns."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from batch_pipeline.alerts.conditions import Condition
from batch_pipeline.alerts.config import AlertsConfig, read_config
from batch_pipeline.alerts.deliver import Attempt, deliver
from batch_pipeline.alerts.reconcile import Look, Reconciled, reconcile
from batch_pipeline.ledger import Ledger
from batch_pipeline.ledger.alerting import Alert, Delivery
from batch_pipeline.settings import Settings


def condition(key: str = "gate:w:2026-11-20:g1", **changes: Any) -> Condition:
    values: dict[str, Any] = {
        "key": key,
        "workload": "w",
        "load": "2026-11-20",
        "kind": "leading",
        "severity": "page",
        "title": "w 2026-11-20 is held",
        "sentence": "The load is held: coverage.",
        "link": "assets/w/golden_score",
        **changes,
    }
    return Condition(**values)


@dataclass
class Desk:
    """Looks and tells, as the sensor does, at the time that `moment` says."""

    folder: Path
    settings: Settings
    ledger: Ledger
    config: AlertsConfig
    moment: datetime = field(default_factory=lambda: datetime(2026, 11, 21, 6, tzinfo=UTC))

    def declare(self, *channels: dict[str, Any], **top: Any) -> AlertsConfig:
        """Writes alerts.yaml and reads it."""
        path = self.folder / "alerts.yaml"
        path.write_text(yaml.safe_dump({**top, "channels": list(channels)}))
        self.config = read_config(path, os.environ)
        return self.config

    def look(
        self, *found: Condition, unknown: Callable[[Alert], bool] = lambda _a: False
    ) -> Reconciled:
        return reconcile(
            self.ledger, self.config, ["w"], lambda _known: Look(found, unknown), self.clock
        )

    def tell(self) -> list[Attempt]:
        return deliver(self.ledger, self.config, self.settings, clock=self.clock)

    def wait(self, **time: float) -> None:
        self.moment += timedelta(**time)

    def clock(self) -> datetime:
        return self.moment

    def alerts(self) -> list[Alert]:
        return self.ledger.recent_alerts(100)

    def deliveries(self) -> list[Delivery]:
        return self.ledger.deliveries_of([alert.alert_id for alert in self.alerts()])


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    settings = Settings.from_environment()
    return Desk(tmp_path, settings, Ledger(settings.state), read_config(None, {}))
