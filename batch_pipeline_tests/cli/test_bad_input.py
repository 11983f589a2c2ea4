"""Wrong use and configuration: one sentence that says what, where and how to mend it, exit 2, and no trace."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from click.testing import CliRunner

from batch_pipeline.cli import main
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests import forked
from batch_pipeline_tests.night import DAY, HAIKU, declaration, rows, write_csv

SECRET = "my bank account is empty"
ENTRY = [sys.executable, "-c", "from batch_pipeline.cli import main; main()"]


@pytest.fixture(autouse=True)
def no_network(environment: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may leave the machine, whatever is wrong."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        assert self.family == socket.AF_UNIX or address[0] == "127.0.0.1", address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)
    # Nobody listens there: what gets past all the checks ends with a refused connection.
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a good workload, for a test to spoil."""
    place = tmp_path / "workloads" / "questions"
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(place.parent))
    write_csv(place / "source.csv", rows(6))
    golden = [{**row, "expected_label": row["label"]} for row in rows(3, start=100_000)]
    write_csv(place / "golden.csv", golden)
    declare(place)
    return place


def declare(place: Path, **changes: Any) -> None:
    place.mkdir(parents=True, exist_ok=True)
    document = {"type": "batch_pipeline.BatchWorkload", "attributes": declaration(**changes)}
    (place / "defs.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")


def amend(place: Path, old: str, new: str) -> int:
    """Changes the declaration in one place, and returns the number of that line."""
    path = place / "defs.yaml"
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    return text[: text.index(old)].count("\n") + 1


def refusal(tmp_path: Path, *arguments: str) -> str:
    """The sentence of a call that must exit with 2 and leave nothing behind."""
    before = sorted(tmp_path.rglob("*"))
    done = CliRunner().invoke(main, list(arguments) or ["run", "questions", "--date", DAY])
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert sorted(path for path in tmp_path.rglob("*") if "__pycache__" not in path.parts) == before
    return sentence_of(done.stderr)


def sentence_of(stderr: str) -> str:
    assert stderr.startswith("batch-pipeline: ")
    assert stderr.endswith(".\n")
    assert stderr.count("\n") == 1
    assert SECRET not in stderr
    return stderr.removeprefix("batch-pipeline: ")


@pytest.fixture
def refused_key(simulate: Callable[..., Simulator], monkeypatch: pytest.MonkeyPatch) -> str:
    """A key that the API refuses, which is the last thing to be found wrong. Returns the sentence."""
    simulate()
    monkeypatch.setenv("ANTHROPIC_API_KEY", "invalid-key-of-mine")
    return "The API refused the key (401)"


def test_the_workload_that_is_spoiled_below_is_good(
    folder: Path, tmp_path: Path, refused_key: str
) -> None:
    assert refused_key in refusal(tmp_path)


# The source


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "source.path: {file} does not exist; put the file there or mend the path"),
        (b"", "source.path: {file} is empty"),
        (b"id,text\n", "the source {file} has no rows"),
        (b"nr,text\n1,a\n", "source.key is 'id', but the source {file} has no such column; it has nr, text"),
        (b"id,text\n1,a\n,b\n", "The key column 'id' is null in 1 of 2 rows of the source {file}"),
        (b"id,text\n1,a\n1,b\n2,c\n", "The key column 'id' is not unique in the source {file}: 1 (2 times); give"),
        (b"id,body\n1,a\n", "prompt.user names the column 'text', which the source {file} does not have"),
        (b"id,text,text\n1,a,b\n", "{file} has a column 'text' twice; rename one of them"),
        (f"id,text\n1,{SECRET}\n2\n".encode(), "the source {file} cannot be read: line 3 has 1 field and the header 2"),
        (f"id,text\n1,{SECRET} é\n".encode("latin-1"), "{file} is not UTF-8 text (line 2); save it as UTF-8"),
        (f"id,text\n1,{SECRET}\n".encode("utf-16"), "{file} is UTF-16 text; save it as UTF-8"),
        (f'id,text\n1,"{SECRET}\n'.encode(), "cannot be read: line 2 has a quote that does not end"),
    ],
)  # fmt: skip
def test_a_bad_source(folder: Path, tmp_path: Path, content: bytes | None, said: str) -> None:
    file = folder / "source.csv"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    assert said.format(file=file) in refusal(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        '\ufeff"id","text"\r\n1,"two\r\nlines"\r\n',
        "id;text\n1;a, b\n",
        "id\ttext\n1\ta\n",
        "id,text\n1,nul \0 in it\n",
    ],
)
def test_a_source_that_is_only_unusual_is_none(
    folder: Path, tmp_path: Path, refused_key: str, content: str
) -> None:
    (folder / "source.csv").write_bytes(content.encode())
    assert refused_key in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("rows.ndjson", f'{{"id": 1, "text": "a"}}\n{{"id": {SECRET}}}\n', "is not readable as ndjson: line 2 is not JSON"),
        ("rows.parquet", SECRET, "is not readable as parquet: it is damaged, or not parquet at all"),
        ("rows.xlsx", SECRET, "has the ending '.xlsx', which says nothing of its format"),
    ],
)  # fmt: skip
def test_a_bad_source_of_another_kind(
    folder: Path, tmp_path: Path, name: str, content: str, said: str
) -> None:
    (folder / name).write_text(content)
    declare(folder, source={"path": name, "key": "id"})
    assert f"source.path: {folder / name} {said}" in refusal(tmp_path)


