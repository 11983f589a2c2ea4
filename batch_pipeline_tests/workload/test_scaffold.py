"""A first workload from a data file: what it declares, what it refuses, and that hostile names do no harm."""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.rows.query import querying
from batch_pipeline.stages.source import check_source
from batch_pipeline.workload.catalogue import read_declarations
from batch_pipeline.workload.prompt import Prompt
from batch_pipeline.workload.scaffold import Scaffold, scaffold, slot
from batch_pipeline.workload.scaffold_text import scalar
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline.workload.workload import Workload
from batch_pipeline_tests.night import DAY, LABELS, rows, write_csv

# Characters that a file's column or label may have, and that YAML and Jinja have meanings for.
hostile = st.text(
    st.one_of(
        st.characters(codec="utf-8", exclude_characters="\0"),
        st.sampled_from("\"'\\{}%#:,[]&*!|>@`-? \t\n\r\u2028\x85\ufeff"),
    ),
    min_size=1,
    max_size=8,
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "data.csv", rows(30))


def make(data: Path, name: str = "questions", **options: Any) -> Scaffold:
    chosen = {"key": "id", "text": "text", "labels": None, **options}
    return scaffold(data.parent / "workloads", name, data=data, **chosen)


def loaded(made: Scaffold) -> Workload:
    """The workload, read and checked as a run would."""
    (spec,) = read_declarations(made.folder / "defs.yaml")
    workload = Workload.build(spec, made.folder)
    with querying(made.folder.parent.parent / "scratch") as connection:
        check_source(workload, DAY, connection)
    return workload


def golden(made: Scaffold) -> list[dict[str, str]]:
    with (made.folder / "golden.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def refusal(data: Path, **options: Any) -> str:
    with pytest.raises(ConfigurationError) as refused:
        make(data, **options)
    assert not (data.parent / "workloads").exists()
    return str(refused.value)


def file_of(data: Path, lines: Sequence[Mapping[str, Any]]) -> Path:
    return write_csv(data.parent / "other.csv", lines)


# What is written


def test_a_column_of_right_labels_becomes_an_enum_and_a_golden_set(data: Path) -> None:
    made = make(data, labels="label")
    workload = loaded(made)

    assert made.files == ("defs.yaml", "system.md", "golden.csv")
    assert workload.spec.output["label"]["enum"] == sorted(LABELS)
    assert workload.spec.golden is not None
    assert (workload.spec.golden.match, str(workload.spec.golden.baseline)) == (["label"], "0.8")
    known = {row["id"]: row for row in rows(30)}
    assert {row["expected_label"] for row in golden(made)} == set(LABELS)
    for row in golden(made):
        assert (row["text"], row["expected_label"]) == (
            known[row["id"]]["text"],
            known[row["id"]]["label"],
        )


def test_golden_rows_are_spread_over_the_labels_and_always_the_same(data: Path) -> None:
    lines = [
        {"id": str(n), "text": f"t{n}", "label": "rare" if n % 100 == 0 else f"often{n % 2}"}
        for n in range(1000)
    ]
    other = file_of(data, lines)
    made = make(other, labels="label")
    counted = [row["expected_label"] for row in golden(made)]

    assert made.golden_rows == len(counted) == 100
    assert {label: counted.count(label) for label in set(counted)} == {
        "rare": 10,
        "often0": 45,
        "often1": 45,
    }
    shuffled = file_of(data, sorted(lines, key=lambda line: line["text"][::-1]))
    assert golden(make(shuffled, "again", labels="label")) == golden(made)


def test_a_file_of_labels_becomes_an_enum_in_its_order(data: Path) -> None:
    labels = data.with_name("labels.txt")
    labels.write_text('\ufefflabel\nzebra\n"a, b"\n\n  yes \nzebra\n', encoding="utf-8")
    made = make(data, labels=str(labels))

    assert made.labels == ("zebra", "a, b", "yes")
    assert loaded(made).spec.output["label"]["enum"] == ["zebra", "a, b", "yes"]
    assert loaded(made).spec.golden is None
    assert made.files == ("defs.yaml", "system.md")


def test_without_labels_a_summary_is_asked_for(data: Path) -> None:
    made = make(data)
    spec = loaded(made).spec

    assert spec.output["summary"]["type"] == "string"
    assert (spec.golden, made.labels, made.golden_rows) == (None, (), 0)


def test_the_system_prompt_names_the_field_and_every_label(data: Path) -> None:
    text = (make(data, labels="label").folder / "system.md").read_text(encoding="utf-8")
    assert "`label`" in text
    assert all(f"\n- {label}\n" in text for label in LABELS)


@pytest.mark.parametrize("labels", ["label", None])
def test_every_option_of_a_declaration_is_shown_or_mentioned(
    data: Path, labels: str | None
) -> None:
    text = (make(data, labels=labels).folder / "defs.yaml").read_text(encoding="utf-8")

    def names(model: type[BaseModel]) -> Iterator[str]:
        for name, field in model.model_fields.items():
            yield name
            for part in (field.annotation, *get_args(field.annotation)):
                if isinstance(part, type) and issubclass(part, BaseModel):
                    yield from names(part)

    assert [name for name in names(WorkloadSpec) if name not in text] == []


def test_the_options_that_are_commented_out_are_valid_when_they_are_used(data: Path) -> None:
    text = (make(data).folder / "defs.yaml").read_text(encoding="utf-8")
    for line in text.splitlines():
        option = line.strip().removeprefix("# ")
        if line.strip().startswith("# ") and option.split(":")[0] in WorkloadSpec.model_fields:
            text = text.replace(line, line.replace("# ", "", 1))
    value = yaml.safe_load(text)["attributes"]
    (made,) = [WorkloadSpec.model_validate(value)]

    assert (made.schedule, made.checks, made.owners) == (
        "0 2 * * *",
        "my_checks:Frame",
        ["team:data"],
    )
    assert made.golden is not None


@pytest.mark.parametrize("ending", ["parquet", "ndjson"])
def test_the_other_formats_do_as_well(data: Path, ending: str) -> None:
    other = data.with_suffix(f".{ending}")
    lines = [{**row, "id": n} for n, row in enumerate(rows(9))]
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(lines), other)
    else:
        other.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    made = make(other, labels="label")

    assert loaded(made).spec.source.path == f"../../data.{ending}"
    assert len(golden(made)) == 9


