"""`review`: out, in, and how far it is, as a person calls it."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batch_pipeline.cli import main
from batch_pipeline.ledger.transactions import now
from batch_pipeline.review.intake import take_in
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import DAY, Night
from batch_pipeline_tests.review.desk import FAULTS, Desk, settled

FIX = {"decision": "fix", "fixed_label": "bug", "fixed_urgency": "2", "fixed_why": "x"}


def call(*arguments: str) -> Result:
    done = CliRunner().invoke(main, ["review", *arguments])
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


@pytest.fixture
def desk(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Desk:
    simulate(rows=FAULTS)
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(tmp_path / "workloads"))
    made = settled(night, tmp_path / "workloads")
    return Desk(made.context, tmp_path / "review.csv")


def test_a_review_from_its_export_to_the_promoted_rows(desk: Desk, tmp_path: Path) -> None:
    file = str(desk.path)
    assert call("export", "questions", "--to", str(tmp_path / "x.txt")).exit_code == 2
    assert call("export", "questions", "--to", str(tmp_path / "no" / "x.csv")).exit_code == 2
    done = call("export", "questions", "--date", DAY, "--to", file)
    assert done.exit_code == 0, done.output
    assert f"5 of the 5 rows of questions {DAY} in review written to {file}" in done.stderr
    assert call("export", "questions", "--to", file).exit_code == 2
    assert call("export", "questions", "--to", file, "--force").exit_code == 0
    assert "holds no decision yet" in call("import", "questions", "--from", file).stderr

    # A line that cannot stand stops the file, and each is printed.
    desk.decide(r00001=FIX, r00002={"decision": "accept"}, r00004={"decision": "perhaps"})
    done = call("import", "questions", "--from", file)
    assert done.exit_code == 2
    first, second, last = done.stderr.splitlines()
    assert first.startswith(f"line 3: questions.{DAY}.g1.")
    assert second.startswith(f"line 4: questions.{DAY}.g1.")
    assert "2 lines of" in last
    assert "nothing of it was taken in" in last
    assert desk.decided() == {}

    # A load that is not promoted yet takes them along later.
    desk.decide(r00001=FIX, r00002={"decision": "drop"})
    done = call("import", "questions", "--from", file, "--add-to-golden")
    assert done.exit_code == 0, done.output
    assert "0 accepted, 1 fixed, 1 dropped; 2 new or changed" in done.stderr
    assert "1 rows added to" in done.stderr
    assert "`batch-pipeline baseline record questions`" in done.stderr
    assert "are promoted when the load is" in done.stderr
    Night(desk.context).publish()
    assert desk.promoted()["r00001"][4] == "human"

    # One that is promoted is promoted anew.
    desk.decide(r00001=FIX | {"fixed_label": "billing"}, r00005={"decision": "accept"})
    done = call("import", "questions", "--from", file)
    assert done.exit_code == 0, done.output
    assert f"9 rows of questions {DAY} promoted" in done.stderr
    assert [desk.promoted()[key][0] for key in ("r00001", "r00005")] == [
        "billing",
        desk.rows()["r00005"]["model_label"],
    ]
    again = call("import", "questions", "--from", file)
    assert again.exit_code == 0
    assert "nothing was changed" in again.stderr
    assert "promoted" not in again.stderr

    (status,) = json.loads(call("status", "questions", "--json").stdout)["loads"]
    assert (status["accepted"], status["fixed"], status["dropped"], status["left"]) == (1, 1, 1, 2)
    assert status["promoted"]
    assert DAY in call("status", "questions").stdout

    # The file says which load it is of.
    desk.path.write_text(desk.path.read_text().replace(DAY, "2026-11-19"))
    done = call("import", "questions", "--from", file)
    assert done.exit_code == 2
    assert "There is no load 2026-11-19 of questions" in done.stderr
    done = call("import", "questions", "--from", file, "--date", DAY)
    assert done.exit_code == 2
    assert "this is of questions 2026-11-19" in done.stderr


def test_a_load_that_was_purged_has_nothing_to_review(desk: Desk) -> None:
    desk.export()
    desk.context.ledger.update_load(desk.context.record(), purged_at=now())
    for arguments in (
        ("import", "questions", "--from", str(desk.path)),
        ("export", "questions", "--to", str(desk.path), "--force"),
        ("status", "questions", "--date", DAY),
    ):
        done = call(*arguments)
        assert done.exit_code == 2
        assert "were purged at" in done.stderr
    assert "no row of questions waits" in call("status", "questions").stderr


def test_decisions_on_a_load_that_its_gate_holds_by_now_are_kept_and_not_promoted(
    desk: Desk,
) -> None:
    Night(desk.context).publish()
    before = desk.promoted()
    desk.declared(gates={"min_validity": 1})
    desk.decide(r00001=FIX)
    done = call("import", "questions", "--from", str(desk.path))
    assert done.exit_code == 3, done.output
    assert "the decisions are kept, but" in done.stderr
    assert desk.decided()["r00001"][0] == "fix"
    assert desk.promoted() == before


def test_decisions_whose_import_died_before_it_promoted_are_promoted_by_the_next_run(
    desk: Desk,
) -> None:
    Night(desk.context).publish()
    desk.decide(r00001=FIX)
    take_in(desk.context, desk.path, by="ana")
    assert "r00001" not in desk.promoted()
    done = CliRunner().invoke(main, ["run", "questions", "--date", DAY])
    assert done.exit_code == 0, done.output
    assert desk.promoted()["r00001"][4] == "human"
