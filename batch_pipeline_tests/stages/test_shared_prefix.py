from collections.abc import Callable
from typing import Any

import pytest

from batch_pipeline.errors import PipelineError
from batch_pipeline.rows.query import querying
from batch_pipeline.stages.shared_prefix import (
    SharedPrefix,
    find_shared_prefix,
    require_constant_prefix,
)
from batch_pipeline.stages.source import read_source
from batch_pipeline_tests.night import Night

MakeNight = Callable[..., Night]
LONG = "Rules that hold for every ticket of this desk. " * 400


def _rows(**columns: list[Any]) -> list[dict[str, Any]]:
    count = len(next(iter(columns.values())))
    return [
        {"id": f"r{n}", "text": f"question {n}", **{name: v[n] for name, v in columns.items()}}
        for n in range(count)
    ]


def _read(night: MakeNight, **options: Any) -> Night:
    made = night(golden=0, **options)
    read_source(made.context)
    return made


def _prefix(made: Night) -> SharedPrefix:
    with querying(made.context.scratch) as connection:
        return find_shared_prefix(
            connection,
            made.context.workload,
            made.context.folder(made.context.record()).source,
        )


def _lint(made: Night) -> None:
    with querying(made.context.scratch) as connection:
        require_constant_prefix(connection, made.context, made.context.record())


def test_the_head_goes_up_to_the_first_column_that_differs(night: MakeNight) -> None:
    made = _read(
        night,
        source=_rows(document=["the one document"] * 3),
        prompt={"system": "Be brief.", "user": "Read: {{ document }}\n\nAsk: {{ text }} Thanks."},
    )
    found = _prefix(made)
    assert (found.system, found.head, found.head_parts) == (
        "Be brief.",
        "Read: the one document\n\nAsk: ",
        3,
    )


def test_a_null_among_equal_values_makes_a_column_differ(night: MakeNight) -> None:
    made = _read(
        night,
        source=_rows(document=["same", "same", None]),
        prompt={"system": "Be brief.", "user": "{{ document }} {{ text }}"},
    )
    assert _prefix(made) == SharedPrefix("Be brief.", "", 0, ())


def test_a_column_that_differs_late_in_the_load_is_seen(night: MakeNight) -> None:
    made = _read(
        night,
        source=_rows(document=["same"] * 500 + ["other"]),
        prompt={"system": "Be brief.", "user": "{{ document }} {{ text }}"},
    )
    assert _prefix(made).head_parts == 0


def test_something_is_always_left_to_ask(night: MakeNight) -> None:
    made = _read(
        night, source=_rows(document=["same"] * 3), prompt={"user": "Read: {{ document }}"}
    )
    assert (_prefix(made).head, _prefix(made).head_parts) == ("Read: ", 1)


def test_a_template_that_is_more_than_columns_shares_its_system_prompt_only(
    night: MakeNight,
) -> None:
    prompt = {"system": "Be brief.", "user": "Fixed. {{ text | upper }}"}
    assert _prefix(_read(night, prompt=prompt)) == SharedPrefix("Be brief.", "", 0, ())


def test_a_system_prompt_that_varies_shares_nothing(night: MakeNight) -> None:
    made = _read(
        night,
        source=_rows(at=["10:00", "10:01"]),
        prompt={"system": "It is {{ at }}.", "user": "Fixed. {{ text }}", "cache": "none"},
    )
    found = _prefix(made)
    assert found.varying == ("at",)
    assert found.text == ""


def test_a_prefix_to_be_cached_that_varies_is_refused_with_its_first_difference(
    night: MakeNight,
) -> None:
    made = _read(
        night,
        source=_rows(at=["10:00", "10:01"]),
        prompt={"system": "It is now {{ at }}. " + LONG, "user": "{{ text }}", "cache": "1h"},
    )
    with pytest.raises(PipelineError) as refused:
        _lint(made)
    said = str(refused.value)
    assert "the system prompt names 'at', which differs between rows" in said
    assert "character 15" in said
    assert "is now 10:00. Rules" in said
    assert "is now 10:01. Rules" in said
    assert "end of the user message" in said
    assert len(said) < 600


def test_a_sensitive_workload_shows_the_place_of_the_difference_only(night: MakeNight) -> None:
    made = _read(
        night,
        source=_rows(patient=["Mrs Secret", "Mr Hidden"]),
        prompt={"system": "For {{ patient }}", "user": "{{ text }}", "cache": "5m"},
        sensitive=True,
    )
    with pytest.raises(PipelineError) as refused:
        _lint(made)
    assert "character 7" in str(refused.value)
    assert "Secret" not in str(refused.value)
    assert "Hidden" not in str(refused.value)


@pytest.mark.parametrize(
    ("cache", "text", "refused"),
    [
        ("none", LONG, False),
        ("auto", "", False),
        ("auto", LONG, True),
        ("5m", "", True),
    ],
)
def test_only_what_would_be_cached_must_not_vary(
    night: MakeNight, cache: str, text: str, refused: bool
) -> None:
    made = _read(
        night,
        source=_rows(at=["10:00", "10:01"]),
        prompt={"system": "It is {{ at }}. " + text, "user": "{{ text }}", "cache": cache},
    )
    if refused:
        with pytest.raises(PipelineError, match="differs between rows"):
            _lint(made)
    else:
        _lint(made)


def test_a_column_of_one_value_may_stand_in_a_cached_prefix(night: MakeNight) -> None:
    made = _read(
        night,
        source=_rows(desk=["Paris"] * 3),
        prompt={"system": "Desk {{ desk }}.", "user": "{{ text }}", "cache": "1h"},
    )
    _lint(made)
    assert _prefix(made).system == "Desk Paris."
