"""`bakeoff` as a person calls it: exit codes, one JSON object, a page, and one sentence for what is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from batch_pipeline.cli import main
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import HAIKU, SONNET, Night, account_of

BOTH = f"{HAIKU},{SONNET}"
Call = Callable[..., tuple[int, str, str]]


@pytest.fixture
def call(
    night: Callable[..., Night],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Call:
    """Calls the command on a small workload: its exit code, standard output, standard error."""
    night(golden=4)
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(tmp_path / "workloads"))

    def run(*arguments: str, models: str = BOTH) -> tuple[int, str, str]:
        try:
            main(["bakeoff", "questions", "--models", models, *arguments])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 0
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_one_that_is_out_of_time_ends_with_4_and_the_next_call_goes_on(
    simulate: Callable[..., Simulator], call: Call, tmp_path: Path
) -> None:
    simulator = simulate(turnaround_seconds=1)
    code, output, errors = call("--max-wait", "0", "--json")
    assert code == 4
    assert json.loads(output)["finished"] is False
    assert "8 requests to 2 models cost at most about $0.0" in errors
    code, output, _ = call("--to", str(tmp_path / "mine.html"))
    assert code == 0
    assert account_of(simulator)["requests"]["accepted"] == 8
    assert f"The cheapest model that passes is {HAIKU}" in output
    assert "4 golden rows are few" in output
    (page,) = [
        line.removeprefix("Page: ") for line in output.splitlines() if line.startswith("Page: ")
    ]
    assert Path(page).is_file()
    assert (tmp_path / "mine.html").is_file()
    code, output, _ = call("--json")
    assert code == 0
    assert {one["model"] for one in json.loads(output)["models"]} == {HAIKU, SONNET}


def test_above_max_usd_nothing_is_sent(simulate: Callable[..., Simulator], call: Call) -> None:
    simulator = simulate()
    code, _, errors = call("--max-usd", "0.0001")
    assert code == 2
    assert "more than --max-usd 0.0001. Nothing was sent" in errors
    assert account_of(simulator)["requests"]["accepted"] == 0


@pytest.mark.parametrize(
    ("arguments", "models", "sentence"),
    [
        ((), HAIKU, "compares two models or more"),
        ((), f"{HAIKU},nope", "Model nope has no price"),
        (("--to", "report.pdf"), BOTH, "--to report.pdf: the name must end in .html."),
        (("--max-usd", "nan"), BOTH, "--max-usd nan"),
    ],
)
def test_wrong_use_is_one_sentence(
    arguments: tuple[str, ...], models: str, sentence: str, call: Call
) -> None:
    code, output, errors = call(*arguments, models=models)
    assert code == 2
    assert output == ""
    assert sentence in errors
    assert len(errors.splitlines()) == 1
