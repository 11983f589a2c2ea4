"""A user's own Pandera schema: how it is found, and what it says of rows."""

import sys
from pathlib import Path
from textwrap import dedent

import pandas as pd
import pandera.config
import pytest

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.workload.checks import UserChecks, load_checks

HEAD = "import pandas as pd\nimport pandera.pandas as pa\n"
MODEL = HEAD + dedent("""
    class Tickets(pa.DataFrameModel):
        category: str
        urgency: int = pa.Field(ge=1, le=5)

        @pa.check("category")
        def lower_case(cls, category):
            return category.str.islower()

        @pa.dataframe_check
        def urgent_bugs_only(cls, frame):
            return (frame["urgency"] < 5) | (frame["category"] == "bug")
    """)
SECRET = "row text that nobody may see"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def checks(folder: Path, body: str, reference: str = "my_checks:Tickets") -> UserChecks:
    (folder / "my_checks.py").write_text(HEAD + dedent(body))
    return load_checks(reference, folder)


def schema(folder: Path, expression: str) -> UserChecks:
    return checks(folder, f"Tickets = pa.DataFrameSchema({expression})")


def frame(**columns: pd.Series) -> pd.DataFrame:
    return pd.DataFrame(columns)


def text(*values: str | None) -> pd.Series:
    return pd.Series(values, dtype="str")


def whole(*values: int | None) -> pd.Series:
    return pd.Series(values, dtype="Int64")


@pytest.mark.parametrize("reference", ["my_checks:Tickets", "my_checks.py:Tickets"])
def test_a_model_in_the_workloads_folder_is_found(folder: Path, reference: str) -> None:
    (folder / "my_checks.py").write_text(MODEL)
    assert load_checks(reference, folder).columns() == ("category", "urgency")


def test_annotations_that_are_only_text_are_understood(folder: Path) -> None:
    (folder / "my_checks.py").write_text("from __future__ import annotations\n" + MODEL)
    assert load_checks("my_checks:Tickets", folder).columns() == ("category", "urgency")


def test_a_module_in_a_package_of_the_folder_is_found(folder: Path) -> None:
    (folder / "quality").mkdir()
    (folder / "quality" / "__init__.py").write_text("")
    (folder / "quality" / "limits.py").write_text("TOP = 5\n")
    (folder / "quality" / "tickets.py").write_text(
        HEAD + "from .limits import TOP\n"
        "Tickets = pa.DataFrameSchema({'urgency': pa.Column(int, pa.Check.le(TOP))})\n"
    )
    found = load_checks("quality.tickets:Tickets", folder)
    assert found.failures(frame(urgency=whole(5, 6))) == {1: "urgency:less_than_or_equal_to"}


def test_an_installed_module_is_found_where_the_folder_has_none(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="PurePath is not a Pandera schema"):
        load_checks("pathlib:PurePath", folder)


def test_two_workloads_may_each_have_their_own_my_checks(tmp_path: Path) -> None:
    found = []
    for name, top in (("one", 1), ("two", 2)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "limits.py").write_text(f"TOP = {top}\n")
        (folder / "my_checks.py").write_text(
            HEAD + "import limits\n"
            "Tickets = pa.DataFrameSchema({'urgency': pa.Column(int, pa.Check.le(limits.TOP))})\n"
        )
        found.append(load_checks("my_checks:Tickets", folder))
    failing = [list(each.failures(frame(urgency=whole(1, 2, 3)))) for each in found]
    assert failing == [[1, 2], [2]]


