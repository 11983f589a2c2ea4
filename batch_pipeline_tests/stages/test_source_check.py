"""What a source and a golden file are refused for: one sentence that quotes no row but its key."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.rows.query import querying
from batch_pipeline.stages.source import check_source
from batch_pipeline.workload.spec import WorkloadSpec
from batch_pipeline.workload.workload import Workload
from batch_pipeline_tests.night import DAY, declaration, rows, write_csv

SECRET = "my bank account is empty"
CHECKS = """\
import pandera.pandas as pa

Frame = pa.DataFrameSchema({"label": pa.Column(str), "plan": pa.Column(str)})
"""


@pytest.fixture
def check(tmp_path: Path) -> Callable[..., None]:
    """Checks a workload of files given by name, as lists of rows or as text."""

    def run(
        files: Mapping[str, Sequence[Mapping[str, Any]] | str] | None = None, **changes: Any
    ) -> None:
        golden = [{**row, "expected_label": row["label"]} for row in rows(3, start=100_000)]
        for name, content in {"source.csv": rows(6), "golden.csv": golden, **(files or {})}.items():
            if isinstance(content, str):
                (tmp_path / name).write_text(content, encoding="utf-8")
            else:
                write_csv(tmp_path / name, content)
        spec = WorkloadSpec.model_validate(declaration(**changes))
        with querying(tmp_path / "scratch") as connection:
            check_source(Workload.build(spec, tmp_path), DAY, connection)

    return run


@pytest.fixture
def refusal(check: Callable[..., None], tmp_path: Path) -> Callable[..., str]:
    def run(*arguments: Any, **changes: Any) -> str:
        with pytest.raises(ConfigurationError) as refused:
            check(*arguments, **changes)
        sentence = str(refused.value)
        assert SECRET not in sentence
        assert "\n" not in sentence
        return sentence.replace(str(tmp_path.resolve()), "…")

    return run


def keyed(*keys: str | None) -> list[dict[str, str | None]]:
    return [{"id": key, "text": SECRET} for key in keys]


def golden(**changes: Any) -> dict[str, Any]:
    """A golden file of one row with these cells; None leaves a column out."""
    row = {"id": "g", "text": "a", "expected_label": "bug", **changes}
    return {"golden.csv": [{name: value for name, value in row.items() if value is not None}]}


def test_a_source_that_is_as_declared_passes(check: Callable[..., None]) -> None:
    check()
    check(golden=None)


# The source


def test_a_key_that_is_not_unique_is_refused_with_the_values_that_repeat(
    refusal: Callable[..., str],
) -> None:
    long, line = "k" * 90, "two\nlines"
    keys = ["a", "b", "b", "c", "c", "c", "d", "d", "e", "e", "f", "f", long, long, line, line]
    assert refusal({"source.csv": keyed(*keys)}) == (
        "The key column 'id' is not unique in the source …/source.csv: c (3 times), b (2 times), "
        "d (2 times), e (2 times), f (2 times); give each row a key of its own, or name another column in "
        "source.key."
    )
    assert f"{'k' * 79}… (2 times), 'two\\nlines' (2 times)" in refusal(
        {"source.csv": keyed(long, long, line, line)}
    )


@pytest.mark.parametrize(
    ("files", "changes", "said"),
    [
        ({"source.csv": "id,text\n"}, {}, "the source …/source.csv has no rows"),
        ({"source.csv": keyed("a", None, None)}, {}, "The key column 'id' is null in 2 of 3 rows"),
        ({"source.csv": f"id,text\n1,{SECRET}\n2\n"}, {}, "cannot be read: line 3 has 1 field and the"),
        ({}, {"source": {"path": "source.csv", "key": "ID"}}, "source.key is 'ID', but the source …/source.csv has no such column; it has id, text, label"),
        ({}, {"prompt": {"user": "{{ body }}"}}, "prompt.user names the column 'body', which the source …/source.csv does not have; it has id, text, label"),
        ({}, {"prompt": {"user": "{{ row['my text'] }}"}}, "prompt.user names the column 'my text'"),
        ({"source.csv": "id,text,_ROW\n1,a,b\n"}, {}, "has a column '_ROW', a name that questions's tables need"),
        ({}, {"source": {"path": "source-{{ day }}.csv", "key": "id"}}, "source.path names {{ day }}; only {{ partition }}"),
        ({}, {"source": {"path": "{{ partition }}.csv", "key": "id"}}, "source.path: …/2026-11-20.csv does not exist"),
        ({}, {"source": {"path": ".", "key": "id"}}, "is a folder"),
    ],
)  # fmt: skip
def test_a_source_that_could_not_be_sent_is_refused(
    refusal: Callable[..., str], files: dict[str, Any], changes: dict[str, Any], said: str
) -> None:
    assert said in refusal(files, **changes)


@pytest.mark.parametrize(
    ("sql", "said"),
    [
        ("SELEC 1", "source.sql does not run: Parser Error: syntax error at or near"),
        ("SELECT * FROM nowhere", "source.sql does not run: Catalog Error: Table with name nowhere"),
        ("SELECT nothing FROM 'source.csv'", 'Referenced column "nothing" not found'),
        ("SELECT * FROM 'missing.csv'", "source.sql does not run: IO Error: No files found"),
        ("SELECT 1 AS id; SELECT 2", "source.sql must be one SELECT statement"),
        ("CREATE TABLE t (id INT)", "source.sql must be one SELECT statement"),
        ("-- nothing", "source.sql must be one SELECT statement"),
        ("SELECT * FROM 'source.csv' WHERE day = '{{ ds }}'", "source.sql names {{ ds }}"),
        ("SELECT id, text::INT AS text FROM 'source.csv'", "a value cannot be converted to the type"),
        ("SELECT id, error(text) AS text FROM 'source.csv'", "DuckDB raised InvalidInputException"),
        ("SELECT id, text FROM 'source.csv' WHERE false", "the result of source.sql has no rows"),
        ("SELECT 1 AS id, 'a' AS text FROM range(2)", "is not unique in the result of source.sql: 1 (2 times)"),
        ("SELECT [1] AS id, 'a' AS text", "is of type INTEGER[]; a key must be text"),
        ("SELECT {'a': 1} AS id, 'a' AS text", "is of type STRUCT; a key must be text"),
        ("SELECT 1 AS id", "prompt.user names the column 'text'"),
    ],
)  # fmt: skip
def test_a_query_that_does_not_give_rows_is_refused(
    refusal: Callable[..., str], sql: str, said: str
) -> None:
    files = {"source.csv": keyed("a", "b")}
    assert said in refusal(files, source={"sql": sql, "key": "id"}, golden=None)


def test_a_database_that_cannot_be_opened_is_refused(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    def with_database(name: str) -> str:
        return refusal(source={"sql": "SELECT 1 AS id", "database": name, "key": "id"})

    assert "source.database: …/none.duckdb does not exist" in with_database("none.duckdb")
    (tmp_path / "text.duckdb").write_text(SECRET * 100)
    assert "source.database: …/text.duckdb cannot be opened" in with_database("text.duckdb")
    with duckdb.connect(tmp_path / "busy.duckdb"):
        pass
    assert "prompt.user names" in with_database("busy.duckdb")


def test_a_query_cannot_write_to_the_database(check: Callable[..., None], tmp_path: Path) -> None:
    with duckdb.connect(tmp_path / "w.duckdb") as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS id, 'a' AS text")
    before = (tmp_path / "w.duckdb").read_bytes()
    check(source={"sql": "FROM t", "database": "w.duckdb", "key": "id"}, golden=None)
    assert (tmp_path / "w.duckdb").read_bytes() == before


# The user's own checks


def test_checks_may_look_at_the_answer_and_at_the_source_only(
    check: Callable[..., None], refusal: Callable[..., str]
) -> None:
    plan = [{**row, "plan": "pro"} for row in rows(3)]
    files = {"my_checks.py": CHECKS, "source.csv": plan}
    check(files, checks="my_checks:Frame", golden=None)

    assert "column 'plan' is neither a field of output nor a column of the source" in refusal(
        {"my_checks.py": CHECKS}, checks="my_checks:Frame", golden=None
    )
    assert (
        "checks looks at the column 'plan', which the golden file …/golden.csv does not have"
        in refusal(files, checks="my_checks:Frame")
    )


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("no_such:Frame", "there is no module no_such"),
        ("my_checks:Other", "has no attribute Other"),
        ("my_checks:pa", "pa is not a Pandera schema"),
        ("my_checks", "write module:Attribute"),
    ],
)
def test_checks_that_cannot_be_had_are_refused(
    refusal: Callable[..., str], reference: str, said: str
) -> None:
    assert said in refusal({"my_checks.py": CHECKS}, checks=reference)


# The golden file


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"golden.csv": ""}, "golden.path: …/golden.csv is empty"),
        ({"golden.csv": "text,expected_label\n"}, "the golden file …/golden.csv has no rows"),
        ({"golden.csv": "text,expected_label\na\n"}, "cannot be read: line 2 has 1 field"),
        (golden(expected_label=None), "golden.match names 'label', but the golden file …/golden.csv has no column expected_label; it has id, text"),
        (golden(text=None), "prompt.user looks at the column 'text', which the golden file …/golden.csv does not have"),
        (golden(expected_label="bugs"), "expected_label of the golden file …/golden.csv holds what output.label does not allow (unknown_label) in row 1; it allows billing, bug, how_to"),
        (golden(expected_label=""), "expected_label of the golden file …/golden.csv is empty in 1 of 1 rows"),
        (golden(_Golden="x"), "has a column '_Golden', a name that questions's tables need"),
        ({"golden.csv": [*golden()["golden.csv"] * 2]}, "The key column 'id' of the golden file …/golden.csv is not unique in 1 of 2 rows"),
        (golden(id=""), "The key column 'id' of the golden file …/golden.csv is null in 1 of 1 rows"),
    ],
)  # fmt: skip
def test_a_golden_file_that_could_not_be_graded_is_refused(
    refusal: Callable[..., str], files: dict[str, Any], said: str
) -> None:
    assert said in refusal(files)


def test_a_golden_file_that_is_not_there_is_named(refusal: Callable[..., str]) -> None:
    missing = {"path": "none.csv", "match": ["label"], "baseline": 0.9}
    assert "golden.path: …/none.csv does not exist" in refusal(golden=missing)


def test_the_right_answer_cannot_be_part_of_the_question(refusal: Callable[..., str]) -> None:
    files = {"source.csv": [{**row, "expected_label": "bug"} for row in rows(3)]}
    assert "would send the right answer along" in refusal(
        files, prompt={"user": "{{ text }} {{ expected_label }}"}
    )


@pytest.mark.parametrize(
    ("field", "right", "wrong", "said"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 5}, "3", "high", "holds what output.answer cannot be, whose type is integer, in row 1; mend it there"),
        ({"type": "integer"}, "3.0", "3.7", "what output.answer cannot be, whose type is integer"),
        ({"type": "integer", "maximum": 5}, "5", "6", "what output.answer does not allow (out_of_range) in row 1"),
        ({"type": "number", "minimum": 0}, "0.5", "-1", "what output.answer does not allow (out_of_range)"),
        ({"type": "boolean"}, "true", "perhaps", "what output.answer cannot be, whose type is boolean"),
        ({"type": "string", "maxLength": 5}, "short", SECRET, "what output.answer does not allow (too_long)"),
        ({"type": "array", "items": {"type": "string", "enum": ["a", "b"]}}, "[a, b]", "[c]", "what output.answer does not allow (items)"),
        ({"type": "array", "items": {"type": "integer"}}, "[1, 2]", "[x]", "what output.answer cannot be, whose type is array"),
    ],
)  # fmt: skip
def test_an_expected_answer_must_be_one_that_the_contract_allows(
    check: Callable[..., None],
    refusal: Callable[..., str],
    field: dict[str, Any],
    right: str,
    wrong: str,
    said: str,
) -> None:
    declared = {
        "output": {"answer": field},
        "golden": {"path": "golden.csv", "match": ["answer"], "baseline": 0.9},
    }
    check({"golden.csv": [{"text": "a", "expected_answer": right}]}, **declared)
    assert said in refusal({"golden.csv": [{"text": "a", "expected_answer": wrong}]}, **declared)


def test_where_null_is_an_answer_it_may_be_the_right_one(check: Callable[..., None]) -> None:
    check(
        golden(expected_label=""),
        output={"label": {"type": ["string", "null"], "enum": ["bug", None]}},
    )


def test_an_expected_answer_that_is_not_graded_may_be_left_open(check: Callable[..., None]) -> None:
    check(
        golden(expected_urgency=""),
        output={"label": {"type": "string"}, "urgency": {"type": "integer"}},
    )


def test_golden_rows_must_have_the_types_that_the_prompt_will_see(
    refusal: Callable[..., str], tmp_path: Path
) -> None:
    pq.write_table(pa.table({"id": [1], "text": [7]}), tmp_path / "source.parquet")
    assert "The column 'text' of the golden file …/golden.csv does not hold BIGINT in 3 rows" in (
        refusal(source={"path": "source.parquet", "key": "id"})
    )
