"""`batch-pipeline rollback`: a promotion is undone as a whole, and everything that speaks of the load says so."""

import json
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from batch_pipeline.cli import main
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.ledger import Ledger, Load
from batch_pipeline.report import report_path
from batch_pipeline.report.index import index_path
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.next_step import Action
from batch_pipeline.stages.promote import GateClosedError, promote
from batch_pipeline.stages.rollback import rollback as undo
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.stages.source import read_source
from batch_pipeline.warehouse import warehouse
from batch_pipeline.warehouse.history import nights
from batch_pipeline_tests import forked
from batch_pipeline_tests.night import DAY, Night

NEXT_DAY = "2026-11-21"


@pytest.fixture
def promoted(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    monkeypatch: pytest.MonkeyPatch,
) -> Night:
    simulate()
    made = night()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
    made.settle()
    made.publish()
    return made


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def rollback(load: str = DAY, reason: str = "the labels are wrong") -> Result:
    return call("rollback", "questions", load, "--reason", reason)


def test_another_warehouse_than_the_one_it_was_promoted_to_is_told_apart(
    promoted: Night, tmp_path: Path
) -> None:
    """Else the ledger would say that it was rolled back, and its rows would stay."""
    state = promoted.context.settings.state
    (state / "warehouse.duckdb").rename(tmp_path / "aside")
    elsewhere = rollback()
    (state / "warehouse.duckdb").unlink(missing_ok=True)
    (tmp_path / "aside").rename(state / "warehouse.duckdb")

    assert elsewhere.exit_code == 4
    assert "knows of no promotion of questions 2026-11-20" in elsewhere.stderr
    assert promoted.context.record().promoted_at is not None
    assert rollback().exit_code == 0


def next_night(first: Night) -> Night:
    """The same source on the next day, promoted: every key is the later load's."""
    context = first.context
    later = Night(LoadContext.open(context.workload, NEXT_DAY, context.settings))
    later.settle()
    later.publish()
    return later


def table(night: Night) -> dict[str, int]:
    """How many promoted rows each load owns."""
    with warehouse(night.context.settings) as connection:
        query = "SELECT _load, count(*) FROM promoted.questions GROUP BY _load"
        return dict(connection.execute(query).fetchall())


def record(night: Night) -> Load:
    return night.context.record()


def scorecard(load: str = DAY) -> Any:
    return json.loads(call("scorecard", "questions", "--date", load, "--json").stdout)


def test_the_rows_are_gone_and_the_command_says_how_many_and_how_they_come_back(
    promoted: Night,
) -> None:
    done = rollback()
    assert done.exit_code == 0, done.output
    assert (
        f"questions {DAY} is rolled back: 12 rows of it were taken back from promoted.questions: 12 are gone, 0 "
        "have their former row again, 0 belong to later loads." in done.stderr
    )
    assert f"`batch-pipeline promote questions --date {DAY} --reason ...`" in done.stderr
    assert table(promoted) == {}


def test_rows_that_it_replaced_are_back_and_rows_of_later_loads_stay(promoted: Night) -> None:
    later = next_night(promoted)
    assert table(later) == {NEXT_DAY: 12}
    assert "12 belong to later loads" in rollback().stderr
    assert table(later) == {NEXT_DAY: 12}
    promote(promoted.context, override_reason="it was right")
    assert "12 have their former row again" in rollback(NEXT_DAY).stderr
    assert table(later) == {DAY: 12}


def test_the_ledger_says_when_by_whom_and_why(promoted: Night) -> None:
    before = record(promoted)
    rollback(reason="the labels are wrong")
    after = record(promoted)
    assert before.promoted_at is not None
    assert after.rolled_back_at is not None
    assert after.rolled_back_at > before.promoted_at
    assert after.rolled_back_by
    assert after.rollback_reason == "the labels are wrong"
    assert (after.promoted_at, after.promoted_rows, after.gate) == (None, None, "hold")


def test_the_scorecard_the_page_the_index_and_the_metrics_say_it(promoted: Night) -> None:
    rollback(reason="the labels are wrong")
    shown = scorecard()
    assert shown["promoted_rows"] == 0
    assert shown["gate"]["promote"] is False
    assert shown["gate"]["reasons"][0].startswith("the load was rolled back by ")
    assert shown["gate"]["reasons"][0].endswith(" UTC: the labels are wrong")
    settings = promoted.context.settings
    page = report_path(settings.state, "questions", DAY).read_text(encoding="utf-8")
    assert "Rolled back" in page
    assert "the labels are wrong" in page
    assert "rolled back" in index_path(settings.state).read_text(encoding="utf-8")
    assert nights(settings, "questions")[-1].promote is False


def test_nothing_promotes_it_again_by_itself(promoted: Night) -> None:
    rollback()
    assert promoted.next() is Action.HELD
    with pytest.raises(GateClosedError, match=r"rolled back by .*`batch-pipeline promote`"):
        promoted.publish()
    assert table(promoted) == {}
    done = call("run", "questions", "--date", DAY, "--json")
    assert done.exit_code == 3, done.stderr
    assert table(promoted) == {}