def test_a_source_that_is_a_folder(folder: Path, tmp_path: Path) -> None:
    declare(folder, source={"path": "../questions", "key": "id"})
    assert f"source.path: {folder} is a folder; name the file in it." in refusal(tmp_path)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ({"sql": "SELEC 1"}, "source.sql does not run: Parser Error: syntax error"),
        ({"sql": "SELECT * FROM tickets"}, "source.sql does not run: Catalog Error: Table with name tickets does not exist"),
        ({"sql": "SELECT * FROM 'source.csv' WHERE id = '{{ date }}'"}, "source.sql names {{ date }}; only {{ partition }}, the load's date"),
        ({"sql": "SELECT * FROM 'source.csv' WHERE id > '{{ partition }}' AND false"}, "the result of source.sql has no rows"),
        ({"sql": "SELECT id, text::INT AS text FROM 'source.csv'"}, "a value cannot be converted"),
        ({"sql": "SELECT 1 AS id", "database": "w.duckdb"}, "source.database: {folder}/w.duckdb does not exist"),
    ],
)  # fmt: skip
def test_a_bad_query(folder: Path, tmp_path: Path, source: dict[str, str], said: str) -> None:
    declare(folder, source={**source, "key": "id"}, golden=None)
    assert said.replace("{folder}", str(folder)) in refusal(tmp_path)


# The golden file


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "golden.path: {file} does not exist"),
        ("text,answer\na,bug\n", "golden.match names 'label', but the golden file {file} has no column expected_label; it has text, answer"),
        ("text,expected_label\na,bugs\n", "expected_label of the golden file {file} holds what output.label does not allow (unknown_label) in row 1"),
        ("body,expected_label\na,bug\n", "prompt.user looks at the column 'text', which the golden file {file} does not have"),
        ("text,expected_label\n", "the golden file {file} has no rows"),
    ],
)  # fmt: skip
def test_a_bad_golden_file(folder: Path, tmp_path: Path, content: str | None, said: str) -> None:
    file = folder / "golden.csv"
    file.unlink()
    if content is not None:
        file.write_text(content)
    assert said.format(file=file) in refusal(tmp_path)


# The declaration


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("  tiers:", "  teirs:", "{file}, line {line}: teirs: there is no such field; known are name"),
        ("name: questions", "name: [questions", "not valid YAML: expected ',' or ']', but got ':', in what begins in line {line}"),
        ("max_tokens: 64", "max_tokens: many", "{file}, line {line}: tiers.0.max_tokens: must be a valid integer"),
        ("baseline: 0.9", "baseline: 90", "{file}, line {line}: golden.baseline: must be less than or equal to 1"),
        ("    key: id\n", "", "{file}, line {before}: source.key: is missing"),
        ("    key: id\n", "    key: id\n    key: nr\n", "{file}, line {after}: 'key' is given twice, first in line {line}; remove one"),
        ("type: string", "type: text", "{file}, line {line}: output.label.type: text is not supported; supported: string"),
        ("user: '{{ text }}'", "user: {{ text }}", "{file}, line {line}: not valid YAML: text that begins with a brace must be in quotes"),
        ("user: '{{ text }}'", "user: '{{ text'", "prompt.user is not a valid Jinja template"),
        ("user: '{{ text }}'", "user: hello", "prompt.user names no column"),
        (f"model: {HAIKU}", "model: gpt-4", "Model gpt-4 has no price; use one of"),
        (f"model: {HAIKU}", "model: gpt-4", "or add it to a YAML file that BATCH_PIPELINE_PRICES names"),
        ("  name: questions", "  name: questions\n  schedule: 0 25 * * *", "'0 25 * * *' has '25' for the hour"),
        ("  name: questions", "  name: questions\n  checks: none:Frame", "checks none:Frame: there is no module none"),
    ],
)  # fmt: skip
def test_a_bad_declaration(folder: Path, tmp_path: Path, old: str, new: str, said: str) -> None:
    line = amend(folder, old, new)
    places = {"file": folder / "defs.yaml", "line": line, "before": line - 1, "after": line + 1}
    assert (said if "{{" in said else said.format(**places)) in refusal(tmp_path)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("Frame = 3", "Frame is not a Pandera schema for pandas"),
        ("x = 1", "module my_checks has no attribute Frame"),
        ("import nothing_of_the_kind", "my_checks imports nothing_of_the_kind, which is not installed"),
        ("import pandera.pandas as pa\nFrame = pa.DataFrameSchema({'plan': pa.Column(str)})", "column 'plan' is neither a field of output nor a column of the source; it may use id, label, text"),
    ],
)  # fmt: skip
def test_bad_checks(folder: Path, tmp_path: Path, code: str, said: str) -> None:
    declare(folder, checks="my_checks:Frame")
    (folder / "my_checks.py").write_text(code)
    assert f"checks my_checks:Frame: {said}" in refusal(tmp_path)


