"""`batch-pipeline purge`: rows go, measures stay, and a crash in between is completed by the next call."""

import json
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.cli import main
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Ledger, Load
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.stages.source import read_source
from batch_pipeline.warehouse import warehouse
from batch_pipeline_tests import forked
from batch_pipeline_tests.night import DAY, Night, account_of

WRONG = {"*": {"wrong": 1.0}}


@pytest.fixture
def made(night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch) -> Night:
    night_made = night()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night_made.folder.parent))
    return night_made


@pytest.fixture
def promoted(simulate: Callable[..., Simulator], made: Night) -> Night:
    simulate()
    made.settle()
    made.publish()
    return made


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def purge(*arguments: str) -> Result:
    return call("purge", *arguments, "--older-than", "0d")


def rows_folder(night: Night) -> Path:
    return night.context.settings.state / "rows"


def record(night: Night) -> Load:
    return night.context.record()


def resend(night: Night) -> None:
    read_source(night.context, resend=True, requested_by="a run")
    night.settle()
    night.publish()


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_the_rows_go_and_the_measures_and_the_promoted_table_stay(promoted: Night) -> None:
    state = promoted.context.settings.state
    before = call("scorecard", "questions", "--json").stdout
    size = sum(path.stat().st_size for path in files(rows_folder(promoted)))

    done = purge()

    assert done.exit_code == 0, done.output
    assert f"questions {DAY}: {size:,} bytes of rows removed" in done.stdout
    assert "1 load:" in done.stdout
    assert files(rows_folder(promoted)) == []
    assert call("scorecard", "questions", "--json").stdout == before
    assert "promoted" in call("scorecard", "questions").stdout
    with warehouse(state) as connection:
        assert connection.execute("SELECT count(*) FROM promoted.questions").fetchone() == (12,)
        assert connection.execute("SELECT source_rows FROM metrics.scorecards").fetchone() == (12,)


def test_no_row_text_is_left_in_what_stays_below_the_state(promoted: Night) -> None:
    purge()
    kept = [path for path in files(promoted.context.settings.state) if "dagster" not in path.parts]
    assert {path.suffix for path in kept} >= {".json", ".duckdb", ".sqlite"}
    assert not [path for path in kept if b"question number" in path.read_bytes()]


def test_asking_for_rows_that_were_purged_says_when_they_went(
    promoted: Night, tmp_path: Path
) -> None:
    purge()
    target = tmp_path / "x.csv"
    for command in ("export", "dispositions"):
        done = call(command, "questions", "--date", DAY, "--to", str(target))
        assert done.exit_code == 2
        assert f"The rows and results of questions {DAY} were purged at 20" in done.stderr
        assert done.stderr.count("\n") == 1
        assert not target.exists()


def test_run_of_a_purged_load_shows_its_scorecard_without_its_rows(promoted: Night) -> None:
    before = call("scorecard", "questions", "--json").stdout
    purge()
    done = call("run", "questions", "--date", DAY, "--json")
    assert done.exit_code == 0, done.stderr
    assert done.stdout == before