def test_a_person_promotes_it_again_with_a_reason_and_may_roll_it_back_once_more(
    promoted: Night,
) -> None:
    rollback()
    done = call("promote", "questions", "--date", DAY, "--reason", "it was right after all")
    assert done.exit_code == 0, done.output
    assert table(promoted) == {DAY: 12}
    assert promoted.next() is Action.PROMOTED
    assert promoted.publish().promotion.written == 0
    # What opened the gate then does not open it after the second time.
    rollback(reason="no, it was wrong")
    with pytest.raises(GateClosedError):
        promoted.publish()
    assert table(promoted) == {}


def test_what_is_rolled_back_already_or_not_promoted_is_told_so_in_a_sentence(
    promoted: Night,
) -> None:
    rollback(reason="the labels are wrong")
    again = rollback(reason="again")
    assert again.exit_code == 2
    assert again.stderr.startswith(f"batch-pipeline: questions {DAY} was rolled back already, by ")
    assert "the labels are wrong. To promote it again: `batch-pipeline promote" in again.stderr
    assert again.stderr.count("\n") == 1
    read_source(LoadContext.open(promoted.context.workload, NEXT_DAY, promoted.context.settings))
    other = rollback(NEXT_DAY)
    assert other.exit_code == 2
    assert f"questions {NEXT_DAY} is not promoted, so there is nothing to roll back" in other.stderr


@pytest.mark.parametrize("reason", ["", "  "])
def test_an_empty_reason_is_none(promoted: Night, reason: str) -> None:
    done = rollback(reason=reason)
    assert done.exit_code == 2
    assert "--reason is empty" in done.stderr
    assert table(promoted) == {DAY: 12}


def test_its_rows_cannot_be_exported(promoted: Night, tmp_path: Path) -> None:
    rollback()
    done = call("export", "questions", "--date", DAY, "--to", str(tmp_path / "rows.csv"))
    assert done.exit_code == 3
    assert f"questions {DAY} is rolled back, so nothing of it is promoted" in done.stderr


def test_a_load_that_is_sent_again_is_promoted_as_any_other(promoted: Night) -> None:
    rollback()
    read_source(promoted.context, resend=True, requested_by="a run")
    promoted.settle()
    promoted.publish()
    assert table(promoted) == {DAY: 12}
    assert not record(promoted).rolled_back


def test_a_load_whose_rows_were_purged_can_be_rolled_back(promoted: Night) -> None:
    assert call("purge", "questions", "--older-than", "0d").exit_code == 0
    done = rollback(reason="the labels are wrong")
    assert done.exit_code == 0, done.output
    assert table(promoted) == {}
    shown = scorecard()
    assert (shown["promoted_rows"], shown["gate"]["promote"]) == (0, False)


def test_its_reason_is_told_to_dagster_where_its_rows_are_shown(promoted: Night) -> None:
    import dagster as dg

    from batch_pipeline.dag.instance import open_instance

    rollback()
    with open_instance(promoted.context.settings) as instance:
        told = instance.fetch_observations(dg.AssetKey(["questions", "promoted_rows"]), limit=5)
    assert [one.partition_key for one in told.records] == [DAY]


# Dies at the n-th thing that lasts: in the warehouse's transaction, in the ledger's, and between the two.
_KILLED = """
import sys
from pathlib import Path
from batch_pipeline.cli.opening import existing_load
from batch_pipeline.stages.rollback import rollback
from batch_pipeline_tests.faults.boundaries import Boundaries
folder, state, number, load = sys.argv[1:]
Boundaries(
    Path(folder) / "log", Path(state) / "dagster", ("product", int(number)), Path(state)
).install("sqlite", "duckdb")
rollback(existing_load("questions", load), reason="the labels are wrong", by="ann")
"""


def test_killed_anywhere_it_is_undone_or_whole_and_the_next_call_finishes_it(
    promoted: Night, tmp_path: Path
) -> None:
    later = next_night(promoted)
    state, whole = promoted.context.settings.state, tmp_path / "whole"
    shutil.copytree(state, whole)
    seen = set()
    for number in range(1, 100):
        shutil.rmtree(state)
        shutil.copytree(whole, state)
        killed = forked.run(_KILLED, str(tmp_path), str(state), str(number), NEXT_DAY)
        if killed.returncode == 0:
            break
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        # The files were changed below the ledger that the night has open.
        context = replace(later.context, ledger=Ledger(state))
        left = table(later), context.record().rolled_back
        assert left in STATES, number
        seen.add(STATES.index(left))
        with suppress(ConfigurationError):
            undo(context, reason="the labels are wrong", by="ann")
        assert table(later) == {DAY: 12}, number
        assert context.record().rolled_back, number
        assert measure_load(context).promoted_rows == 0, number
    assert seen == {0, 1, 2}


# Before it, between the system of record and the ledger, and after both.
STATES = (({NEXT_DAY: 12}, False), ({DAY: 12}, False), ({DAY: 12}, True))
