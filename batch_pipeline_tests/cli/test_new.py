"""`batch-pipeline new`: a workload that loads and runs at once."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batch_pipeline.cli import main
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests import forked
from batch_pipeline_tests.night import DAY, rows, write_csv


@pytest.fixture
def workloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "workloads"
    folder.mkdir()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(folder))
    return folder


@pytest.fixture
def data(tmp_path: Path) -> Path:
    lines = [{**row, "the text": row["text"]} for row in rows(30)]
    return write_csv(tmp_path / "data.csv", lines)


def new(name: str, data: Path, *more: str, key: str = "id", text: str = "text") -> Result:
    options = ["--from", str(data), "--key", key, "--text", text]
    return CliRunner().invoke(main, ["new", name, *options, *more])


def run(name: str) -> Result:
    return CliRunner().invoke(main, ["run", name, "--date", DAY, "--json"])


def test_it_says_what_it_wrote_and_what_to_do_next(workloads: Path, data: Path) -> None:
    done = new("questions", data, "--labels", "label")

    assert (done.exit_code, done.stderr) == (0, "")
    assert (
        f"Wrote {workloads / 'questions'}: defs.yaml, system.md, golden.csv\n"
        "  3 labels, 30 golden rows; say in system.md what belongs to each label.\n" in done.stdout
    )
    assert "  batch-pipeline run questions\n" in done.stdout
    assert "  batch-pipeline simulate " in done.stdout


def test_a_workload_of_labels_runs_at_once_to_its_gate(
    workloads: Path, data: Path, simulate: Callable[..., Simulator]
) -> None:
    simulate(answers={"file": "key.csv", "lookup": {"column": "text", "pattern": "(?s)<text>\n(.*)\n</text>"}})  # fmt: skip
    assert new("questions", data, "--labels", "label", text="the text").exit_code == 0
    done = run("questions")

    assert done.exit_code == 0, done.stderr
    card = json.loads(done.stdout)
    assert (card["source_rows"], card["promoted_rows"]) == (30, 30)
    assert (card["golden"]["n"], card["golden"]["score"]) == (30, 1.0)


def test_a_workload_of_summaries_runs_at_once_without_a_golden_set(
    workloads: Path, data: Path, simulate: Callable[..., Simulator]
) -> None:
    simulate(answers=None)
    assert new("summaries", data).exit_code == 0
    done = run("summaries")

    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["promoted_rows"] == 30


def test_dagster_loads_it(workloads: Path, data: Path, tmp_path: Path) -> None:
    assert new("questions", data, "--labels", "label").exit_code == 0
    script = (
        "from batch_pipeline.definitions import defs\n"
        "graph = defs().get_repository_def().asset_graph\n"
        "print(sorted(k.path[1] for k in graph.get_all_asset_keys() if k.path[0] == 'questions'))"
    )
    done = forked.run(script)
    assert done.returncode == 0, done.stderr
    assert "promoted_rows" in done.stdout


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": "nr"}, "--key: {data} has no column 'nr'; it has id, text, label, the text"),
        ({"text": "body"}, "--text: {data} has no column 'body'"),
        ({"key": "label"}, "The key column 'label' is not unique in the source {data}: billing (10 times)"),
        ({"name": "No"}, "'No' is not a workload's name"),
        ({"name": "../no"}, "'../no' is not a workload's name"),
        ({"name": "support_tickets"}, "The workload 'support_tickets' is declared in "),
        ({"labels": "topics.txt"}, "--labels: 'topics.txt' is neither a column of {data} nor a file"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_sentence_and_leaves_nothing(
    workloads: Path, data: Path, options: dict[str, str], said: str
) -> None:
    given = {"name": "questions", "key": "id", "text": "text", **options}
    more = ["--labels", given["labels"]] if "labels" in given else []
    done = new(given["name"], data, *more, key=given["key"], text=given["text"])

    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith("batch-pipeline: ")
    assert done.stderr.count("\n") == 1
    assert said.format(data=data) in done.stderr
    assert list(workloads.iterdir()) == []
    assert not (workloads.parent / "no").exists()


def test_a_data_file_that_is_missing_is_named(workloads: Path, tmp_path: Path) -> None:
    done = new("questions", tmp_path / "none.csv")
    assert done.exit_code == 2
    assert f"--from: {tmp_path / 'none.csv'} does not exist" in done.stderr


def test_a_workload_that_exists_is_left_alone(workloads: Path, data: Path) -> None:
    assert new("questions", data).exit_code == 0
    (workloads / "questions" / "system.md").write_text("mine")
    done = new("questions", data)

    assert done.exit_code == 2
    assert (workloads / "questions" / "system.md").read_text() == "mine"


def test_a_broken_neighbour_is_no_hindrance(workloads: Path, data: Path) -> None:
    (workloads / "broken").mkdir()
    (workloads / "broken" / "defs.yaml").write_text("type: [")
    assert new("questions", data).exit_code == 0


def test_in_a_checkout_it_goes_beside_the_shipped_workloads(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkout = tmp_path / "checkout"
    (checkout / "batch_pipeline" / "defs").mkdir(parents=True)
    monkeypatch.setattr(
        "batch_pipeline.cli.new.SHIPPED_WORKLOADS", checkout / "batch_pipeline" / "defs"
    )
    monkeypatch.setattr("batch_pipeline.cli.new.project_root", lambda: checkout)

    assert new("questions", data).exit_code == 0
    assert (checkout / "batch_pipeline" / "defs" / "questions" / "defs.yaml").is_file()


def test_in_an_installed_package_it_asks_where_to(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_pipeline.cli.new.project_root", lambda: tmp_path)
    done = new("questions", data)

    assert done.exit_code == 2
    assert "Set BATCH_PIPELINE_WORKLOADS to a folder for your workloads" in done.stderr