def test_a_held_load_stays_held_and_can_no_longer_be_promoted(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulate(models=WRONG)
    made.settle()
    grade(made.context)
    before = call("scorecard", "questions", "--json").stdout
    purge()

    done = call("run", "questions", "--date", DAY, "--json")
    assert (done.exit_code, done.stdout) == (3, before)
    refused = call("promote", "questions", "--reason", "too late")
    assert refused.exit_code == 2
    assert "were purged at" in refused.stderr


def test_the_stages_of_a_purged_load_say_so_in_a_sentence(promoted: Night) -> None:
    purge()
    for stage in (promoted.submit, promoted.collect, promoted.publish):
        with pytest.raises(
            PipelineError, match=f"questions {DAY} were purged at .*pays for it again"
        ):
            stage()


def test_resend_after_a_purge_begins_anew_and_counts_what_was_paid_before(
    simulate: Callable[..., Simulator], promoted: Night
) -> None:
    first = measure_load(promoted.context)
    purge()
    done = call("run", "questions", "--date", DAY, "--json", "--resend")

    assert done.exit_code == 0, done.stderr
    card = json.loads(done.stdout)
    assert card["cost_usd"] == pytest.approx(2 * first.cost_usd)
    assert first.spend
    assert card["tokens"] == {kind: 2 * n for kind, n in first.spend.tokens.items()}
    assert record(promoted).generation == 2
    assert record(promoted).purged_at is None

    purge()
    resend(promoted)
    assert measure_load(promoted.context).cost_usd == pytest.approx(3 * first.cost_usd)


def test_every_generation_of_a_load_goes(promoted: Night) -> None:
    resend(promoted)
    assert len(list((rows_folder(promoted) / "questions" / DAY).iterdir())) == 2
    purge()
    assert files(rows_folder(promoted)) == []
    generations = promoted.ledger.generations("questions", DAY)
    assert [one.purged_at is not None for one in generations] == [True, True]


def test_unfinished_loads_are_named_and_left_alone(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulate(turnaround_seconds=3600)
    made.submit()
    before = files(rows_folder(made))
    done = purge()
    assert done.exit_code == 0
    assert f"questions {DAY}: it is not finished" in done.stdout
    assert "1 load left alone" in done.stdout
    assert files(rows_folder(made)) == before


def test_a_load_that_was_settled_but_never_graded_is_not_finished(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulate()
    made.settle()
    assert "it is not finished" in purge().stdout
    assert files(rows_folder(made))


def test_younger_loads_and_other_workloads_stay(promoted: Night) -> None:
    before = files(rows_folder(promoted))
    young = call("purge", "--older-than", "1d")
    assert (young.exit_code, young.stdout) == (0, "0 loads: 0 bytes of rows removed\n")
    unknown = call("purge", "elsewhere", "--older-than", "0d")
    assert unknown.exit_code == 2
    assert "There is no load of elsewhere" in unknown.stderr
    assert files(rows_folder(promoted)) == before
    assert "1 load:" in purge("questions").stdout


@pytest.mark.parametrize("age", ["90", "d", "-1d", "1.5d", "٣d", "999999w", "90 d"])
def test_an_age_that_is_none_is_wrong_use(age: str) -> None:
    done = call("purge", "--older-than", age)
    assert done.exit_code == 2
    assert "write days or weeks, as 90d or 12w" in done.stderr


def test_a_dry_run_says_the_same_and_removes_nothing(promoted: Night) -> None:
    before = files(promoted.context.settings.state)
    told = purge("--dry-run", "--delete-batches")
    assert "bytes of rows would be removed, 1 batches would be deleted" in told.stdout
    assert files(promoted.context.settings.state) == before
    done = purge("--delete-batches")
    assert told.stdout.replace("would be ", "") == done.stdout


def test_loads_of_a_workload_that_is_declared_no_more_go_too(promoted: Night) -> None:
    shutil.rmtree(promoted.folder)
    done = purge()
    assert done.exit_code == 0, done.output
    assert files(rows_folder(promoted)) == []


def test_a_load_that_an_older_version_graded_is_measured_before_it_goes(promoted: Night) -> None:
    kept = promoted.context.settings.state / "scorecards"
    before = call("scorecard", "questions", "--json").stdout
    shutil.rmtree(kept)
    declared = promoted.folder.rename(promoted.folder.with_name(".away"))
    assert "no scorecard of it is kept" in purge().stdout
    assert files(rows_folder(promoted))

    declared.rename(promoted.folder)
    assert purge().exit_code == 0
    assert files(rows_folder(promoted)) == []
    assert call("scorecard", "questions", "--json").stdout == before


def test_batches_are_deleted_at_the_api_and_one_that_is_gone_is_no_failure(
    simulate: Callable[..., Simulator], made: Night
) -> None:
    simulator = simulate()
    made.settle()
    made.publish()
    (batch,) = made.ledger.batches(record(made))
    BatchesApi().delete(batch.batch_id)
    done = purge("--delete-batches")
    assert done.exit_code == 0, done.output
    assert "1 batches deleted at the API" in done.stdout
    assert made.ledger.batches(record(made))[0].deleted_at is not None
    assert account_of(simulator)["batches"][0]["status"] == "deleted"


def test_what_the_api_will_not_delete_does_not_keep_the_rest_and_is_tried_again(
    simulate: Callable[..., Simulator], night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate(calls=[{"on": "delete", "fault": "status", "status": 500, "first": 1}])
    nights = [night(day=day) for day in ("2026-11-18", "2026-11-19")]
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(nights[0].folder.parent))
    for one in nights:
        one.settle()
        one.publish()

    first = purge("--delete-batches")
    assert first.exit_code == 4
    assert "1 batches could not be deleted at the API; all else is done" in first.stderr
    assert files(rows_folder(nights[0])) == []
    statuses = [batch["status"] for batch in account_of(simulator)["batches"]]
    assert sorted(statuses) == ["deleted", "ended"]

    again = purge("--delete-batches")
    assert again.exit_code == 0
    assert {batch["status"] for batch in account_of(simulator)["batches"]} == {"deleted"}
    assert purge("--delete-batches").stdout.startswith("0 loads")


def test_batches_of_another_api_are_not_taken_for_deleted(
    promoted: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = promoted.ledger.batches(record(promoted))[0]
    promoted.ledger.update_batch(batch.batch_id, api="https://elsewhere.invalid")
    done = purge("--delete-batches")
    assert done.exit_code == 4
    assert "https://elsewhere.invalid" in done.stderr
    assert promoted.ledger.batches(record(promoted))[0].deleted_at is None


def test_a_load_that_somebody_works_on_is_left_for_the_next_purge(
    promoted: Night, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_pipeline.stages.purge._LOCK_WAIT_SECONDS", 0.05)
    with promoted.ledger.hold("questions", DAY):
        told = purge()
    assert "Another process is working on questions" in told.stdout
    assert files(rows_folder(promoted))


# Kills itself at the n-th thing that a purge changes: a file that goes, a rename, a commit of the ledger.
_KILLED = """
import os, signal, sys
from sqlalchemy import event, Engine
from batch_pipeline.cli import main
import batch_pipeline.cli.purge
left = int(sys.argv[1])
def step(*_):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(lambda name, _: step() if name in ("os.remove", "os.rmdir", "os.rename") else None)
event.listen(Engine, "commit", step)
main(["purge", "--older-than", "0d", "--delete-batches"])
"""


def test_a_purge_killed_anywhere_is_completed_by_the_next(
    simulate: Callable[..., Simulator], promoted: Night, tmp_path: Path
) -> None:
    resend(promoted)
    before = call("scorecard", "questions", "--json").stdout
    state = promoted.context.settings.state
    whole = tmp_path / "whole"
    shutil.copytree(state, whole)
    kills = 0
    for n in (0, 2, 5, 11, 40):
        shutil.rmtree(state)
        shutil.copytree(whole, state)
        killed = forked.run(_KILLED, str(n))
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        kills += 1
        assert call("scorecard", "questions", "--json").stdout == before, n
        assert purge("--delete-batches").exit_code == 0
        assert call("scorecard", "questions", "--json").stdout == before, n
        assert files(rows_folder(promoted)) == [], n
        fates = [batch.deleted_at for batch in Ledger(state).batches(record(promoted))]
        assert fates
        assert None not in fates
    assert kills >= 4
