"""Files in which nothing is amiss are read at once, to the same lines; all others are left to be read line by line."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_pipeline_tests.claude.test_decode import (
    ROWS,
    Results,
    answers,
    joined,
    line,
    results,
    succeeded,
)

__all__ = ["results"]

WHOLE = {"succeeded": ROWS}
TOKENS = st.integers(0, 1 << 40)
BLOCKS: st.SearchStrategy[list[dict[str, Any]]] = st.lists(
    st.builds(dict, type=st.sampled_from(["text", "thinking"]), text=st.text(max_size=8)),
    max_size=3,
)
USAGE = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": TOKENS,
        "output_tokens": TOKENS,
        "cache_read_input_tokens": TOKENS,
        "cache_creation_input_tokens": TOKENS,
        "cache_creation": st.fixed_dictionaries({"ephemeral_1h_input_tokens": TOKENS}),
        "service_tier": st.sampled_from(["batch", "standard"]),
    },
)


def test_a_file_in_which_nothing_is_amiss_is_read_at_once(results: Results) -> None:
    assert not results.read(joined(*answers()), WHOLE)
    assert results.whole(WHOLE) is not None


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(contents=st.lists(BLOCKS, min_size=ROWS, max_size=ROWS), usage=USAGE)
def test_it_is_read_to_the_same_lines(
    results: Results, contents: list[list[dict[str, Any]]], usage: dict[str, Any]
) -> None:
    lines = [succeeded(row, content=each, usage=usage) for row, each in enumerate(contents)]
    # `read` compares the two.
    results.read(joined(*reversed(lines)), WHOLE)
    assert results.whole(WHOLE) is not None


@pytest.mark.parametrize(
    ("lines", "counts"),
    [
        (answers(ROWS - 1), {"succeeded": ROWS - 1}),
        ([*answers(), succeeded(0)], WHOLE),
        ([*answers(ROWS - 1), succeeded(0)], WHOLE),
        ([*answers(), line("abc-99")], WHOLE),
        ([*answers(ROWS - 1), line("abc-03", type="succeeded")], WHOLE),
        ([*answers(), b"{"], WHOLE),
        (answers(), {"succeeded": ROWS - 1, "errored": 1}),
        ([*answers(ROWS - 1), line(ROWS - 1, type="else")], None),
        ([*answers(ROWS - 1), line(ROWS - 1)[:-1]], None),
        ([*answers(ROWS - 1), succeeded(ROWS - 1, usage={"input_tokens": -1})], WHOLE),
        ([*answers(ROWS - 1), json.dumps([1]).encode()], None),
    ],
)
def test_any_other_is_left_to_be_read_line_by_line(
    results: Results, lines: list[bytes], counts: dict[str, int] | None
) -> None:
    results.read(joined(*lines), counts)
    assert results.whole(counts) is None
