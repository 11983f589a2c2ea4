"""What a row, an answer or the prompt says shows in the data and nowhere else: a word of each is searched for."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from batch_pipeline.cli import main
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import DAY, Night, rows, write_csv
from batch_pipeline_tests.security.left_behind import contents

TEXT, OTHER, KEY, ANSWER, GOLDEN, GOLDEN_KEY, SYSTEM, USER = (
    "quokkatext", "quokkaother", "quokkakey", "quokkaanswer",
    "quokkagolden", "quokkasecond", "quokkasystem", "quokkauser",
)  # fmt: skip
ROWS, ANSWERS, PROMPT = (TEXT, OTHER, GOLDEN), (ANSWER,), (SYSTEM, USER)

CHECKS = """
import pandera.pandas as pa

class Frame(pa.DataFrameModel):
    summary: str
    note: str = pa.Field(nullable=True)

    @pa.check("summary")
    def not_among_the_tens(cls, column):
        return ~column.str.contains("-01[0-2]")

    @pa.dataframe_parser
    def parse(cls, frame):
        {parsing}
        return frame

    @pa.dataframe_check
    def raises_for(cls, frame):
        {raising}
        return frame["summary"] == frame["summary"]
"""


@pytest.fixture
def quokkas(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Callable[..., Night]:
    """A workload whose every cell, answer and text holds a word of its own, with rows of every fate."""

    def make(*, raising: str = "pass", parsing: str = "pass", **changes: object) -> Night:
        source = [
            {"id": f"{KEY}-{n:03}", "text": f"{TEXT} number {n}", "note": f"{OTHER} {n}", "by": "1"}
            for n in range(24)
        ]
        source[3]["by"] = "0"  # the template divides by it
        source[4]["note"] = OTHER * 500  # too large to send
        golden = [
            {"id": f"{GOLDEN_KEY}-{n}", "text": f"{TEXT} golden {n}", "note": GOLDEN, "by": "1",
             "expected_summary": f"{GOLDEN} {n}"}
            for n in range(4)
        ]  # fmt: skip
        known = [{"text": row["text"], "summary": f"{ANSWER} {row['id']}"} for row in source]
        known += [{"text": row["text"], "summary": row["expected_summary"]} for row in golden]
        simulate(
            answers={
                "file": str(write_csv(tmp_path / "quokka_key.csv", known)),
                "lookup": {"column": "text", "pattern": f"({TEXT} .*)\\Z"},
            },
            models={
                "*": {"broken": 0.15, "not_json": 0.1, "truncated": 0.05, "invalid_request": 0.05}
            },
            calls=[{"on": "results", "nth": 1, "fault": "cut_short", "at": "mid_line"}],
            rows=[{"contains": "number 9", "fault": "unparseable"}],
        )
        made = night(
            source=source,
            golden=0,
            **{
                "prompt": {"system": f"{SYSTEM} says so.", "user": f"{USER} {{{{ note }}}} {{{{ 1 // (by|int) }}}} {{{{ text }}}}"},
                "output": {"summary": {"type": "string", "maxLength": 60}},
                "checks": "quokka_checks:Frame",
                "limits": {"max_bytes": 4000, "attempts": 2},
                **changes,
            },
        )  # fmt: skip
        (made.folder / "quokka_checks.py").write_text(
            CHECKS.format(raising=raising, parsing=parsing)
        )
        write_csv(made.folder / "golden.csv", golden)
        declared = yaml.safe_load((made.folder / "defs.yaml").read_text())
        declared["attributes"]["golden"] = {
            "path": "golden.csv",
            "match": ["summary"],
            "baseline": 0.5,
        }
        (made.folder / "defs.yaml").write_text(yaml.safe_dump(declared))
        monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
        return made

    return make


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def shown(state: Path, done: Result) -> dict[str, bytes]:
    """Everything that is no data: Dagster's storage and logs, the ledger, locks, reports, and all output."""
    found = {
        name: content
        for name, content in contents(state)
        if not name.startswith(("rows/", "warehouse.duckdb")) and "unpacked" not in name
    }
    assert any(name.startswith("dagster/") for name in found)
    trace = repr(done.exception).encode()
    return {**found, "output": done.output.encode() + done.stderr.encode() + trace}


def leaks(found: dict[str, bytes], *words: str) -> list[tuple[str, str]]:
    return [(name, w) for name, content in found.items() for w in words if w.encode() in content]


def test_a_night_of_every_fate_shows_only_the_keys_of_its_examples(
    quokkas: Callable[..., Night], tmp_path: Path
) -> None:
    quokkas()
    done = call("run", "questions", "--date", DAY)
    found = shown(tmp_path / "state", done)

    assert done.exit_code in (0, 3), done.output
    call("dispositions", "questions", "--to", str(tmp_path / "fates.csv"))
    fates = (tmp_path / "fates.csv").read_text()
    for reason in ("template_failed", "request_too_large", "check:summary:not_among_the_tens"):
        assert reason in fates
    assert leaks(found, *ROWS, *ANSWERS, *PROMPT, GOLDEN_KEY) == []
    # The examples of the checks, in Dagster's event log and nowhere else.
    assert {name.partition("/")[0] for name, _ in leaks(found, KEY)} == {"dagster"}


