"""Banking77 as a workload: 3,080 real customer questions, 77 labels, 200 golden rows, two tiers.

    python -m batch_pipeline_tests.banking77 path/to/banking77.csv

The file (columns id, text, label, split; Casanueva et al. 2020, CC BY 4.0) is not part of the project. The
simulator answers; its error rates are stand-ins, so the scores say how the pipeline works, not the models.
"""

import csv
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from batch_pipeline.cli import main
from batch_pipeline.cli.demo import forget_credentials
from batch_pipeline.simulator import Simulator

GOLDEN_ROWS = 200
NAME = "banking77"


def write_workload(csv_file: Path, folder: Path) -> Path:
    """Writes the workload and the simulator's scenario below `folder`; returns the scenario."""
    with csv_file.open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    labels = sorted({line["label"] for line in lines})
    train = [line for line in lines if line["split"] == "train"]
    # The file is sorted by label, so equal steps take every label in.
    golden = [train[i * len(train) // GOLDEN_ROWS] for i in range(GOLDEN_ROWS)]
    place = folder / NAME
    place.mkdir(parents=True)
    _write(
        place / "golden.csv",
        [{"id": g["id"], "text": g["text"], "expected_label": g["label"]} for g in golden],
    )
    _write(
        folder / "answer_key.csv",
        [{"text": line["text"], "label": line["label"]} for line in lines],
    )
    (place / "system.md").write_text(
        "You sort the questions that customers of an online bank ask. Give the one intent that fits best.\n"
    )
    source = str(csv_file.resolve()).replace("'", "''")
    attributes = {
        "name": NAME,
        "source": {
            "sql": f"SELECT id, text FROM read_csv('{source}', all_varchar = true) WHERE split = 'test'",
            "key": "id",
        },
        "prompt": {"system": "system.md", "user": "{{ text }}"},
        "output": {"label": {"type": "string", "enum": labels}},
        "tiers": [
            {"model": "claude-haiku-4-5", "max_tokens": 64},
            {"model": "claude-sonnet-4-6", "max_tokens": 64},
        ],
        "golden": {"path": "golden.csv", "match": ["label"], "baseline": 0.9},
        "gates": {"golden_drop_points": 5, "min_validity": 0.95},
    }
    declaration: dict[str, Any] = {
        "type": "batch_pipeline.BatchWorkload",
        "attributes": attributes,
    }
    (place / "defs.yaml").write_text(yaml.safe_dump(declaration, sort_keys=False))
    scenario = folder / "scenario.yaml"
    scenario.write_text(
        yaml.safe_dump(
            {
                "seed": 77,
                "turnaround_seconds": 1,
                "answers": {"file": "answer_key.csv", "lookup": {"column": "text"}},
                "models": {
                    "claude-haiku-4-5": {
                        "wrong": 0.08,
                        "broken": 0.03,
                        "server_error": 0.01,
                        "expired": 0.01,
                    },
                    "claude-sonnet-4-6": {"wrong": 0.05, "broken": 0.01},
                },
            }
        )
    )
    return scenario


def _write(path: Path, lines: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]))
        writer.writeheader()
        writer.writerows(lines)


def _main(arguments: list[str]) -> None:
    csv_file = Path(arguments[0])
    forget_credentials()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with Simulator(write_workload(csv_file, folder)) as simulator:
            os.environ |= {
                "ANTHROPIC_BASE_URL": simulator.base_url,
                "ANTHROPIC_API_KEY": "simulator",
                "BATCH_PIPELINE_WORKLOADS": str(folder),
                "BATCH_PIPELINE_POLL_SECONDS": "0.5",
            }
            main(["run", NAME, *arguments[1:]])


if __name__ == "__main__":
    _main(sys.argv[1:])