def test_loading_leaves_no_trace(folder: Path) -> None:
    (folder / "json.py").write_text(MODEL)
    path, modules = list(sys.path), dict(sys.modules)
    load_checks("json:Tickets", folder)
    assert sys.path == path
    assert sys.modules["json"] is modules["json"]
    assert not [name for name in sys.modules if name.startswith("my_checks")]


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("my_checks", "write module:Attribute"),
        ("my_checks:", "write module:Attribute"),
        (":Tickets", "write module:Attribute"),
        ("absent:Tickets", "there is no module absent"),
        ("absent.deeper:Tickets", "there is no module absent.deeper"),
        ("my_checks:Absent", "has no attribute Absent"),
        ("my_checks:pd", "is not a Pandera schema"),
        ("my_checks:NUMBER", "is not a Pandera schema"),
        ("needs:Tickets", "needs imports a_package_not_there, which is not installed"),
        ("broken:Tickets", "importing broken raised ZeroDivisionError"),
        ("no_python:Tickets", "importing no_python raised SyntaxError"),
        ("wrong_model:Tickets", "Pandera cannot read the model"),
    ],
)
def test_what_cannot_be_loaded_is_refused_in_a_sentence(
    folder: Path, reference: str, said: str
) -> None:
    (folder / "my_checks.py").write_text(MODEL + "NUMBER = 3\n")
    (folder / "needs.py").write_text("import a_package_not_there\n")
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "no_python.py").write_text("def\n")
    (folder / "wrong_model.py").write_text(
        HEAD + "class Own: pass\nclass Tickets(pa.DataFrameModel):\n    a: Own\n"
    )
    with pytest.raises(ConfigurationError, match=said) as error:
        load_checks(reference, folder)
    assert reference in str(error.value)


def test_a_column_that_nobody_has_is_refused(folder: Path) -> None:
    (folder / "my_checks.py").write_text(MODEL)
    found = load_checks("my_checks:Tickets", folder)
    found.require_columns({"category", "urgency", "plan"})
    with pytest.raises(
        ConfigurationError, match=r"column 'urgency' is neither .* may use category, plan"
    ):
        found.require_columns({"category", "plan"})


@pytest.mark.parametrize(
    "expression",
    [
        "{'a': pa.Column(str, unique=True)}",
        "{'a': pa.Column(str)}, unique=['a']",
        "{'a': pa.Column(str, pa.Check(lambda g: True, groupby='b')), 'b': pa.Column(str)}",
    ],
)
def test_a_rule_over_many_rows_is_refused(folder: Path, expression: str) -> None:
    with pytest.raises(ConfigurationError, match="many rows at once"):
        schema(folder, expression)


def test_each_failing_row_has_the_name_of_its_first_failed_check(folder: Path) -> None:
    (folder / "my_checks.py").write_text(MODEL)
    rows = frame(category=text("bug", "Bug", "how_to", "bug", "Bug"), urgency=whole(5, 2, 5, 9, 9))
    rows.index = pd.Index([10, 11, 12, 13, 14])
    assert load_checks("my_checks:Tickets", folder).failures(rows) == {
        11: "category:lower_case",
        12: "urgent_bugs_only",
        13: "urgency:less_than_or_equal_to",
        14: "category:lower_case",
    }


def test_a_check_without_a_name_is_called_by_its_error_or_its_number(folder: Path) -> None:
    found = schema(
        folder,
        "{'a': pa.Column(int, [pa.Check(lambda s: s > 0), pa.Check(lambda s: s > 1, error='big')])}",
    )
    assert found.failures(frame(a=whole(0, 1, 2))) == {0: "a:check_0", 1: "a:big"}


@pytest.mark.parametrize(
    "expression",
    [
        "{'a': pa.Column(int, pa.Check(lambda s: s > 0, n_failure_cases=1))}",
        "{'a': pa.Column(int, pa.Check(lambda s: s > 0))}, drop_invalid_rows=True",
        "{'a': pa.Column(int, pa.Check(lambda s: s > 0), drop_invalid_rows=True)}",
        "{'a': pa.Column(int, pa.Check(lambda v: v > 0, element_wise=True))}",
        "checks=pa.Check(lambda frame: frame > 0)",
        "checks=pa.Check(lambda row: row['a'] > 0, element_wise=True)",
    ],
)
def test_every_failing_row_is_named_whatever_the_schema_reports(
    folder: Path, expression: str
) -> None:
    assert sorted(schema(folder, expression).failures(frame(a=whole(0, 1, -5, -5)))) == [0, 2, 3]