# The call


def test_an_unknown_workload(folder: Path, tmp_path: Path) -> None:
    assert refusal(tmp_path, "run", "answers").startswith(
        "There is no workload 'answers'; known: questions, support_tickets. Make one with"
    )


def test_a_workload_declared_twice(folder: Path, tmp_path: Path) -> None:
    declare(folder.with_name("again"))
    assert refusal(tmp_path) == (
        f"The workload 'questions' is declared twice, in {folder.with_name('again') / 'defs.yaml'} and "
        f"{folder / 'defs.yaml'}; rename one.\n"
    )


@pytest.mark.parametrize("command", ["run", "scorecard"])
@pytest.mark.parametrize(
    ("load", "said"),
    [
        ("yesterday", "'yesterday' is not a date; write it as YYYY-MM-DD"),
        ("2026-02-30", "'2026-02-30' is not a date"),
        ("../../etc", "'../../etc' is not a date"),
        ("2024-12-31", "2024-12-31 is outside questions's days, 2025-01-01 to today"),
        ((datetime.now(UTC).date() + timedelta(days=2)).isoformat(), "is outside questions's days"),
    ],
)
def test_a_bad_date(folder: Path, tmp_path: Path, command: str, load: str, said: str) -> None:
    assert said in refusal(tmp_path, command, "questions", "--date", load)


@pytest.mark.parametrize("seconds", ["-1", "soon"])
def test_a_bad_waiting_time(folder: Path, tmp_path: Path, seconds: str) -> None:
    done = CliRunner().invoke(main, ["run", "questions", "--max-wait", seconds])
    assert done.exit_code == 2
    assert "Invalid value for '--max-wait'" in done.stderr
    assert not (tmp_path / "state").exists()


def test_a_load_that_was_never_begun_has_no_scorecard(folder: Path, tmp_path: Path) -> None:
    assert "begin one with `batch-pipeline run questions`" in refusal(
        tmp_path, "scorecard", "questions"
    )


# The environment


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("BATCH_PIPELINE_POLL_SECONDS", "often", "BATCH_PIPELINE_POLL_SECONDS is 'often'; it must be a number of seconds"),
        ("BATCH_PIPELINE_POLL_SECONDS", "-1", "it must be a number of seconds, 0 or more (default 30)"),
        ("BATCH_PIPELINE_GRACE_SECONDS", "nan", "BATCH_PIPELINE_GRACE_SECONDS is 'nan'"),
        ("BATCH_PIPELINE_WORKLOADS", "/nowhere", "BATCH_PIPELINE_WORKLOADS names /nowhere, which is not a folder"),
        ("BATCH_PIPELINE_PRICES", "/nowhere.yaml", "The prices in /nowhere.yaml cannot be read"),
        ("ANTHROPIC_BASE_URL", "127.0.0.1:8787", "ANTHROPIC_BASE_URL does not hold an address; write it as http://"),
        ("ANTHROPIC_BASE_URL", "http://127.0.0.1:port", "ANTHROPIC_BASE_URL does not hold an address"),
    ],
)  # fmt: skip
def test_a_bad_setting(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
    said: str,
) -> None:
    monkeypatch.setenv(name, value)
    assert said in refusal(tmp_path)


