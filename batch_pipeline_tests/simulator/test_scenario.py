"""Scenario files and answer keys: what is read, and the sentence for what cannot be."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from batch_pipeline.simulator import Scenario, ScenarioError, Simulator, SimulatorError

EXAMPLE = r"""
seed: 7
turnaround_seconds: [1, 5]
answers:
  file: key.csv
  lookup: {column: body, pattern: "(?s)\\n\\n(.*)\\Z"}
models:
  claude-haiku-4-5: {wrong: 0.05, broken: 0.03, refusal: 0.002, invalid_request: 0}
  "*": {wrong: 0.01}
rows:
  - {contains: "x", model: claude-haiku-4-5, times: 1, fault: server_error}
  - {every: 100, fault: expired}
calls:
  - {on: create, nth: 1, fault: drop_after_accepting}
  - {on: [retrieve, list], first: 2, fault: status, status: 529, retry_after: 1.5}
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "scenario.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_scenario_is_read(tmp_path: Path) -> None:
    scenario = Scenario.from_file(_write(tmp_path, EXAMPLE))
    assert scenario.seed == 7
    assert scenario.calls[1].kinds == ("retrieve", "list")
    assert scenario.turnaround_seconds == (1.0, 5.0)
    assert scenario.rates("claude-haiku-4-5")["broken"] == 0.03
    assert scenario.rates("claude-opus-5") == {"wrong": 0.01}
    assert [str(rule.fault) for rule in scenario.rows] == ["server_error", "expired"]


def test_the_answer_key_is_beside_the_scenario(tmp_path: Path) -> None:
    scenario = Scenario.from_file(_write(tmp_path, EXAMPLE))
    assert scenario.answers is not None
    assert scenario.answers.file == tmp_path / "key.csv"


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    assert Scenario.from_file(_write(tmp_path, "# nothing\n")) == Scenario()


def test_every_option_is_described() -> None:
    for name, field in Scenario.model_json_schema()["properties"].items():
        assert field.get("description") or name in {"rows", "calls"}, name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("seed: x", "seed: input should be a valid integer"),
        ("sed: 7", "sed: no such option."),
        ("- seed", "a scenario is a mapping"),
        ("seed: [", "line 1: not YAML"),
        ("turnaround_seconds: [5, 1]", r"turnaround_seconds: give seconds"),
        ("turnaround_seconds: soon", r"turnaround_seconds: input should be a valid number"),
        ("models: {claude-haiku-9: {}}", "models: claude-haiku-9 is no model of this API"),
        ("models: {'*': {wrong: 0.6, broken: 0.6}}", "models: the rates of .* more than 1"),
        ("models: {'*': {wrong: 2}}", r"models\.\*\.wrong: .* less than or equal to 1"),
        ("models: {'*': {rong: 0.1}}", r"models\.\*\.rong: "),
        ("rows: [{fault: nonsense}]", r"rows\.0\.fault: input should be 'wrong', "),
        ("rows: [{every: 0, fault: wrong}]", r"rows\.0\.every: .* greater than or equal to 1"),
        ("calls: [{on: created, fault: hang}]", r"calls\.0\.on: input should be 'create'"),
        ("calls: [{on: list, fault: status}]", r"calls\.0: fault status needs `status`"),
        ("calls: [{on: list, fault: hang}]", r"calls\.0: fault hang needs `seconds`"),
        ("calls: [{on: list, fault: cut_short}]", "fault cut_short can only be `on: results`"),
        (
            "answers: {file: k.csv, lookup: {pattern: '('}}",
            r"answers\.lookup\.pattern: not a regular expression",
        ),
        (
            "answers: {file: k.csv, lookup: {pattern: 'x'}}",
            r"answers\.lookup\.pattern: the pattern needs a group",
        ),
    ],
)
def test_a_bad_scenario_gets_a_sentence_with_file_and_field(
    tmp_path: Path, text: str, sentence: str
) -> None:
    with pytest.raises(ScenarioError) as caught:
        Scenario.from_file(_write(tmp_path, text))
    assert str(caught.value).startswith(f"{tmp_path / 'scenario.yaml'}: ")
    assert re.search(sentence, str(caught.value))
    assert "\n" not in str(caught.value)


def test_a_missing_scenario_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"none\.yaml: cannot read the scenario: No such file"):
        Simulator(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("key", "sentence"),
    [
        (None, "cannot read the answer key: No such file"),
        ("text,label\na,red\n", "has no column body, .*; it has text, label"),
        ("", "has no column body, .*; it has none"),
        ("body,label\na\n", "line 2: 1 cells under a header of 2"),
        ("body,fault\na,boom\n", "line 2: column fault: no such row fault"),
        ("body,difficulty\na,2\n", "line 2: column difficulty: give a number from 0 to 1"),
        ("body,label\nsecret row,red\nsecret  row,blue\n", "line 3: an earlier row has the same"),
        (b"body\n\xff\n", "not UTF-8"),
    ],
)
def test_a_bad_answer_key_gets_a_sentence(
    tmp_path: Path, key: str | bytes | None, sentence: str
) -> None:
    if key is not None:
        data = key if isinstance(key, bytes) else key.encode()
        (tmp_path / "key.csv").write_bytes(data)
    path = _write(tmp_path, "answers: {file: key.csv, lookup: {column: body}}")
    with pytest.raises(ScenarioError, match=sentence) as caught:
        Simulator(path).start()
    assert str(caught.value).startswith(str(tmp_path / "key.csv"))
    assert "secret" not in str(caught.value)


def test_a_port_in_use_gets_a_sentence() -> None:
    with Simulator() as first:
        port = int(first.base_url.rsplit(":", 1)[1])
        with pytest.raises(SimulatorError, match=f"Port {port} cannot be used"):
            Simulator(port=port).start()


def test_there_is_no_url_before_the_start() -> None:
    with pytest.raises(SimulatorError, match="not running"):
        _ = Simulator().base_url
