"""A folder of its own for one night: workloads, a simulator with its state, and the pipeline's state."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.faults.work import Work
from batch_pipeline_tests.night import LABELS, declaration

Rows = Sequence[Mapping[str, Any]]
FIELDS = ("id", "text", "label")


def rows(name: str, count: int, key: str = "{n}") -> list[dict[str, str]]:
    """Rows whose texts occur nowhere else; `key` is the format of the key column."""
    return [
        {
            "id": key.format(n=n),
            "text": f"{name} asks question {n}.",
            "label": LABELS[n % len(LABELS)],
        }
        for n in range(count)
    ]


@dataclass(frozen=True)
class Place:
    """Where things lie, and the environment that points at them."""

    folder: Path
    base_url: str
    ledger: str | None = None

    @property
    def state(self) -> Path:
        return self.folder / "state"

    @property
    def api(self) -> Path:
        """The simulator's own state."""
        return self.folder / "api"

    def work(
        self,
        call: str,
        arguments: Sequence[Any],
        name: str,
        environment: Mapping[str, str] | None = None,
        fatal: tuple[str, int] | None = None,
    ) -> Work:
        """A process on this place; its output and the log of its boundaries lie in the folder `name`."""
        home = self.state / "dagster"
        return Work(
            call=call,
            arguments=arguments,
            folder=self.folder / "processes" / name,
            environment={
                "BATCH_PIPELINE_STATE": str(self.state),
                "BATCH_PIPELINE_LEDGER": self.ledger,
                "BATCH_PIPELINE_WORKLOADS": str(self.folder / "workloads"),
                "BATCH_PIPELINE_POLL_SECONDS": "0.02",
                "BATCH_PIPELINE_GRACE_SECONDS": "0.3",
                "BATCH_PIPELINE_MAX_IN_FLIGHT": None,
                # The same order every time, so that a boundary has a number.
                "BATCH_PIPELINE_AT_ONCE": "1",
                "ANTHROPIC_API_KEY": "test-key",
                "ANTHROPIC_BASE_URL": self.base_url,
                "DAGSTER_HOME": None,
                "DAGSTER_DISABLE_TELEMETRY": "1",
                **(environment or {}),
            },
            log="boundaries",
            fatal=fatal,
            dagster_home=home,
        )


@contextmanager
def opened(
    folder: Path, known: Rows, scenario: Mapping[str, Any], ledger: str | None = None
) -> Iterator[Place]:
    """Starts a simulator that knows the answers of `known`; its state stays in the folder.

    `ledger` is the URL of an empty database, where the ledger is not to be a file.
    """
    folder.mkdir(parents=True)
    write_csv(folder / "key.csv", known)
    path = folder / "scenario.yaml"
    options = {"answers": {"file": "key.csv", "lookup": {"column": "text"}}, **scenario}
    path.write_text(yaml.safe_dump(options), encoding="utf-8")
    with Simulator(path, state_dir=folder / "api") as simulator:
        yield Place(folder, simulator.base_url, ledger)


def write_workload(
    place: Path, name: str, days: Mapping[str, Rows], golden_rows: Rows, **changes: Any
) -> None:
    """A workload folder with one source file per day."""
    folder = place / "workloads" / name
    folder.mkdir(parents=True)
    for day, lines in days.items():
        write_csv(folder / f"source-{day}.csv", lines)
    if golden_rows:
        expected = [{**row, "expected_label": row["label"]} for row in golden_rows]
        write_csv(folder / "golden.csv", expected, ("id", "text", "expected_label"))
    else:
        changes["golden"] = None
    attributes = declaration(
        **{"name": name, "source": {"path": "source-{{ partition }}.csv", "key": "id"}, **changes}
    )
    (folder / "defs.yaml").write_text(
        yaml.safe_dump({"type": "batch_pipeline.BatchWorkload", "attributes": attributes}),
        encoding="utf-8",
    )


def write_csv(path: Path, lines: Rows, fields: Sequence[str] = FIELDS) -> None:
    """A CSV file with these columns, and only its header where there are no lines."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fields, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(lines)
