"""Keys, labels, columns, file and folder names that are SQL, paths or markup: a whole night of them changes nothing."""

import json
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pytest
import yaml
from click.testing import CliRunner

from batch_pipeline.cli import main
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.measure.gate import GateDecision
from batch_pipeline.report import write_report
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.workload.catalogue import find_workload
from batch_pipeline_tests.night import DAY, Night, declaration, write_csv
from batch_pipeline_tests.stages.watching import finals

SQL = [
    "'); DROP TABLE rows; --",
    '"; DROP SCHEMA promoted CASCADE; --',
    "' OR '1'='1",
    "x' UNION SELECT * FROM read_text('/etc/passwd') --",
    "$1 ? :name {{ key }}",
    "back\\slash\\'",
    "/* */ -- ;",
]
PATHS = [
    "../../../../outside",
    "/etc/passwd",
    "..",
    ".",
    "a/b/c",
    "C:\\x",
    "~root",
    "CON",
    "*",
    "[a]?",
]
MARKUP = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "&lt;b&gt;",
    "\"'><svg/onload=alert(1)>",
]
KEYS = [
    *SQL,
    *PATHS,
    *MARKUP,
    "line\nbreak",
    "tab\there",
    "é\u202e😀",
    "null\\0",
    " leading",
    "trailing ",
]
COLUMN = "te\"xt'); DROP TABLE rows; --"


@pytest.fixture
def hostile(
    simulate: Callable[..., Simulator], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Night:
    """A workload in whose names everything that can be chosen freely is chosen badly."""
    monkeypatch.setenv("BATCH_PIPELINE_STATE", str(tmp_path / "st'ate\"; DROP TABLE x; --"))
    place = tmp_path / "wor'kloads\"; --" / "ques'tions"
    labels = [*SQL, *MARKUP, "../label", "=1+1", "two\nlines"]
    source = [
        {"k'ey\"": key, COLUMN: f"question {n}", "label": labels[n % len(labels)]}
        for n, key in enumerate(KEYS)
    ]
    golden = [
        {COLUMN: f"golden question {n}", "expected_label": label} for n, label in enumerate(labels)
    ]
    known = [{"text": row[COLUMN], "label": row["label"]} for row in source]
    known += [{"text": row[COLUMN], "label": row["expected_label"]} for row in golden]
    simulate(
        answers={
            "file": str(write_csv(tmp_path / "key.csv", known)),
            "lookup": {"column": "text"},
        }
    )
    write_csv(place / "sou'rce\"; --.csv", source)
    write_csv(place / "gol'den.csv", golden)
    attributes = declaration(
        source={"path": "sou'rce\"; --.csv", "key": "k'ey\""},
        prompt={"user": f"{{{{ row[{json.dumps(COLUMN)}] }}}}"},
        output={
            "label": {"type": "string", "enum": labels},
            "select": {"type": "string", "const": "'; --"},
        },
        golden={"path": "gol'den.csv", "match": ["label"], "baseline": 0.9},
    )
    text = {"type": "batch_pipeline.BatchWorkload", "attributes": attributes}
    (place / "defs.yaml").write_text(yaml.safe_dump(text))
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(place.parent))
    settings = Settings.from_environment()
    return Night(LoadContext.open(find_workload("questions", settings), DAY, settings))


def test_a_hostile_night_is_a_night_like_any_other(hostile: Night, tmp_path: Path) -> None:
    before = {
        path
        for path in tmp_path.rglob("*")
        if tmp_path / "st'ate\"; DROP TABLE x; --" not in path.parents
    }
    card = hostile.settle()
    promotion = hostile.publish().promotion
    measured = measure_load(hostile.context)
    report = write_report(hostile.context, measured)
    exported = tmp_path / "ex'port\"; --.csv"
    done = CliRunner().invoke(
        main, ["export", "questions", "--date", DAY, "--to", str(exported), "--exact"]
    )

    assert card.dispositions == {"validated": len(KEYS), "quarantined": 0, "human_review": 0}
    assert set(finals(hostile)) == set(KEYS)
    assert measured.golden is not None
    assert measured.golden.score == 1.0
    assert promotion.rows == len(KEYS)
    assert done.exit_code == 0, done.output
    state = hostile.context.settings.state
    with duckdb.connect(str(state / "warehouse.duckdb"), read_only=True) as connection:
        held = connection.execute("SELECT * FROM promoted.questions").fetchall()
    assert {row[0] for row in held} == set(KEYS)
    assert {row[2] for row in held} == {"'; --"}
    again = duckdb.execute(
        "SELECT * FROM read_csv(?, all_varchar = true, header = true)", [str(exported)]
    )
    assert {row[0] for row in again.fetchall()} == set(KEYS)
    # No key, label or column became part of a path, in the state or outside it.
    after = {path for path in tmp_path.rglob("*") if state not in path.parents}
    assert after - before == {exported, state} - before
    names = {path.name for path in state.rglob("*")}
    assert not [
        name for name in names for word in ("outside", "passwd", "script", "DROP") if word in name
    ]
    assert report.is_relative_to(state)


