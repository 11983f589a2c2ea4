"""A person has the warehouse or the ledger open for a while: runs wait and go on, the sensor does not fail."""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from batch_pipeline.cli import main
from batch_pipeline.dag.naming import job_name
from batch_pipeline.ledger.records import Phase
from batch_pipeline.simulator import Simulator
from batch_pipeline.warehouse import warehouse, warehouse_path
from batch_pipeline_tests.cli.commands import wait_until
from batch_pipeline_tests.dag.test_sensor import tick
from batch_pipeline_tests.night import DAY, Night, account_of

# Seconds that the other process keeps its hands on it after the run has come that far.
KEPT = 1.5

_SHELL = (
    "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=sys.argv[2] == 'reading');"
    "print('open', flush=True); sys.stdin.read()"
)


@pytest.fixture
def made(night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch) -> Night:
    night_made = night()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night_made.folder.parent))
    return night_made


@contextmanager
def duckdb_shell(state: Path, mode: str) -> "Iterator[subprocess.Popen[str]]":
    """Another process that has the warehouse open until its standard input is closed."""
    with warehouse(state):
        pass  # there is a file to open
    shell = subprocess.Popen(
        [sys.executable, "-c", _SHELL, str(warehouse_path(state)), mode],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert shell.stdin
    assert shell.stdout
    try:
        assert shell.stdout.readline() == "open\n"
        yield shell
    finally:
        shell.stdin.close()
        shell.wait()
        shell.stdout.close()


def run() -> Result:
    return CliRunner().invoke(main, ["run", "questions", "--date", DAY, "--json"])


def settled(night: Night) -> bool:
    record = night.ledger.load("questions", DAY)
    return record is not None and record.phase is Phase.SETTLED


@pytest.mark.parametrize("mode", ["reading", "writing"])
def test_a_run_waits_while_a_shell_has_the_warehouse_open(
    simulate: Callable[..., Simulator], made: Night, mode: str
) -> None:
    simulator = simulate()
    graded_meanwhile = []

    with duckdb_shell(made.context.settings.state, mode) as shell:

        def leave() -> None:
            wait_until(lambda: settled(made), "the load to be settled")
            time.sleep(KEPT)
            graded_meanwhile.append(made.context.record().graded_at is not None)
            assert shell.stdin
            shell.stdin.close()

        person = threading.Thread(target=leave)
        person.start()
        done = run()
        person.join()

    assert graded_meanwhile == [False]
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["promoted_rows"] == 12
    assert len(account_of(simulator)["batches"]) == 1


@pytest.mark.parametrize("mode", ["reading", "writing"])
def test_the_sensor_and_the_scorecard_need_no_warehouse(
    simulate: Callable[..., Simulator], made: Night, mode: str
) -> None:
    simulate()
    made.settle()
    with duckdb_shell(made.context.settings.state, mode), dg.DagsterInstance.ephemeral() as dagster:
        asked = [request.job_name for request in tick(made, dagster).run_requests or []]
        assert job_name("questions", "publish") in asked
        shown = CliRunner().invoke(main, ["scorecard", "questions", "--json"])
        assert shown.exit_code == 0


@contextmanager
def sqlite_shell(state: Path) -> Iterator[sqlite3.Connection]:
    """Somebody's transaction on the ledger, which nobody can write beside."""
    connection = sqlite3.connect(
        state / "ledger.sqlite", isolation_level=None, check_same_thread=False
    )
    with closing(connection):
        connection.execute("BEGIN EXCLUSIVE")
        yield connection


def test_a_run_waits_while_a_shell_has_the_ledger_locked(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulator = simulate()
    with sqlite_shell(made.context.settings.state) as shell:
        begun_meanwhile = []

        def leave() -> None:
            source = made.context.settings.state / "rows" / "questions" / DAY / "g1"
            wait_until((source / "source.parquet").is_file, "the source to be read")
            time.sleep(KEPT)
            begun_meanwhile.append(made.ledger.load("questions", DAY) is not None)
            shell.execute("COMMIT")

        person = threading.Thread(target=leave)
        person.start()
        done = run()
        person.join()

    assert begun_meanwhile == [False]
    assert done.exit_code == 0, done.stderr
    assert len(account_of(simulator)["batches"]) == 1


def test_a_ledger_that_stays_locked_ends_the_run_in_a_sentence(
    simulate: Callable[..., Simulator], made: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate()
    monkeypatch.setattr("batch_pipeline.ledger.store.BUSY_WAIT_SECONDS", 0.2)
    with sqlite_shell(made.context.settings.state):
        done = run()
    assert done.exit_code == 4
    assert json.loads(done.stdout)["gate"] is None
    assert "locked for too long" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert account_of(simulator)["batches"] == []
    assert run().exit_code == 0


def test_the_sensor_says_that_the_ledger_is_locked_and_does_not_fail(
    simulate: Callable[..., Simulator], made: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate()
    made.submit()  # its end would have to be written down
    monkeypatch.setattr("batch_pipeline.dag.sensor.LEDGER_WAIT_SECONDS", 0.2)
    with dg.DagsterInstance.ephemeral() as dagster:
        with sqlite_shell(made.context.settings.state):
            wait_until(
                lambda: "locked for too long" in str(tick(made, dagster).skip_message),
                "the sensor to find an end that it cannot write down",
            )
        wait_until(
            lambda: [r for r in tick(made, dagster).run_requests or [] if "collect" in r.job_name],
            "the sensor to ask for collect",
        )