def test_the_source_is_named_from_the_workloads_folder_and_not_copied(data: Path) -> None:
    assert loaded(make(data)).spec.source.path == "../../data.csv"
    assert [path.name for path in data.parent.rglob("*.csv")] == ["data.csv"]


def test_the_answers_field_is_no_column_that_it_would_clash_with(data: Path) -> None:
    lines = [{"Label": str(n), "expected_label_text": "a", "x": "bc"[n % 2]} for n in range(3)]
    made = make(file_of(data, lines), key="Label", text="expected_label_text", labels="x")

    assert list(loaded(made).spec.output) == ["label_given"]


def test_a_source_whose_columns_have_the_names_we_use_ourselves_does_as_well(data: Path) -> None:
    names = ["key", "label", "draw", "turn", "k"]
    lines = [{"id": str(n), "text": f"t{n}", **dict.fromkeys(names, str(n % 2))} for n in range(8)]
    made = make(file_of(data, lines), labels="draw")

    assert loaded(made).spec.output["label"]["enum"] == ["0", "1"]
    assert all(int(row["id"]) % 2 == int(row["expected_label"]) for row in golden(made))


# Hostile names


@given(hostile)
def test_any_text_is_one_line_of_yaml_that_means_it(value: str) -> None:
    line = scalar(value)
    assert len(line.splitlines()) == 1
    assert yaml.safe_load(f"a: {line}\nb: [{line}]\n") == {"a": value, "b": [value]}


@given(hostile)
def test_any_column_can_be_named_in_a_template(column: str) -> None:
    prompt = Prompt(None, f"<text>\n{slot(column)}\n</text>", "none")

    assert slot(column).isprintable()
    assert prompt.columns == (column,)
    assert prompt.render({column: "x"}) == "<text>\nx\n</text>"