def test_a_sensitive_workload_does_not_show_even_those(
    quokkas: Callable[..., Night], tmp_path: Path
) -> None:
    quokkas(sensitive=True)
    done = call("run", "questions", "--date", DAY)

    assert done.exit_code in (0, 3), done.output
    found = shown(tmp_path / "state", done)
    assert leaks(found, *ROWS, *ANSWERS, *PROMPT, GOLDEN_KEY, KEY) == []


@pytest.mark.parametrize(
    ("where", "code"),
    [
        ("raising", 'raise ValueError(frame["summary"].iloc[0] + str(frame["note"].iloc[0]))'),
        ("raising", 'return frame["note"].map(lambda text: dict()[text])'),
        ("parsing", 'raise ValueError(frame["summary"].iloc[0] + str(frame["note"].iloc[0]))'),
    ],
)
def test_a_check_that_raises_with_row_text_shows_none(
    quokkas: Callable[..., Night], tmp_path: Path, where: str, code: str
) -> None:
    quokkas(**{where: code})
    done = call("run", "questions", "--date", DAY)

    assert done.exit_code in (2, 4), done.output
    assert "raised" in done.stderr
    found = shown(tmp_path / "state", done)
    assert leaks(found, *ROWS, *ANSWERS, *PROMPT, GOLDEN_KEY) == []


@pytest.mark.parametrize("sensitive", [True, False])
def test_keys_that_repeat_are_named_unless_the_data_is_sensitive(
    night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch, sensitive: bool
) -> None:
    source = [{"id": KEY, "text": f"{TEXT} {n}"} for n in range(3)]
    made = night(source=source, golden=0, sensitive=sensitive)
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
    done = call("run", "questions", "--date", DAY)

    assert done.exit_code == 2
    assert "is not unique" in done.stderr
    assert (KEY in done.stderr) is not sensitive
    assert TEXT not in done.stderr


@pytest.mark.parametrize(
    ("column", "declared"),
    [
        ("expected_label", {}),
        ("expected_label", {"output": {"label": {"type": "integer"}}}),
        ("expected_label", {"output": {"label": {"type": "array", "items": {"type": "number"}}}}),
        ("expected_label", {"output": {"label": {"type": "string", "maxLength": 3}}}),
    ],
)
def test_a_bad_golden_answer_is_named_by_its_place(
    night: Callable[..., Night],
    monkeypatch: pytest.MonkeyPatch,
    column: str,
    declared: dict[str, object],
) -> None:
    made = night(**declared)
    lines = [{"id": f"{GOLDEN_KEY}{n}", "text": TEXT, column: f"{GOLDEN} {n}"} for n in range(7)]
    write_csv(made.folder / "golden.csv", lines)
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
    done = call("run", "questions", "--date", DAY)

    assert done.exit_code == 2
    assert "rows 1, 2, 3, 4, 5 and 2 more" in done.stderr
    for word in (TEXT, GOLDEN, GOLDEN_KEY):
        assert word not in done.stderr


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("csv", f'id,text\n1,{TEXT}\n2,"{TEXT}\n'),
        ("csv", f"id,text\n1,{TEXT},{TEXT}\n"),
        ("ndjson", f'{{"id": 1, "text": "{TEXT}"}}\n{{"id": 2, "text": {TEXT}}}\n'),
        ("ndjson", f'{{"id": 1, "text": "{TEXT}", "text": "{TEXT}"}}\n'),
        ("parquet", f"PAR1{TEXT}PAR1"),
    ],
)
def test_a_source_that_cannot_be_read_is_not_quoted(
    night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch, ending: str, content: str
) -> None:
    made = night(golden=0)
    source = made.folder / f"source.{ending}"
    source.write_text(content)
    declared = (made.folder / "defs.yaml").read_text()
    (made.folder / "defs.yaml").write_text(declared.replace("source.csv", source.name))
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
    done = call("run", "questions", "--date", DAY)

    assert done.exit_code == 2, done.output
    assert "cannot be read" in done.stderr or "is not readable" in done.stderr
    assert TEXT not in done.stderr


def test_a_query_that_fails_on_a_row_does_not_quote_it(
    night: Callable[..., Night], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = night(golden=0)
    write_csv(made.folder / "source.csv", [{"id": "1", "text": TEXT}, *rows(2)][:1])
    declared = (made.folder / "defs.yaml").read_text()
    query = "sql: \"SELECT id, text, CAST(text AS INTEGER) AS n FROM 'source.csv'\""
    (made.folder / "defs.yaml").write_text(declared.replace("path: source.csv", query))
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
    done = call("run", "questions", "--date", DAY)

    assert done.exit_code == 2, done.output
    assert "source.sql" in done.stderr
    assert TEXT not in done.stderr
