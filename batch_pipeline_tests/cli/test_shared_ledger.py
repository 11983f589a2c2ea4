"""The commands and the sensor on a ledger in Postgres: as on a file, and one sentence where it is out of reach."""

import json
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner, Result

from batch_pipeline.cli import main
from batch_pipeline.ledger import Ledger
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.dag.test_sensor import tick
from batch_pipeline_tests.night import DAY, Night, account_of
from batch_pipeline_tests.postgres import PASSWORD, PostgresServer


@pytest.fixture
def made(night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch) -> Night:
    night_made = night()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night_made.folder.parent))
    return night_made


@pytest.fixture
def nobody() -> Iterator[str]:
    """The address of a database where no server is."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"postgresql+psycopg://u:{PASSWORD}@127.0.0.1:{taken.getsockname()[1]}/ledger"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_a_load_is_driven_to_promotion_and_every_command_finds_it(
    simulate: Callable[..., Simulator],
    made: Night,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator = simulate()
    monkeypatch.setenv("BATCH_PIPELINE_LEDGER", postgres.url())
    done = call("run", "questions", "--date", DAY, "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["promoted_rows"] == 12
    for arguments in (
        ["scorecard", "questions", "--json"],
        ["estimate", "questions", "--date", "2026-11-19", "--offline", "--json"],
        ["alerts", "--json"],
        ["run", "questions", "--date", DAY, "--json"],
        ["purge", "--older-than", "0d"],
    ):
        said = call(*arguments)
        assert said.exit_code == 0, (arguments, said.stderr)
        assert PASSWORD not in said.output
    # An estimate of a load that was never begun begins nothing in what all share.
    shared = Ledger.of(Settings.from_environment())
    assert [record.load for record in shared.generations()] == [DAY]
    assert len(account_of(simulator)["batches"]) == 1


def test_a_machine_that_looks_for_the_rows_elsewhere_is_told_so_and_pays_nothing_again(
    simulate: Callable[..., Simulator],
    made: Night,
    postgres: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    simulator = simulate()
    monkeypatch.setenv("BATCH_PIPELINE_LEDGER", postgres.url())
    assert call("run", "questions", "--date", DAY).exit_code == 0
    monkeypatch.setenv("BATCH_PIPELINE_STATE", str(tmp_path / "another machine"))
    target = str(tmp_path / "rows.csv")
    for arguments in (
        ["run", "questions", "--date", DAY, "--json"],
        ["export", "questions", "--date", DAY, "--to", target],
    ):
        done = call(*arguments)
        assert done.exit_code == 2, done.output
        [said] = done.stderr.splitlines()
        assert "set BATCH_PIPELINE_ROWS as on the machine that began it" in said
        assert "--resend" not in said
        assert done.stdout == ""
    assert len(account_of(simulator)["batches"]) == 1


def test_a_ledgers_address_may_be_written_as_other_tools_have_it(
    made: Night, postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_LEDGER", postgres.url().replace("+psycopg", ""))
    assert call("alerts", "--json").exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "questions", "--date", DAY],
        ["scorecard", "questions"],
        ["purge", "--older-than", "1d"],
    ],
)
def test_a_ledger_out_of_reach_is_one_sentence_before_anything_is_sent(
    simulate: Callable[..., Simulator],
    made: Night,
    nobody: str,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    simulator = simulate()
    monkeypatch.setenv("BATCH_PIPELINE_LEDGER", nobody)
    done = call(*arguments)
    assert done.exit_code == 4
    said = done.stderr.splitlines()[-1]
    assert "cannot be reached" in said
    assert "BATCH_PIPELINE_LEDGER" in said
    assert PASSWORD not in done.output
    assert account_of(simulator)["arrived"] == {}
    assert not (made.context.settings.state / "rows").exists()


def test_the_sensor_says_that_the_ledger_is_away_and_does_not_fail(
    simulate: Callable[..., Simulator], made: Night, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate()
    monkeypatch.setenv("BATCH_PIPELINE_LEDGER", nobody)
    with dg.DagsterInstance.ephemeral() as dagster:
        said = str(tick(made, dagster).skip_message)
    assert "cannot be reached" in said
    assert PASSWORD not in said


def test_a_url_of_another_kind_is_refused_without_being_repeated(
    made: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_LEDGER", f"mysql://u:{PASSWORD}@h/d")
    done = call("run", "questions", "--date", DAY)
    assert done.exit_code == 2
    [said] = done.stderr.splitlines()
    assert "BATCH_PIPELINE_LEDGER is not of the form postgresql+psycopg://" in said
    assert PASSWORD not in said