def test_a_check_that_only_warns_lets_rows_pass_in_silence(
    folder: Path, recwarn: pytest.WarningsRecorder
) -> None:
    found = schema(folder, "{'a': pa.Column(str, pa.Check(lambda s: s == '', raise_warning=True))}")
    assert found.failures(frame(a=text(SECRET))) == {}
    assert not recwarn.list


def test_checks_run_although_pandera_is_switched_off(folder: Path) -> None:
    found = schema(folder, "{'a': pa.Column(int, pa.Check.gt(0))}")
    with pandera.config.config_context(validation_enabled=False):
        assert found.failures(frame(a=whole(0))) == {0: "a:greater_than"}


def test_plain_int_and_bool_are_met_where_no_null_is(folder: Path) -> None:
    found = schema(folder, "{'a': pa.Column(int), 'b': pa.Column(bool), 'c': pa.Column(float)}")
    rows = frame(a=whole(1), b=pd.Series([True], dtype="boolean"), c=whole(None))
    assert found.failures(rows) == {0: "c:not_nullable"}


def test_a_null_where_none_may_be_fails_its_row_alone(folder: Path) -> None:
    found = schema(folder, "{'a': pa.Column(int, pa.Check.gt(0)), 'b': pa.Column(str)}")
    rows = frame(a=whole(1, None, 3, 0), b=text("x", "y", None, "z"))
    assert found.failures(rows) == {1: "a:not_nullable", 2: "b:not_nullable", 3: "a:greater_than"}


def test_a_value_that_cannot_be_converted_fails_its_row_alone(folder: Path) -> None:
    found = schema(folder, "{'a': pa.Column(int, pa.Check.gt(0), coerce=True)}")
    assert found.failures(frame(a=text("1", "x", "0"))) == {
        1: "a:coerce_dtype('int64')",
        2: "a:greater_than",
    }


@pytest.mark.parametrize(("ignore_na", "failing"), [(True, [2]), (False, [1, 2])])
def test_an_unknown_comparison_counts_as_ignore_na_says(
    folder: Path, ignore_na: bool, failing: list[int]
) -> None:
    found = schema(
        folder,
        f"checks=pa.Check(lambda f: f['a'] < f['b'], name='ordered', ignore_na={ignore_na})",
    )
    rows = frame(a=whole(1, None, 3), b=whole(2, 2, 2))
    assert list(found.failures(rows)) == failing


def test_no_rows_have_no_failures(folder: Path) -> None:
    found = schema(folder, "{'a': pa.Column(int)}")
    assert found.failures(frame(a=whole())) == {}


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (
            "{'a': pa.Column(str, pa.Check(lambda s: 1 / 0, name='odd'))}",
            "a:odd raised ZeroDivisionError",
        ),
        ("{'a': pa.Column(str, pa.Check(lambda s: int(s[0]), name='odd'))}", "raised ValueError"),
        ("checks=pa.Check(lambda f: f['b'] == 1, name='odd')", "odd raised KeyError"),
        (
            "{'a': pa.Column(str, pa.Check(lambda s: s.nunique() > 3, name='odd'))}",
            "a:odd fails without saying for which rows",
        ),
        (
            "{'a': pa.Column(str, pa.Check(lambda s: pd.Series([False]), name='odd'))}",
            "a:odd fails without saying for which rows",
        ),
        ("{'a': pa.Column(int)}", "does not hold, for the column has type str"),
        ("{'b': pa.Column(int)}", "fails for the frame as a whole"),
        ("{}, strict=True", "fails for the frame as a whole"),
        ("{'a': pa.Column(str, parsers=pa.Parser(lambda s: int(s[0])))}", "raised ValueError"),
    ],
)
def test_a_check_that_judges_no_row_is_refused_without_row_text(
    folder: Path, expression: str, said: str
) -> None:
    found = schema(folder, expression)
    with pytest.raises(ConfigurationError, match=said) as error:
        found.failures(frame(a=text(SECRET, SECRET)))
    chain: BaseException | None = error.value
    while chain is not None:
        assert SECRET not in str(chain)
        chain = chain.__cause__ or chain.__context__
