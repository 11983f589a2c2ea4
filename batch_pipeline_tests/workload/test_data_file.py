"""A user's data file is read as it is written, or refused in a sentence that quotes nothing of it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.workload.data_file import listed, open_data_file

SECRET = "my bank account is empty"


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def read(
    connection: duckdb.DuckDBPyConnection, path: Path, content: bytes | str, **options: Any
) -> list[dict[str, Any]]:
    """The file's rows. Raises ConfigurationError with the problem, whenever it shows."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    file = open_data_file(connection, "v", path, field="source.path", **options)
    try:
        rows = connection.execute("SELECT * FROM v").fetchall()
    except duckdb.Error as error:
        raise ConfigurationError(file.problem(error)) from None
    return [dict(zip(file.columns, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ("id,text\n001,a\n002,\n", [("001", "a"), ("002", None)]),
        ("id,text\r\n001,a\r\n", [("001", "a")]),
        ("\ufeffid,text\n001,a\n", [("001", "a")]),
        ('"id","text"\n"001","a ""b"", c"\n', [("001", 'a "b", c')]),
        ('id,text\n001,"two\r\nlines"\n', [("001", "two\r\nlines")]),
        ("id;text\n001;a, b\n", [("001", "a, b")]),
        ("id\ttext\n001\ta\n", [("001", "a")]),
        ("id|text\n001|a\n", [("001", "a")]),
        ('id,text\n001,say "hi"\n', [("001", 'say "hi"')]),
        ("id,text\n001,2026-01-02\n1e5,NULL\n", [("001", "2026-01-02"), ("1e5", "NULL")]),
        ("id,text\n001,# no comment\n\n002,b", [("001", "# no comment"), ("002", "b")]),
        ("id,text\n001,a\0b\n", [("001", "a\0b")]),
        ("id,text\n", []),
    ],
)
def test_csv_is_read_as_rfc_4180_and_as_text(
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    content: str,
    rows: list[tuple[str, str | None]],
) -> None:
    found = read(connection, tmp_path / "data.csv", content)
    assert found == [{"id": key, "text": text} for key, text in rows]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
            st.text(st.characters(codec="utf-8"), min_size=1, max_size=8),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_csv_that_quotes_its_fields_is_read_back_whatever_they_hold(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]
) -> None:
    lines = [("id", "text"), *rows]
    content = "".join(",".join(f'"{f.replace(chr(34), chr(34) * 2)}"' for f in line) + "\r\n" for line in lines)  # fmt: skip
    with duckdb.connect() as connection:
        found = read(connection, tmp_path_factory.mktemp("csv") / "data.csv", content)
    assert [(row["id"], row["text"]) for row in found] == rows