@pytest.mark.parametrize("key", [None, ""])
def test_no_api_key(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None
) -> None:
    monkeypatch.delenv("ANTHROPIC_BASE_URL")
    monkeypatch.delenv("ANTHROPIC_API_KEY")
    if key is not None:
        monkeypatch.setenv("ANTHROPIC_API_KEY", key)
    assert refusal(tmp_path).startswith("No API key: set ANTHROPIC_API_KEY, or start a simulator")


def test_an_api_key_that_is_refused(folder: Path, tmp_path: Path, refused_key: str) -> None:
    sentence = refusal(tmp_path)
    assert refused_key in sentence
    assert "invalid-key-of-mine" not in sentence


@pytest.mark.parametrize("place", ["file", "file/below", "/proc/state"])
def test_a_state_folder_that_cannot_be_written(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    simulate: Callable[..., Simulator],
    place: str,
) -> None:
    simulate()
    (tmp_path / "file").write_text("in its place")
    monkeypatch.setenv("BATCH_PIPELINE_STATE", str(tmp_path / place))
    assert f"The state folder {tmp_path / place} cannot be written" in refusal(tmp_path)


# In processes of their own


def environment_of(folder: Path) -> dict[str, str]:
    return {**os.environ, "BATCH_PIPELINE_WORKLOADS": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}


def test_the_installed_command_says_it_alike(folder: Path, tmp_path: Path) -> None:
    line = amend(folder, "  tiers:", "  teirs:")
    done = subprocess.run(
        [*ENTRY, "run", "questions", "--json"],
        env=environment_of(folder.parent),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert f"line {line}: teirs: there is no such field" in sentence_of(done.stderr)
    assert not (tmp_path / "state").exists()


def test_dagster_says_of_a_declaration_what_the_command_says(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One process for all, since Dagster takes seconds to import."""
    spoiled = {
        "unknown": ("  tiers:", "  teirs:"),
        "broken": ("name: questions", "name: [questions"),
        "typed": ("max_tokens: 64", "max_tokens: many"),
        "twice": ("    key: id\n", "    key: id\n    key: nr\n"),
        "contract": ("type: string", "type: text"),
        "template": ("user: '{{ text }}'", "user: '{{ text'"),
        "model": (f"model: {HAIKU}", "model: gpt-4"),
        "cron": ("  name: questions", "  name: questions\n  schedule: 0 25 * * *"),
    }
    folders: list[str] = []
    for name, (old, new) in spoiled.items():
        place = tmp_path / "spoiled" / name / "questions"
        declare(place)
        amend(place, old, new)
        folders.append(str(place.parent))
    script = (
        "import json, os, sys\n"
        "from batch_pipeline.definitions import defs\n"
        "from batch_pipeline.errors import ConfigurationError\n"
        "for folder in sys.argv[1:]:\n"
        "    os.environ['BATCH_PIPELINE_WORKLOADS'] = folder\n"
        "    try:\n"
        "        defs()\n"
        "        print(json.dumps(None))\n"
        "    except ConfigurationError as error:\n"
        "        print(json.dumps(str(error)))\n"
    )
    done = forked.run(script, *folders, environment=environment_of(folder.parent))
    assert done.returncode == 0, done.stderr
    said = [json.loads(line) for line in done.stdout.splitlines()]
    for workloads, sentence in zip(folders, said, strict=True):
        monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", workloads)
        assert refusal(tmp_path) == f"{sentence}\n"


def test_dagsters_own_command_shows_it(folder: Path, tmp_path: Path) -> None:
    line = amend(folder, "  tiers:", "  teirs:")
    dagster = [sys.executable, "-m", "dagster", "definitions", "validate"]
    done = subprocess.run(
        [*dagster, "-m", "batch_pipeline.definitions"],
        env={**environment_of(folder.parent), "DAGSTER_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    shown = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert f"{folder / 'defs.yaml'}, line {line}: teirs: there is no such field" in shown


def test_a_database_that_another_process_writes_to_is_named(folder: Path, tmp_path: Path) -> None:
    declare(folder, source={"sql": "SELECT * FROM t", "database": "w.duckdb", "key": "id"})
    script = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('open', flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(folder / "w.duckdb")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "open\n"
        sentence = refusal(tmp_path)
        writer.communicate("\n")
    assert (
        f"source.database: {folder / 'w.duckdb'} cannot be opened: IO Error: Could not" in sentence
    )
    assert duckdb.connect(folder / "w.duckdb").execute("SELECT 1").fetchall() == [(1,)]
