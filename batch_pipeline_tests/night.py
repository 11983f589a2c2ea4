"""A small workload and one load of it, driven stage by stage without Dagster."""

import csv
import json
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.errors import UnreachableError
from batch_pipeline.ledger import Ledger
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.collect import collect_results
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.escalate import escalate
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.next_step import Action, next_step
from batch_pipeline.stages.poll import poll
from batch_pipeline.stages.promote import PromoteSummary, promote
from batch_pipeline.stages.resolve import resolve
from batch_pipeline.stages.scorecard import Scorecard, measure_load
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline.stages.validate import validate_results
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline.workload.workload import Workload

DAY = "2026-11-20"
HAIKU = "claude-haiku-4-5"
SONNET = "claude-sonnet-4-6"
OPUS = "claude-opus-4-8"
LABELS = ["billing", "bug", "how_to"]


def rows(count: int, start: int = 0) -> list[dict[str, str]]:
    """Source rows with a text of their own each; the label cycles."""
    return [
        {"id": f"r{n:05}", "text": f"question number {n} of the night", "label": LABELS[n % 3]}
        for n in range(start, start + count)
    ]


def write_csv(path: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)
    return path


def simulator_for(folder: Path, *, known: int = 1000, **scenario: Any) -> Simulator:
    """A simulator that knows the right label of so many rows of those that `rows` makes, and of 100 golden ones."""
    answers = [*rows(known), *rows(100, start=100_000)]
    key = write_csv(
        folder / "key.csv", [{"text": row["text"], "label": row["label"]} for row in answers]
    )
    options = {
        "seed": 1,
        "turnaround_seconds": 0,
        "answers": {"file": key.name, "lookup": {"column": "text"}},
        **scenario,
    }
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    return Simulator(path)


def account_of(simulator: Simulator) -> dict[str, Any]:
    """What the simulator has accepted and billed."""
    with urllib.request.urlopen(f"{simulator.base_url}/simulator/account") as response:
        account: dict[str, Any] = json.load(response)
    return account


def declaration(**changes: Any) -> dict[str, Any]:
    """The attributes of a small workload; keywords replace whole sections, None removes one."""
    attributes: dict[str, Any] = {
        "name": "questions",
        "source": {"path": "source.csv", "key": "id"},
        "prompt": {"system": "Say what the question is about.", "user": "{{ text }}"},
        "output": {"label": {"type": "string", "enum": LABELS}},
        "tiers": [{"model": HAIKU, "max_tokens": 64}, {"model": SONNET, "max_tokens": 128}],
        "golden": {"path": "golden.csv", "match": ["label"], "baseline": 0.9},
        **changes,
    }
    return {name: value for name, value in attributes.items() if value is not None}


@dataclass
class Night:
    """A load of a workload, with the stages as methods."""

    context: LoadContext

    @classmethod
    def make(
        cls,
        folder: Path,
        *,
        count: int = 12,
        golden: int = 5,
        day: str = DAY,
        source: Sequence[Mapping[str, Any]] | None = None,
        at_once: int = 1,
        **changes: Any,
    ) -> "Night":
        """Writes the workload's folder (source.csv, golden.csv, defs.yaml) and opens a load of it."""
        name = changes.get("name", "questions")
        place = folder / "workloads" / name
        write_csv(place / "source.csv", source or rows(count))
        if golden:
            lines = [
                {"id": r["id"], "text": r["text"], "expected_label": r["label"]}
                for r in rows(golden, start=100_000)
            ]
            write_csv(place / "golden.csv", lines)
        else:
            changes.setdefault("golden", None)
        attributes = declaration(**changes)
        (place / "defs.yaml").write_text(
            yaml.safe_dump({"type": "batch_pipeline.BatchWorkload", "attributes": attributes}),
            encoding="utf-8",
        )
        workload = Workload.build(WorkloadSpec.model_validate(attributes), place)
        # One after the other, so that a test can say what comes first.
        settings = replace(Settings.from_environment(), at_once=at_once)
        return cls(LoadContext.open(workload, day, settings))

    @property
    def ledger(self) -> Ledger:
        return self.context.ledger

    @property
    def folder(self) -> Path:
        return self.context.workload.folder

    def submit(self) -> None:
        read_source(self.context)
        send_pending(self.context, BatchesApi)

    def wait(self) -> None:
        """Polls until no batch is open."""
        for _ in range(400):
            record = self.context.record()
            poll(self.ledger, record, BatchesApi(), self.context.settings.grace_seconds)
            if not any(batch.open for batch in self.ledger.batches(record)):
                return
            time.sleep(0.02)
        raise AssertionError("a batch stayed open")

    def collect(self) -> None:
        collect_results(self.context, BatchesApi)
        validate_results(self.context)
        escalate(self.context, BatchesApi)

    def step(self) -> Action:
        """Looks at the batches, then does what the load needs next, as the sensor would; what that was."""
        record = self.ledger.load(self.context.workload.name, self.context.load)
        if record is not None:
            # An API that does not answer now is asked again in the next step.
            with suppress(UnreachableError):
                api = BatchesApi()
                resolve(self.context, api)
                poll(self.ledger, record, api, self.context.settings.grace_seconds)
        action = self.next()
        if action is Action.SUBMIT:
            self.submit()
        elif action is Action.COLLECT:
            self.collect()
        elif action in (Action.WAIT, Action.RESOLVE):
            time.sleep(0.02)
        return action

    def next(self) -> Action:
        return next_step(self.ledger, self.context.workload.name, self.context.load).action

    def settle(self, after_wave: Callable[[], None] = lambda: None) -> Scorecard:
        """Goes on, wave after wave, until every row has its disposition, or sending has stopped."""
        until = time.monotonic() + 60
        while time.monotonic() < until:
            action = self.step()
            if action is Action.COLLECT:
                after_wave()
            if action in (Action.PUBLISH, Action.HELD, Action.PROMOTED, Action.STOPPED):
                return measure_load(self.context)
        raise AssertionError("the load did not settle in a minute")

    def publish(self, **options: Any) -> PromoteSummary:
        grade(self.context)
        return promote(self.context, **options)
