"""What a file, an API or a person wrote is shown by a terminal or a log, never obeyed."""

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from batch_pipeline.cli import main
from batch_pipeline.cli.scorecard_table import print_scorecard
from batch_pipeline.errors import PipelineError, printable
from batch_pipeline.measure.gate import GateDecision
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.scorecard import empty_scorecard
from batch_pipeline_tests.night import DAY, Night, write_csv

# Clears the screen, sets the title, forges a line, goes back over it, turns the reading direction.
EVIL = "a\x1b[2J\x1b]0;title\x07\nbatch-pipeline: promoted\rb\x9b1m\u202ec\u2028d"


def obeyed(text: str) -> list[str]:
    """The characters of `text` that a terminal would act on; line ends of whole lines are ours."""
    return [c for c in text.replace("\n", "") if not c.isprintable()]


def test_control_characters_are_spelled_out() -> None:
    assert printable("a\x1b[2J\nb\tc\u202ed é😀") == "a\\x1b[2J\\nb\\tc\\u202ed é😀"
    assert printable("\udcff") == "\\udcff"
    assert str(PipelineError("a\x1b[2J")) == "a\\x1b[2J"


@pytest.mark.parametrize("command", ["export", "dispositions"])
def test_a_file_name_in_an_error(night: Callable[..., Night], tmp_path: Path, command: str) -> None:
    done = CliRunner().invoke(main, [command, "questions", "--to", str(tmp_path / EVIL / "a.csv")])

    assert done.exit_code == 2
    assert "does not exist" in done.stderr
    assert obeyed(done.output) == []
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("content", [None, "id,text\n1,a\n1,b\n", 'id,text\n1,"a\n', ""])
def test_a_sources_name_in_an_error(
    night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch, content: str | None
) -> None:
    made = night(golden=0)
    name = EVIL.replace("\u2028", "") + ".csv"
    if content is not None:
        (made.folder / name).write_text(content)
    declared = (made.folder / "defs.yaml").read_text()
    (made.folder / "defs.yaml").write_text(declared.replace("source.csv", json.dumps(name)))
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
    done = CliRunner().invoke(main, ["run", "questions", "--date", DAY])

    assert done.exit_code == 2, done.output
    assert "csv" in done.stderr
    assert obeyed(done.output) == []
    assert len(done.stderr.splitlines()) == 1


def test_keys_and_columns_in_an_error(
    night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = night(golden=0)
    column = EVIL.replace("\n", "").replace("\r", "")
    write_csv(made.folder / "source.csv", [{"id": EVIL, "text": "a", column: "b"}] * 2)
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
    twice = CliRunner().invoke(main, ["run", "questions", "--date", DAY])
    write_csv(made.folder / "source.csv", [{"id": "1", column: "b"}])
    missing = CliRunner().invoke(main, ["run", "questions", "--date", DAY])

    write_csv(made.folder / "source.csv", [{"id": "1", "text": "a", EVIL: "b"}])
    lines = CliRunner().invoke(main, ["run", "questions", "--date", DAY])

    for done, said in (
        (twice, "is not unique"),
        (missing, "does not have"),
        (lines, "whose name is two lines"),
    ):
        assert done.exit_code == 2
        assert said in done.stderr
        assert obeyed(done.output) == []
        assert len(done.stderr.splitlines()) == 1


def test_what_the_api_says_in_an_error(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulate(
        calls=[{"on": "create", "fault": "status", "status": 400, "message": EVIL}],
    )
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night(golden=0).folder.parent))
    done = CliRunner().invoke(main, ["run", "questions", "--date", DAY, "--max-wait", "0"])

    assert done.exit_code == 4, done.output
    assert "title" in done.stderr
    assert obeyed(done.output) == []


def test_the_scorecard() -> None:
    card = replace(
        empty_scorecard("questions", DAY),
        reasons=[("quarantined", f"check:{EVIL}", 3)],
        answered_by=(f"http://{EVIL}",),
        gate=GateDecision(True, [EVIL], "fingerprint", override_reason=EVIL),
    )
    shown = StringIO()
    print_scorecard(card, Console(file=shown, width=200, force_terminal=False))

    assert "title" in shown.getvalue()
    assert obeyed(shown.getvalue()) == []
    assert "\nbatch-pipeline: promoted" not in shown.getvalue()