@pytest.mark.parametrize(
    "name", [*SQL, *PATHS, *MARKUP, "a.b", "a/../b", "a\n", "a\0", "A", "é", "_a", "", "a" * 64]
)
def test_a_workloads_name_that_is_more_than_a_name_is_refused(
    night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    made = night(golden=0)
    text = {
        "type": "batch_pipeline.BatchWorkload",
        "attributes": declaration(name=name, golden=None),
    }
    (made.folder / "defs.yaml").write_text(yaml.safe_dump(text))
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))

    with pytest.raises(ConfigurationError):
        find_workload(name, Settings.from_environment())
    with pytest.raises(ConfigurationError, match="is not a workload's name"):
        find_workload("questions", Settings.from_environment())


@pytest.mark.parametrize(
    "load", ["../../x", "2026-11-20/..", "2026-11-20'; --", "20261120", "2026-W47-5", ""]
)
def test_a_loads_date_that_is_more_than_a_date_is_refused(
    night: Callable[..., Night], load: str
) -> None:
    with pytest.raises(ConfigurationError, match="is not a date"):
        night().context.workload.check_load(load)


@pytest.mark.parametrize(
    "field", [*SQL, "../x", "<b>", "_tier", "_row", "a b", "a.b", "é", "1a", ""]
)
def test_a_fields_name_that_is_more_than_a_name_is_refused(
    night: Callable[..., Night], field: str
) -> None:
    with pytest.raises((ConfigurationError, ValueError), match="name"):
        night(golden=0, output={field: {"type": "string"}})


def test_a_declaration_may_name_files_anywhere_that_its_author_may_read(
    simulate: Callable[..., Simulator], night: Callable[..., Night], tmp_path: Path
) -> None:
    """It is code, as its checks are: docs/workload.md says so. Only data may not choose a path."""
    simulate()
    made = night(golden=0)
    (made.folder / "source.csv").rename(tmp_path / "elsewhere.csv")
    attributes = declaration(source={"path": "../../elsewhere.csv", "key": "id"}, golden=None)
    text = {"type": "batch_pipeline.BatchWorkload", "attributes": attributes}
    (made.folder / "defs.yaml").write_text(yaml.safe_dump(text))
    settings = replace(Settings.from_environment(), workloads=made.folder.parent)
    Night(LoadContext.open(find_workload("questions", settings), DAY, settings)).submit()


class Tags(HTMLParser):
    """Every tag with the names of its attributes, and the text between them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, tuple[str, ...]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, tuple(name for name, _ in attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_markup_in_the_report_is_text(
    simulate: Callable[..., Simulator], night: Callable[..., Night], tmp_path: Path
) -> None:
    simulate()
    evil = "".join(MARKUP)
    made = night()
    card = replace(
        made.settle(),
        reasons=[("quarantined", "reason", 3)],
        answered_by=("api",),
        gate=GateDecision(False, ["gate"], "f", override_reason="word"),
    )
    worse = replace(
        card,
        reasons=[(f"quarantined{evil}", f"check:{evil}", 3)],
        answered_by=(f"http://{evil}",),
        gate=GateDecision(False, [evil], "f", override_reason=evil),
        results={**card.results, evil: 3},
    )
    plain, shown = Tags(), Tags()
    plain.feed(write_report(made.context, card).read_text())
    shown.feed(write_report(made.context, worse).read_text())

    assert shown.tags == plain.tags
    assert evil in shown.text
    assert ("meta", ("http-equiv", "content")) in shown.tags  # the policy that lets no script run


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "default"}, "a name that Dagster keeps for itself"),
        ({"source": {"path": "a.csv", "key": "_tier"}}, "a name that the promoted table needs"),
        ({"source": {"path": "a.csv", "key": "_LOAD"}}, "a name that the promoted table needs"),
        ({"source": {"path": "a.csv", "key": "_row"}}, "a name that the promoted table needs"),
        ({"source": {"path": "a.csv", "key": "LABEL"}}, "which is the source's key too"),
        ({"output": {"_model": {"type": "string"}}}, "a name that our own tables need"),
    ],
)  # fmt: skip
def test_a_reserved_name_is_refused_with_file_and_line(
    night: Callable[..., Night],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, object],
    said: str,
) -> None:
    made = night(golden=0)
    text = {
        "type": "batch_pipeline.BatchWorkload",
        "attributes": declaration(golden=None, **changes),
    }
    (made.folder / "defs.yaml").write_text(yaml.safe_dump(text))
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))

    with pytest.raises(ConfigurationError, match=r"defs\.yaml, line \d+: .*" + said):
        find_workload("questions", Settings.from_environment())


@pytest.mark.parametrize("column", ["_row", "_KEY", "_golden"])
def test_a_source_column_that_our_tables_need_is_refused(
    night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    made = night(golden=0)
    write_csv(made.folder / "source.csv", [{"id": "1", "text": "a", column: "b"}])
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
    done = CliRunner().invoke(main, ["run", "questions", "--date", DAY])

    assert done.exit_code == 2
    assert f"has a column '{column}', a name that questions's tables need" in done.stderr