@pytest.mark.parametrize("column", ["row", "none", "not", "loop", "a b", "größe", "items", "self"])
def test_names_that_mean_something_to_jinja_are_columns_all_the_same(column: str) -> None:
    prompt = Prompt(None, slot(column), "none")
    assert (prompt.columns, prompt.render({column: "x"})) == ((column,), "x")


def test_a_workload_of_hostile_names_loads(data: Path) -> None:
    key, text, label = "id: #1", 'it\'s {{ a }} "b"\\ {% c', "yes: [no"
    values = ["no", "1.0", "- a", "'", '"', "{{ x }}", "#", "null", "é😀", "a: b", "~", "---"]
    folder = data.parent / "it's: #a {odd} [folder]"
    lines = [{key: f"r{n}", text: f"t{n}", label: value} for n, value in enumerate(values)]
    source = write_csv(folder / "d'a[t]a.csv", lines)
    made = scaffold(folder / "w", "odd", data=source, key=key, text=text, labels=label)
    workload = loaded(made)

    assert workload.spec.output["label"]["enum"] == sorted(values)
    assert workload.prompt.columns == (text,)
    assert (workload.folder / str(workload.spec.source.path)).resolve() == source.resolve()
    assert sorted(row["expected_label"] for row in golden(made)) == sorted(values)


# What is refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": "nr"}, "--key: {data} has no column 'nr'; it has id, text, label"),
        ({"text": "body"}, "--text: {data} has no column 'body'; it has id, text, label"),
        ({"labels": "topic"}, "--labels: 'topic' is neither a column of {data} nor a file; the columns"),
        ({"name": "My-Questions"}, "'My-Questions' is not a workload's name"),
        ({"name": "../questions"}, "'../questions' is not a workload's name"),
        ({"name": ""}, "'' is not a workload's name"),
    ],
)  # fmt: skip
def test_a_wrong_option_is_named(data: Path, options: dict[str, Any], said: str) -> None:
    assert said.format(data=data) in refusal(data, **options)


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ([f"label {n}" for n in range(501)], "more than 500 different labels"),
        (["a", "a"], "holds one label only"),
        (["a", "", "b"], "is empty in some rows"),
        (["a", " ", "b"], "is empty in some rows"),
        (["a", "x" * 201], "holds text rather than labels"),
        (["a", "b\nc"], "holds text rather than labels"),
    ],
)
def test_a_column_that_holds_no_labels_is_refused(data: Path, labels: list[str], said: str) -> None:
    lines = [{"id": str(n), "text": "t", "label": label} for n, label in enumerate(labels)]
    sentence = refusal(file_of(data, lines), labels="label")
    assert sentence.startswith("--labels: the column 'label' of ")
    assert said in sentence


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "holds no label"),
        (b"label\n\n", "holds no label"),
        (b"label\na\n", "holds one label only"),
        (b"a,b\n", "has 2 fields in a line"),
        ("café".encode("latin-1"), "is not UTF-8 text"),
        ("\n".join(map(str, range(501))).encode(), "more than 500 different labels"),
    ],
)
def test_a_file_that_holds_no_labels_is_refused(data: Path, content: bytes, said: str) -> None:
    labels = data.with_name("labels.txt")
    labels.write_bytes(content)
    assert said in refusal(data, labels=str(labels))


def test_a_folder_that_exists_is_left_alone(data: Path) -> None:
    folder = data.parent / "workloads" / "questions"
    folder.mkdir(parents=True)
    with pytest.raises(ConfigurationError, match="exists already"):
        make(data)
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.csv", None, "does not exist"),
        ("data.xls", "a", "says nothing of its format"),
        ("data.csv", "", "is empty"),
        ("data.parquet", "a", "not parquet at all"),
        ("data.csv", "id,text,label\n1,a,b\n2\n", "line 3 has 1 field and the header 3"),
    ],
)
def test_a_data_file_that_cannot_be_read_is_named(
    tmp_path: Path, name: str, content: str | None, said: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    sentence = refusal(tmp_path / name, labels="label")
    assert sentence.startswith(f"--from: {tmp_path / name}")
    assert said in sentence
