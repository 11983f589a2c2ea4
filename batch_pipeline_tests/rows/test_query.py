"""DuckDB over files of rows."""

from pathlib import Path

import duckdb
from hypothesis import given
from hypothesis import strategies as st

from batch_pipeline.rows.query import querying, quoted, read_parquets


@given(st.text(st.characters(exclude_characters="\x00", codec="utf-8"), min_size=1))
def test_any_name_can_be_quoted(name: str) -> None:
    found = duckdb.default_connection().execute(f"SELECT 1 AS {quoted(name)}").description
    assert found[0][0] == name


def test_no_files_are_an_empty_relation_of_the_same_columns(tmp_path: Path) -> None:
    with querying(tmp_path / "scratch") as connection:
        empty = read_parquets([], {"row": "BIGINT", "kind": "VARCHAR"})
        assert connection.execute(f"DESCRIBE SELECT * FROM {empty}").fetchall()[0][:2] == (
            "row",
            "BIGINT",
        )
        assert connection.execute(f"SELECT * FROM {empty}").fetchall() == []


def test_columns_are_matched_by_name_and_paths_may_hold_quotes(tmp_path: Path) -> None:
    files = [tmp_path / "it's" / f"{n}.parquet" for n in range(2)]
    files[0].parent.mkdir()
    with querying(tmp_path / "scratch") as connection:
        for path, sql in zip(
            files, ("SELECT 1 AS a, 'x' AS b", "SELECT 'y' AS b, 2 AS a"), strict=True
        ):
            connection.execute(f"COPY ({sql}) TO '{str(path).replace(chr(39), chr(39) * 2)}'")
        both = read_parquets([str(path) for path in files], {"a": "INTEGER", "b": "VARCHAR"})
        assert connection.execute(f"SELECT * FROM {both} ORDER BY a").fetchall() == [
            (1, "x"),
            (2, "y"),
        ]


def test_a_query_leaves_nothing_behind(tmp_path: Path) -> None:
    with querying(tmp_path / "scratch") as connection:
        connection.execute("SET memory_limit = '60MB'")
        connection.execute(
            "CREATE TEMP TABLE t AS SELECT range AS i, md5(range::VARCHAR) AS s FROM range(1500000)"
        )
        assert list((tmp_path / "scratch").iterdir())
    # But for DuckDB's mark of who uses the folder, which goes with the process's database.
    left = [path for path in (tmp_path / "scratch").iterdir() if not path.name.endswith("_owner")]
    assert left == []


def test_a_column_that_no_file_has_is_null(tmp_path: Path) -> None:
    with querying(tmp_path / "scratch") as connection:
        old = tmp_path / "old.parquet"
        connection.execute(f"COPY (SELECT 1 AS a) TO '{old}' (FORMAT parquet)")
        found = read_parquets([str(old)], {"a": "BIGINT", "shared": "BOOLEAN"})
        assert connection.execute(f"SELECT a, shared FROM {found}").fetchall() == [(1, None)]
