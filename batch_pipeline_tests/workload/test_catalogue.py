"""Workloads are found by name, and a declaration that is wrong is named by file, line and field."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import Settings
from batch_pipeline.workload.catalogue import (
    all_declarations,
    declaration_files,
    find_workload,
    read_declarations,
)
from batch_pipeline_tests.night import declaration

GOOD = """\
type: batch_pipeline.BatchWorkload
attributes:
  name: questions
  source: {path: source.csv, key: id}
  prompt:
    user: "{{ text }}"
  output:
    label:
      type: string
      enum: [a, b]
  tiers:
    - {model: claude-haiku-4-5, max_tokens: 64}
"""


@pytest.fixture
def workloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "workloads"
    folder.mkdir()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(folder))
    return folder


def write(workloads: Path, folder: str, text: str = GOOD) -> Path:
    path = workloads / folder / "defs.yaml"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as refused:
        list(read_declarations(path))
    sentence = str(refused.value)
    assert sentence.startswith(str(path))
    assert "\n" not in sentence
    return sentence.removeprefix(str(path))


def find(name: str = "questions") -> Any:
    return find_workload(name, Settings.from_environment())


def test_braces_mean_what_the_yaml_says(workloads: Path) -> None:
    (spec,) = read_declarations(write(workloads, "questions"))
    assert spec.prompt.user == "{{ text }}"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("    user:", "    usr:"), ", line 6: prompt.usr: there is no such field; known are system, user, cache (and 1 more)"),
        (("  output:", "  outputs:"), ", line 7: outputs: there is no such field"),
        (("64}", "64, efort: low}"), ", line 12: tiers.0.efort: there is no such field; known are model, max_tokens, effort"),
        (("64}", "sixty}"), ", line 12: tiers.0.max_tokens: must be a valid integer"),
        (("64}", "0}"), ", line 12: tiers.0.max_tokens: must be greater than or equal to 1"),
        (("  name: questions\n", ""), ", line 2: name: is missing"),
        (("name: questions", "name: 7"), ", line 3: name: must be a valid string"),
        (("name: questions", "name: My questions"), ", line 3: name: 'My questions' is not a workload's name"),
        (("path: source.csv, ", ""), ", line 4: source: give either `path` or `sql`"),
        (('"{{ text }}"', "{{ text }}"), ", line 6: not valid YAML: text that begins with a brace must be in quotes"),
        (("type: string", "type: text"), ", line 9: output.label.type: text is not supported"),
        (("enum: [a, b]", "enum: [a, yes]"), ", line 10: output.label.enum: True is not of type string"),
        (("    label:", "    no:"), ", line 8: output: the name False is not text; put it in quotes"),
        (("      enum", "      type: integer\n      enum"), ", line 10: 'type' is given twice, first in line 9"),
        (("  tiers:", "  output: {}\n  tiers:"), ", line 11: 'output' is given twice, first in line 7"),
        (("attributes:", "attribute:"), ", line 2: there is no such field as 'attribute' here"),
        (("type: batch_pipeline.BatchWorkload\n", ""), ", line 1: there is no type"),
        (("BatchWorkload\n", "Batchworkload\n"), ", line 1: there is no component batch_pipeline.Batchworkload; write batch_pipeline.BatchWorkload"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_by_file_line_and_field(
    workloads: Path, change: tuple[str, str], said: str
) -> None:
    assert GOOD.count(change[0]) == 1
    assert refusal(write(workloads, "questions", GOOD.replace(*change))).startswith(said)


def test_a_list_where_fields_belong_is_refused(workloads: Path) -> None:
    assert "there is no type" in refusal(write(workloads, "questions", "- a\n- b\n"))


def test_components_of_other_types_are_passed_over(workloads: Path) -> None:
    path = write(workloads, "mixed", f"type: dagster.DefsFolderComponent\n---\n{GOOD}")
    assert [spec.name for spec in read_declarations(path)] == ["questions"]


def test_a_workload_is_found_by_its_name_wherever_its_folder_is(workloads: Path) -> None:
    path = write(workloads, "deep/er/folder")
    assert find().folder == path.parent


def test_an_unknown_name_is_answered_with_those_that_are_known(workloads: Path) -> None:
    write(workloads, "questions")
    with pytest.raises(
        ConfigurationError, match="no workload 'answers'; known: questions, support_tickets"
    ):
        find("answers")


def test_a_name_declared_twice_is_refused_with_both_places(workloads: Path) -> None:
    first, second = write(workloads, "one"), write(workloads, "two")
    with pytest.raises(ConfigurationError, match="declared twice") as refused:
        find()
    assert str(first) in str(refused.value)
    assert str(second) in str(refused.value)


def test_a_broken_neighbour_keeps_no_workload_from_running(workloads: Path) -> None:
    write(workloads, "questions")
    broken = write(
        workloads, "broken", "type: batch_pipeline.BatchWorkload\nattributes: {name: x}\n"
    )

    assert find().name == "questions"
    with pytest.raises(ConfigurationError, match=f"{broken} cannot be read"):
        find("elsewhere")


@pytest.mark.parametrize("folder", ["questions", "elsewhere"])
def test_a_workload_that_is_broken_itself_says_why(workloads: Path, folder: str) -> None:
    write(workloads, folder, GOOD.replace("max_tokens: 64", "max_tokens: 0"))
    with pytest.raises(ConfigurationError, match="line 12: tiers"):
        find()


def test_hidden_folders_are_left_out(workloads: Path) -> None:
    kept = write(workloads, "questions")
    write(workloads, ".venv/lib/questions")
    assert declaration_files(workloads) == [kept]


def test_a_folder_that_holds_the_shipped_workloads_declares_none_twice(
    workloads: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shipped = all_declarations(Settings.from_environment())
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(shipped[0].parent.parent))
    assert all_declarations(Settings.from_environment()) == shipped


def test_the_declaration_of_the_tests_is_one_of_the_readable_ones(workloads: Path) -> None:
    text = yaml.safe_dump(
        {"type": "batch_pipeline.workload.component.BatchWorkload", "attributes": declaration()}
    )
    assert [s.name for s in read_declarations(write(workloads, "q", text))] == ["questions"]