def test_the_separator_is_the_one_that_finds_the_columns_wanted(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    content = 'id,"text; long; and short"\n1,a\n'
    with pytest.raises(ConfigurationError, match="the header 3"):
        read(connection, tmp_path / "a.csv", content)
    (row,) = read(connection, tmp_path / "b.csv", content, wanted=["id"])
    assert row == {"id": "1", "text; long; and short": "a"}


def test_a_column_without_a_name_gets_one(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    assert read(connection, tmp_path / "data.csv", ",text\n0,a\n") == [
        {"column0": "0", "text": "a"}
    ]


@pytest.mark.parametrize("name", ["b[1].csv", "a*.csv", "a?.csv", "it's {x,y}.csv"])
def test_only_the_file_that_is_named_is_read(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path, name: str
) -> None:
    for neighbour in ("b1.csv", "ab.csv"):
        (tmp_path / neighbour).write_text("id,text\n2,neighbour\n")
    assert read(connection, tmp_path / name, "id,text\n1,own\n") == [{"id": "1", "text": "own"}]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", "", "is empty"),
        ("a.csv", f"id,text\n1,{SECRET}\n2\n", "line 3 has 1 field and the header 2"),
        ("a.csv", f"id,text\n1,{SECRET}\n2,a,b\n", "line 3 has 3 fields and the header 2"),
        ("a.csv", f'id,text\n1,"{SECRET}\n2,b\n', "line 2 has a quote that does not end"),
        ("a.csv", f'id,text\n1,"{SECRET}" x\n', "line 2 has a quote that does not end"),
        ("a.csv", f"id,text\r\n1,{SECRET}\n2,b\r\n", "line ends of several kinds"),
        ("a.csv", f"id,text\n1,{SECRET} é\n".encode("latin-1"), "is not UTF-8 text (line 2)"),
        ("a.csv", f"id,text\n1,{'x' * 2_000_000}\n2,{SECRET} é\n".encode("latin-1"), "line 3 is not UTF-8"),
        ("a.csv", f"id,text\n1,{SECRET}\n".encode("utf-16"), "is UTF-16 text; save it as UTF-8"),
        ("a.csv", f"id,text\n1,{SECRET}\n".encode("utf-16-le"), "is UTF-16 text; save it as UTF-8"),
        ("a.csv", f"id,text,text\n1,a,{SECRET}\n", "has a column 'text' twice"),
        ("a.csv", f"id,text,Text\n1,a,{SECRET}\n", "'Text' and 'text', which SQL does not tell apart"),
        ("a.csv", f"\n\nid,text\n1,{SECRET}\n", "does not begin with a header"),
        ("a.csv", f"id,text\n1,{SECRET}{'x' * 17_000_000}\n", "line 2 is longer than 16,777,216 bytes"),
        ("a.parquet", SECRET, "is not readable as parquet: it is damaged, or not parquet at all"),
        ("a.ndjson", f'{{"id": 1}}\n{{"id": {SECRET}}}\n', "line 2 is not JSON"),
        ("a.ndjson", f'{{"id": 1}}\n{{"id": 1, "id": "{SECRET}"}}\n', "an object has a key twice"),
        ("a.ndjson", f'{{"id": 1, "ID": "{SECRET}"}}\n', "two keys 'ID' that differ only in case"),
        ("a.ndjson", f'{{"id": "{SECRET} é"}}\n'.encode("latin-1"), "line 1 is not JSON in UTF-8"),
        ("a.ndjson", f'{{"id": "{SECRET}"}}\n'.encode("utf-16"), "is UTF-16"),
        ("a.ndjson", f'[\n{{"id": "{SECRET}"}}\n]\n', "line 1 is not JSON"),
        ("a.xlsx", SECRET, "a.xlsx has the ending '.xlsx', which says nothing of its format"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_said_without_quoting_it(
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    name: str,
    content: bytes | str,
    said: str,
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        read(connection, tmp_path / name, content)
    assert said in str(refused.value)
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_or_a_folder_is_named(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    for path, said in ((tmp_path / "none.csv", "does not exist"), (tmp_path, "is a folder")):
        with pytest.raises(ConfigurationError, match=f"source.path: {path} {said}"):
            open_data_file(connection, "v", path, field="source.path")


def test_the_format_may_be_given_where_the_ending_does_not_say_it(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    assert read(connection, tmp_path / "data.txt", "id\n01\n", kind="csv") == [{"id": "01"}]


def test_ndjson_keeps_text_as_text_and_numbers_as_numbers(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    row = {
        "id": 12345678901234567,
        "code": "007",
        "day": "2026-01-02",
        "moment": "2026-01-02T10:00:00Z",
        "time": "10:00",
        "uuid": "6F1C8A5E-8A44-4C9A-9E1E-0F6C4F3A2B11",
        "DATE": "2026-01-02",
        "share": 0.5,
        "sure": True,
        "tags": ["2026-01-02", "b"],
        "place": {"city": "Oslo", "since": "2026-01-02"},
        "nothing": None,
    }
    assert read(connection, tmp_path / "data.jsonl", json.dumps(row) + "\n") == [row]


def test_ndjson_of_several_shapes_has_the_columns_of_all(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    content = '{"id": 1}\n\n{"id": "x", "id_1": "b", "new": 2.5}\n'
    assert read(connection, tmp_path / "data.ndjson", content) == [
        {"id": "1", "id_1": None, "new": None},
        {"id": "x", "id_1": "b", "new": 2.5},
    ]


def test_parquet_keeps_its_types(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    rows = {"id": [1, 2], "tags": [["a"], []], "place": [{"city": "Oslo"}, None]}
    table = pa.table(rows)
    pq.write_table(table, tmp_path / "data.parquet")
    file = open_data_file(connection, "v", tmp_path / "data.parquet", field="source.path")

    assert file.columns == {"id": "BIGINT", "tags": "VARCHAR[]", "place": "STRUCT(city VARCHAR)"}
    assert connection.execute("SELECT * FROM v").fetchall()[0] == (1, ["a"], {"city": "Oslo"})


def test_columns_are_listed_so_that_blanks_show_and_many_stay_short() -> None:
    assert listed(["id", " text", "a\nb"]) == "id, ' text', 'a\\nb'"
    assert listed([f"c{n}" for n in range(100)], most=2) == "c0, c1 and 98 more"
