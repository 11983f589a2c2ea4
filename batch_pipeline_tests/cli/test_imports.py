"""What commands import: seconds of every call hang on it. Looked up in `sys.modules`, not timed."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batch_pipeline.cli import COMMANDS, estimate
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages import token_sample
from batch_pipeline_tests.night import DAY, Night

# Each takes a tenth of a second or more.
SLOW = (
    "alembic",
    "anthropic",
    "dagster",
    "duckdb",
    "fsspec",
    "numpy",
    "pandas",
    "pandera",
    "psycopg",
    "pyarrow",
    "s3fs",
    "scipy",
    "scipy.stats",
    "sqlalchemy",
    "starlette",
    "upath",
    "uvicorn",
)
# Every declaration is read, and Arrow tests the sample's pattern.
FOR_WORKLOAD = {"numpy", "pyarrow", "sqlalchemy"}
FOR_ROWS = FOR_WORKLOAD | {"duckdb", "scipy"}
# Dagster itself, and the ledger for its sensors.
FOR_DEFINITIONS = FOR_WORKLOAD | {"dagster"}

CODE = """
import json, sys
from click.testing import CliRunner
from batch_pipeline.cli import main
for arguments in json.loads(sys.argv[1]):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, (arguments, done.output, done.exception)
print(json.dumps([name for name in json.loads(sys.argv[2]) if name in sys.modules]))
"""


def imported(*commands: list[str]) -> set[str]:
    """What of SLOW one new process imports for these commands."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, json.dumps(commands), json.dumps(SLOW)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


def test_no_help_imports_anything_slow() -> None:
    assert imported(["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)) == set()


def test_the_prices_need_no_ledger() -> None:
    assert imported(["prices", "--json"], ["prices"]) == set()


@pytest.fixture
def promoted(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Night:
    simulate()
    made = night()
    made.settle()
    made.publish()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(tmp_path / "workloads"))
    return made


@pytest.mark.parametrize(
    ("command", "needs"),
    [
        (["scorecard", "questions", "--json"], FOR_ROWS),
        (["scorecard", "questions"], FOR_ROWS),
        (["dispositions", "questions", "--to", "written.csv"], FOR_ROWS),
        (["run", "questions", "--date", DAY, "--json"], {*FOR_ROWS, "pandas", "scipy.stats"}),
        (["export", "questions", "--to", "written.csv"], FOR_WORKLOAD | {"duckdb"}),
        (["baseline", "show", "questions"], FOR_WORKLOAD),
        (["alerts"], {"sqlalchemy"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_command_on_a_promoted_load_imports_what_it_needs_and_no_more(
    promoted: Night,
    command: list[str],
    needs: set[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert imported(command) <= needs


def test_an_estimate_takes_as_many_rows_as_the_stage_does() -> None:
    assert estimate.SAMPLE_ROWS == token_sample.SAMPLE_ROWS


def test_definitions_load_without_what_only_steps_need(
    night: Callable[..., Night], tmp_path: Path
) -> None:
    night()
    code = (
        "import json, sys; from batch_pipeline.definitions import defs; loaded = defs();"
        "assert len(loaded.resolve_asset_graph().get_all_asset_keys()) >= 7;"
        "print(json.dumps([name for name in json.loads(sys.argv[1]) if name in sys.modules]))"
    )
    apart = ("batch_pipeline.simulator", "batch_pipeline.report", "batch_pipeline.stages.submit")
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps([*SLOW, *apart])],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "BATCH_PIPELINE_WORKLOADS": str(tmp_path / "workloads")},
    )
    assert set(json.loads(done.stdout)) <= FOR_DEFINITIONS
