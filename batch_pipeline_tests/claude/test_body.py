"""Reading a written body back, request by request."""

import tracemalloc
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_pipeline.claude.body import DamagedBodyError, body_requests
from batch_pipeline.claude.encode import BodyFile

TOKEN = "0123456789ab"

# Text that looks like the beginning of the next request, as a row may hold it.
hostile = st.sampled_from(
    [f',{{"custom_id":"{TOKEN}-7","params":{{}}}}', '"}},', "]}", "\\", '{"requests":[', "\u2028é"]
)
texts = st.lists(st.one_of(st.text(), hostile), max_size=4).map("".join)
params = st.recursive(
    texts | st.integers(-9, 9) | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


def written(path: Path, requests: list[tuple[str, Any]]) -> Path:
    with BodyFile(path) as body:
        for custom_id, content in requests:
            body.add(orjson.dumps({"custom_id": custom_id, "params": content}))
    return path


@given(st.lists(st.dictionaries(texts, params, max_size=3), min_size=1, max_size=5))
def test_every_request_comes_back_byte_for_byte(contents: list[dict[str, Any]]) -> None:
    requests = [(f"{TOKEN}-{row}", content) for row, content in enumerate(contents)]
    with TemporaryDirectory() as folder:
        body = written(Path(folder) / "body.json", requests)
        assert list(body_requests(body, TOKEN)) == [
            (custom_id, orjson.dumps(content)) for custom_id, content in requests
        ]


def test_one_request_is_held_at_a_time(tmp_path: Path) -> None:
    long = "x" * 100_000
    body = written(tmp_path / "body.json", [(f"{TOKEN}-{row}", {"x": long}) for row in range(200)])
    tracemalloc.start()
    try:
        assert sum(1 for _ in body_requests(body, TOKEN)) == 200
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < body.stat().st_size / 20


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b'{"requests":[{"custom_id":"0123456789ab-0","params":{"n":0}}',
        b'{"requests":[{"custom_id":"another00000-0","params":{"n":0}}]}',
        b'{"requests":[{"custom_id":"0123456789ab-0"}]}',
    ],
    ids=["empty", "no requests", "cut short", "another token", "no params"],
)
def test_a_file_that_is_no_such_body_is_refused(tmp_path: Path, content: bytes) -> None:
    body = tmp_path / "body.json"
    body.write_bytes(content)
    with pytest.raises(DamagedBodyError):
        list(body_requests(body, TOKEN))


def test_a_body_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DamagedBodyError):
        list(body_requests(tmp_path / "body.json", TOKEN))
