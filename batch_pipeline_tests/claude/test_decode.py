"""Results files of every kind, also of those that no API should send."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_pipeline.claude.decode import MAX_LINE_BYTES, Defects, Reading, mark_gone, read_results
from batch_pipeline.claude.whole_results import read_whole_results

TOKEN = "abc"
ROWS = 4


class Results:
    """Reads files as the results of a chunk of rows 0 to 3."""

    def __init__(self, folder: Path, connection: duckdb.DuckDBPyConnection) -> None:
        self.duckdb = connection
        self.raw, self.sent, self.parsed = (folder / name for name in ("raw", "sent", "parsed"))
        sent = {
            "row": range(ROWS),
            "tier": [1] * ROWS,
            "attempt": [2] * ROWS,
            "sending": [3] * ROWS,
        }
        pq.write_table(pa.table(sent), self.sent)

    def read(self, raw: bytes, counts: dict[str, int] | None = None) -> Defects:
        self.raw.write_bytes(raw)
        reading = read_results(
            self.raw, self.sent, self.parsed, token=TOKEN, chunk_id="c", counts=counts
        )
        assert sum(reading.results.values()) == ROWS
        whole = self.whole(counts)
        if whole is not None:
            assert whole == reading
            assert same_lines(self.at_once, self.parsed)
        return reading.defects

    def whole(self, counts: dict[str, int] | None = None) -> Reading | None:
        """The file that was read last, as DuckDB reads it at once; into `at_once`."""
        return read_whole_results(
            self.duckdb, self.raw, self.sent, self.at_once, token=TOKEN, chunk_id="c", counts=counts
        )

    @property
    def at_once(self) -> Path:
        return self.raw.with_name("at_once")

    def column(self, *names: str) -> list[Any]:
        lines = sorted(pq.read_table(self.parsed).to_pylist(), key=lambda line: line["row"])
        assert [line["row"] for line in lines] == list(range(ROWS))
        found = [tuple(line[name] for name in names) for line in lines]
        return [each[0] for each in found] if len(names) == 1 else found


def same_lines(one: Path, other: Path) -> bool:
    tables = [pq.read_table(path).sort_by("row") for path in (one, other)]
    return bool(tables[0].equals(tables[1]))


@pytest.fixture
def results(tmp_path: Path) -> Iterator[Results]:
    with duckdb.connect(config={"preserve_insertion_order": "false"}) as connection:
        yield Results(tmp_path, connection)


def line(row: int | str, **result: Any) -> bytes:
    """One line; `row` may be a whole custom_id."""
    custom_id = row if isinstance(row, str) else f"{TOKEN}-{row}"
    return json.dumps({"custom_id": custom_id, "result": result or {"type": "expired"}}).encode()


def succeeded(row: int, **message: Any) -> bytes:
    content = {"content": [{"type": "text", "text": f"answer {row}"}], **message}
    return line(row, type="succeeded", message=content)


def answers(count: int = ROWS) -> list[bytes]:
    return [succeeded(row) for row in range(count)]


def joined(*lines: bytes, end: bytes = b"\n") -> bytes:
    return b"".join(each + end for each in lines)


# Lines


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\n\n", b"\n \n", b"\r\n\r\n"])
def test_line_ends_and_blank_lines_do_not_matter(results: Results, end: bytes) -> None:
    assert not results.read(joined(*answers(), end=end), {"succeeded": ROWS})
    assert results.column("answer") == [f"answer {row}" for row in range(ROWS)]


def test_the_last_line_may_lack_its_end(results: Results) -> None:
    assert not results.read(b"\n".join(answers()))


def test_a_byte_order_mark_is_no_defect(results: Results) -> None:
    assert not results.read(b"\xef\xbb\xbf" + joined(*answers()))


def test_separators_of_unicode_do_not_end_a_line(results: Results) -> None:
    text = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg"
    content = [{"type": "text", "text": text}]
    message = {
        "custom_id": f"{TOKEN}-0",
        "result": {"type": "succeeded", "message": {"content": content}},
    }
    raw = json.dumps(message, ensure_ascii=False).encode()
    assert not results.read(joined(raw, *answers()[1:]))
    assert results.column("answer")[0] == text


def test_an_empty_file_means_that_every_row_is_absent(results: Results) -> None:
    assert results.read(b"", {"succeeded": ROWS}) == Defects(absent=ROWS, miscounted=ROWS)
    assert results.column("result") == ["absent"] * ROWS


BROKEN = {
    "half a line": b'{"custom_id":"abc-1","result":{"type":"suc',
    "not JSON": b"<html>bad gateway</html>",
    "a control character": b'{"custom_id":"abc-1\x01","result":{}}',
    "a null byte": b'{"custom_id":"abc-1\x00","result":{}}',
    "NaN": b'{"custom_id":"abc-1","result":NaN}',
    "too deep": b'{"custom_id":"abc-1","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "two values": b'{"custom_id":"abc-1"} {}',
    "too long": b'{"custom_id":"abc-1","x":"' + b"x" * 2 * MAX_LINE_BYTES + b'"}',
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_costs_its_own_row_only(results: Results, broken: bytes) -> None:
    good = answers()
    defects = results.read(joined(good[0], broken, good[2], good[3]), {"succeeded": ROWS})
    assert (defects.absent, defects.miscounted) == (1, 1)
    assert results.column("result") == ["succeeded", "absent", "succeeded", "succeeded"]


def test_a_long_answer_is_kept_whole(results: Results) -> None:
    text = "word " * 4_000_000
    long = line(0, type="succeeded", message={"content": [{"type": "text", "text": text}]})
    assert not results.read(joined(long, *answers()[1:]))
    assert results.column("answer")[0] == text


@pytest.mark.parametrize(
    "custom_id",
    [
        "abd-1",
        "abc-01",
        "abc--1",
        "abc-1 ",
        "abc-1x",
        "abc-",
        "abc",
        "abc-4",
        "abc-99999999999999999999",
        "ABC-1",
        "",
        "1",
    ],
)
def test_a_custom_id_that_was_not_sent_is_foreign(results: Results, custom_id: str) -> None:
    good = answers()
    defects = results.read(joined(good[0], line(custom_id), good[2], good[3]))
    assert defects == Defects(foreign=1, absent=1)


@pytest.mark.parametrize(
    "stranger", [b"5", b'"x"', b"[]", b"{}", b'{"custom_id":7}', b'{"custom_id":{"a":1}}']
)
def test_a_line_without_a_custom_id_is_foreign(results: Results, stranger: bytes) -> None:
    assert results.read(joined(*answers(), stranger)) == Defects(foreign=1)


def test_characters_that_are_none_spoil_themselves_only(results: Results) -> None:
    raw = answers()
    raw[0] = raw[0].replace(b"answer", b"a\xffb")
    raw[1] = raw[1].replace(b"answer", rb"a\ud800b")
    assert not results.read(joined(*raw), {"succeeded": ROWS})
    assert results.column("answer")[:2] == ["a\ufffdb 0", "a?b 1"]


def test_of_two_lines_for_a_row_the_first_counts(results: Results) -> None:
    second = line(1, type="expired")
    defects = results.read(joined(*answers(), second, second), {"succeeded": ROWS})
    assert defects == Defects(duplicate=2)
    assert results.column("result") == ["succeeded"] * ROWS


def test_counts_are_compared_with_the_batchs_own(results: Results) -> None:
    lines = [*answers(2), line(2, type="errored"), line(3, type="expired")]
    right = {"succeeded": 2, "errored": 1, "canceled": 0, "expired": 1}
    assert not results.read(joined(*lines), right)
    wrong = {"succeeded": 3, "errored": 1, "canceled": 0, "expired": 0}
    assert results.read(joined(*lines), wrong) == Defects(miscounted=2)


# What a line says


@pytest.mark.parametrize("kind", ["paused", "", "Succeeded"])
def test_a_result_type_that_is_new_to_us_is_kept_as_it_is(results: Results, kind: str) -> None:
    results.read(joined(line(0, type=kind), *answers()[1:]))
    assert results.column("result")[0] == kind


@pytest.mark.parametrize(
    "raw",
    [
        b'{"custom_id":"abc-0"}',
        b'{"custom_id":"abc-0","result":null}',
        b'{"custom_id":"abc-0","result":"ok"}',
        b'{"custom_id":"abc-0","result":{}}',
        b'{"custom_id":"abc-0","result":[]}',
    ],
)
def test_a_line_without_a_result_type_is_unknown(results: Results, raw: bytes) -> None:
    assert not results.read(joined(raw, *answers()[1:]))
    assert results.column("result")[0] == "unknown"


def test_text_blocks_are_joined_and_all_others_are_skipped(results: Results) -> None:
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "s"},
        {"type": "text", "text": '{"a":'},
        {"type": "redacted_thinking", "data": "x"},
        {"type": "tool_use", "id": "t", "name": "n", "input": {"text": "no"}},
        {"type": "text", "text": "1}"},
        {"type": "text"},
        {"text": "untyped"},
    ]
    results.read(joined(succeeded(0, content=blocks), *answers()[1:]))
    assert results.column("answer")[0] == '{"a":1}'


@pytest.mark.parametrize("content", ["a string", None, 7, {"type": "text", "text": "x"}])
def test_content_that_is_no_list_is_no_answer(results: Results, content: Any) -> None:
    results.read(joined(succeeded(0, content=content), *answers()[1:]))
    assert results.column("result", "answer")[0] == ("succeeded", None)


def test_no_blocks_are_an_empty_answer(results: Results) -> None:
    results.read(joined(succeeded(0, content=[]), *answers()[1:]))
    assert results.column("answer")[0] == ""


def test_an_error_is_read_from_where_the_api_puts_it(results: Results) -> None:
    error = {
        "type": "error",
        "request_id": "r",
        "error": {"type": "overloaded_error", "message": "later"},
    }
    results.read(joined(line(0, type="errored", error=error), *answers()[1:]))
    assert results.column("error_type", "error_message")[0] == ("overloaded_error", "later")


USAGE = (
    "input_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "cache_read_tokens",
    "output_tokens",
)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (None, (0, 0, 0, 0, 0)),
        ({}, (0, 0, 0, 0, 0)),
        ({"input_tokens": 5, "output_tokens": 2}, (5, 0, 0, 0, 2)),
        ({"input_tokens": "many", "output_tokens": None}, (0, 0, 0, 0, 0)),
        ({"cache_creation_input_tokens": 7, "cache_read_input_tokens": 3}, (0, 7, 0, 3, 0)),
        (
            {
                "cache_creation_input_tokens": 7,
                "cache_creation": {
                    "ephemeral_5m_input_tokens": 3,
                    "ephemeral_1h_input_tokens": 4,
                },
            },
            (0, 3, 4, 0, 0),
        ),
        (
            {
                "cache_creation_input_tokens": 7,
                "cache_creation": {"ephemeral_1h_input_tokens": 7},
            },
            (0, 0, 7, 0, 0),
        ),
        ({"cache_creation_input_tokens": 7, "cache_creation": None}, (0, 7, 0, 0, 0)),
    ],
)
def test_usage_is_read_by_price_and_what_is_missing_is_nothing(
    results: Results, usage: dict[str, Any] | None, expected: tuple[int, ...]
) -> None:
    results.read(joined(succeeded(0, usage=usage, model="m"), *answers()[1:]))
    assert results.column(*USAGE)[0] == expected


def test_a_row_keeps_what_is_known_of_its_sending(results: Results) -> None:
    results.read(b"")
    assert results.column("chunk_id", "tier", "attempt", "sending") == [("c", 1, 2, 3)] * ROWS


def test_of_results_that_are_gone_every_row_is(results: Results) -> None:
    reading = mark_gone(results.sent, results.parsed, chunk_id="c")
    assert (reading.results, reading.defects) == ({"gone": ROWS}, Defects())
    assert results.column("result") == ["gone"] * ROWS


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(lines=st.lists(st.binary(max_size=40) | st.sampled_from(answers()), max_size=8))
def test_no_bytes_stop_the_work_or_touch_a_good_line(results: Results, lines: list[bytes]) -> None:
    single = [each.replace(b"\n", b"") for each in lines]
    good = {each for each in answers() if each in single}
    defects = results.read(joined(*single))
    assert defects.absent == ROWS - len(good)
    assert results.column("result").count("succeeded") == len(good)


def test_defects_survive_being_written_down() -> None:
    defects = Defects(unparseable=1, absent=2, miscounted=3)
    assert Defects.from_json(defects.to_json()) == defects
    assert str(defects) == "1 unreadable lines, 2 rows absent, 3 lines off the batch's own counts"
    assert not Defects()


# Rows that another row carries


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.integers(0, ROWS - 1), max_size=30), st.sets(st.integers(0, ROWS - 1)))
def test_a_passenger_gets_its_carriers_line_unpaid(
    results: Results, carriers: list[int], answered: set[int]
) -> None:
    """Whatever order rows and lines come in, and whether or not the carrier has a line."""
    passengers = range(10, 10 + len(carriers))
    sent = {
        "row": [*passengers, *range(ROWS)],
        "tier": [0] * (len(carriers) + ROWS),
        "attempt": [*(row % 3 for row in passengers), *[1] * ROWS],
        "sending": [*(row % 5 for row in passengers), *[1] * ROWS],
        "of": pa.array([*carriers, *[None] * ROWS], pa.int64()),
    }
    files = results
    pq.write_table(pa.table(sent), files.sent)
    usage = {"input_tokens": 7, "output_tokens": 3, "cache_read_input_tokens": 2}
    lines = joined(*(succeeded(row, usage=usage, model="m") for row in answered))
    defects = files.read(lines, {"succeeded": len(answered)})
    assert defects == Defects(absent=ROWS - len(answered))
    found = {line["row"]: line for line in pq.read_table(files.parsed).to_pylist()}
    assert sorted(found) == sorted(sent["row"])
    assert [found[row]["shared"] for row in range(ROWS)] == [False] * ROWS
    nothing = {name: 0 for name in found[0] if name.endswith("_tokens")}
    for row, of in zip(passengers, carriers, strict=True):
        own = {"row": row, "attempt": row % 3, "sending": row % 5, "shared": True}
        assert found[row] == {**found[of], **own, **nothing}


def test_passengers_of_results_that_are_gone_are_gone_too(results: Results) -> None:
    files = results
    sent = {"row": [0, 1], "tier": [0, 0], "attempt": [1, 1], "sending": [1, 1]}
    pq.write_table(pa.table({**sent, "of": pa.array([None, 0], pa.int64())}), files.sent)
    reading = mark_gone(files.sent, files.parsed, chunk_id="c")
    assert reading.results == {"gone": 1}
    lines = pq.read_table(files.parsed).sort_by("row").to_pylist()
    assert [(line["result"], line["shared"]) for line in lines] == [("gone", False), ("gone", True)]
