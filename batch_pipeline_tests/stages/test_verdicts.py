"""What each result becomes, and that nothing in an answer can stop the work or leak from it."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.stages import verdicts
from batch_pipeline.stages.verdicts import (
    PART_ROWS,
    count_reasons,
    example_failures,
    write_verdicts,
)
from batch_pipeline.workload.checks import UserChecks, load_checks
from batch_pipeline.workload.contract import Contract

CONTRACT = Contract.from_declaration(
    {
        "category": {"type": "string", "enum": ["billing", "how_to", "Mixed Case"]},
        "urgency": {"type": "integer", "minimum": 1, "maximum": 8, "multipleOf": 2},
        "summary": {"type": "string", "minLength": 1, "maxLength": 20, "pattern": "^[^\\n]*$"},
        "score": {"type": ["number", "null"], "exclusiveMinimum": 0},
        "tags": {
            "type": "array",
            "items": {"type": "string", "maxLength": 4},
            "minItems": 1,
            "maxItems": 2,
            "uniqueItems": True,
        },
        "open": {"type": "boolean"},
    }
)
GOOD: dict[str, Any] = {
    "category": "billing",
    "urgency": 2,
    "summary": "Paid twice",
    "score": 0.5,
    "tags": ["a"],
    "open": True,
}
SECRET = "row text that nobody may see"

Line = dict[str, Any]
Verdict = dict[str, Any]
Judge = Callable[..., list[Verdict]]


def answer(**changes: Any) -> str:
    return json.dumps(GOOD | changes)


def raw(field: str, text: str) -> str:
    """The good answer with the value of one field replaced by text that need not be JSON."""
    return json.dumps(GOOD | {field: "HERE"}).replace('"HERE"', text)


def write_results(path: Path, lines: list[Line]) -> None:
    standard = {
        "chunk_id": "chunk",
        "tier": 0,
        "attempt": 1,
        "sending": 3,
        "result": "succeeded",
        "stop_reason": "end_turn",
        "error_type": None,
        "error_message": None,
        "answer": None,
        "model": "claude-haiku-4-5",
    }
    schema = pa.schema(
        [("row", pa.int64())]
        + [
            (name, pa.int32() if isinstance(value, int) else pa.string())
            for name, value in standard.items()
        ]
    )
    rows = [{"row": n} | standard | line for n, line in enumerate(lines)]
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def read(path: Path) -> list[Verdict]:
    rows: list[Verdict] = pq.read_table(path).to_pylist()
    return rows


@pytest.fixture
def judge(tmp_path: Path) -> Judge:
    """Writes the verdicts of some lines, and reads them back."""

    def judged(
        *lines: Line,
        contract: Contract = CONTRACT,
        checks: UserChecks | None = None,
        source: dict[str, list[Any]] | None = None,
    ) -> list[Verdict]:
        write_results(tmp_path / "results.parquet", list(lines))
        if source is not None:
            pq.write_table(pa.table(source), tmp_path / "source.parquet")
        write_verdicts(
            duckdb.connect(),
            tmp_path / "results.parquet",
            tmp_path / "source.parquet",
            contract,
            checks,
            tmp_path / "verdicts.parquet",
        )
        return read(tmp_path / "verdicts.parquet")

    return judged


@pytest.fixture
def checks(tmp_path: Path) -> Callable[[str], UserChecks]:
    def loaded(schema: str) -> UserChecks:
        (tmp_path / "my_checks.py").write_text(
            f"import pandas as pd\nimport pandera.pandas as pa\nOwn = pa.DataFrameSchema({schema})\n"
        )
        return load_checks("my_checks:Own", tmp_path)

    return loaded


def test_a_valid_answer_is_kept_typed_with_where_it_came_from(judge: Judge) -> None:
    (verdict,) = judge({"answer": answer(), "tier": 1, "attempt": 2})
    assert verdict == {
        "row": 0,
        "chunk_id": "chunk",
        "tier": 1,
        "attempt": 2,
        "sending": 3,
        "outcome": "valid",
        "reason": None,
        "fields": GOOD,
    }


def test_the_columns_have_the_types_that_others_read(tmp_path: Path, judge: Judge) -> None:
    judge({"answer": answer()})
    described = duckdb.execute(
        "DESCRIBE FROM read_parquet(?)", [str(tmp_path / "verdicts.parquet")]
    ).fetchall()
    assert {name: kind for name, kind, *_ in described} == {
        "row": "BIGINT",
        "chunk_id": "VARCHAR",
        "tier": "INTEGER",
        "attempt": "INTEGER",
        "sending": "INTEGER",
        "outcome": "VARCHAR",
        "reason": "VARCHAR",
        "fields": "STRUCT(category VARCHAR, urgency BIGINT, summary VARCHAR, score DOUBLE,"
        " tags VARCHAR[], open BOOLEAN)",
    }


@pytest.mark.parametrize(
    ("line", "outcome", "reason"),
    [
        ({"stop_reason": "end_turn"}, "valid", None),
        ({"stop_reason": "stop_sequence"}, "valid", None),
        ({"stop_reason": None}, "valid", None),
        ({"stop_reason": "refusal"}, "refusal", "refusal"),
        ({"stop_reason": "max_tokens"}, "truncated", "truncated:max_tokens"),
        (
            {"stop_reason": "model_context_window_exceeded"},
            "truncated",
            "truncated:model_context_window_exceeded",
        ),
        ({"stop_reason": "tool_use"}, "contract_broken", "stop_reason:tool_use"),
        ({"stop_reason": "pause_turn"}, "contract_broken", "stop_reason:pause_turn"),
        ({"stop_reason": "new_thing"}, "contract_broken", "stop_reason:new_thing"),
        ({"stop_reason": SECRET}, "contract_broken", "stop_reason:other"),
        (
            {"result": "errored", "error_type": "invalid_request_error"},
            "invalid_request",
            "invalid_request",
        ),
        ({"result": "errored", "error_type": "api_error"}, "errored", "errored:api_error"),
        ({"result": "errored", "error_type": None}, "errored", "errored:unknown"),
        ({"result": "errored", "error_type": SECRET}, "errored", "errored:other"),
        ({"result": "expired"}, "expired", "expired"),
        ({"result": "canceled"}, "canceled", "canceled"),
        ({"result": "absent"}, "absent", "absent"),
        ({"result": "gone"}, "results_gone", "results_gone"),
        ({"result": "weird"}, "errored", "unknown_result"),
        ({"result": None}, "errored", "unknown_result"),
    ],
)
def test_what_came_back_decides_the_outcome_and_its_reason(
    judge: Judge, line: Line, outcome: str, reason: str | None
) -> None:
    """Even a good answer counts only from a request that ended by itself."""
    (verdict,) = judge({"answer": answer(), **line})
    assert (verdict["outcome"], verdict["reason"]) == (outcome, reason)
    assert verdict["fields"] == (GOOD if outcome == "valid" else None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (None, "not_json"),
        ("", "not_json"),
        (" \n", "not_json"),
        ("Sure! Here it is.", "not_json"),
        (f"```json\n{answer()}\n```", "not_json"),
        (f"{answer()} Hope that helps", "not_json"),
        (f"{answer()}{answer()}", "not_json"),
        (answer()[:-1], "not_json"),
        (answer()[:-1] + ",}", "not_json"),
        (raw("tags", '["a",]'), "not_json"),
        (raw("score", "NaN"), "not_json"),
        (raw("score", "-Infinity"), "not_json"),
        (raw("summary", r'"\ud800"'), "not_json"),
        (raw("summary", r'"\q"'), "not_json"),
        (raw("summary", '"a\nb"'), "not_json"),
        (answer().replace('"', "'"), "not_json"),
        (f"\ufeff{answer()}", "not_json"),
        (f"{answer()}\0", "not_json"),
        ("[" * 100_000, "not_json"),
        ("[" * 100_000 + "]" * 100_000, "not_object"),
        (f"[{answer()}]", "not_object"),
        (json.dumps(answer()), "not_object"),
        ("null", "not_object"),
        ("{}", "missing:category"),
        (json.dumps({k: v for k, v in GOOD.items() if k != "score"}), "missing:score"),
        (json.dumps({("Open" if k == "open" else k): v for k, v in GOOD.items()}), "missing:open"),
        (answer(more=1), "unexpected_field"),
        (answer()[:-1] + ', "open": false}', "duplicate_field"),
        (answer()[:-1] + r', "\u006fpen": true}', "duplicate_field"),
        (answer(category=None), "wrong_type:category"),
        (answer(category=1), "wrong_type:category"),
        (answer(category="other"), "unknown_label:category"),
        (answer(category=""), "unknown_label:category"),
        (answer(category="how to"), "unknown_label:category"),
        (answer(urgency="2"), "wrong_type:urgency"),
        (answer(urgency=True), "wrong_type:urgency"),
        (answer(urgency=None), "wrong_type:urgency"),
        (answer(urgency=2.5), "wrong_type:urgency"),
        (answer(urgency=[2]), "wrong_type:urgency"),
        (answer(urgency=0), "out_of_range:urgency"),
        (answer(urgency=10), "out_of_range:urgency"),
        (answer(urgency=10**30), "out_of_range:urgency"),
        (raw("urgency", "1e999"), "out_of_range:urgency"),
        (raw("urgency", "9" * 5_000), "out_of_range:urgency"),
        (answer(urgency=3), "not_multiple:urgency"),
        (answer(summary=""), "too_short:summary"),
        (answer(summary="x" * 21), "too_long:summary"),
        (answer(summary="x" * 1_000_000), "too_long:summary"),
        (answer(summary="a\nb"), "pattern:summary"),
        (answer(summary={"text": "x"}), "wrong_type:summary"),
        (raw("summary", "[" * 50_000 + "]" * 50_000), "wrong_type:summary"),
        (answer(score=0), "out_of_range:score"),
        (answer(score="0.5"), "wrong_type:score"),
        (raw("score", "1e400"), "out_of_range:score"),
        (answer(tags="a"), "wrong_type:tags"),
        (answer(tags=None), "wrong_type:tags"),
        (answer(tags=[]), "too_short:tags"),
        (answer(tags=["a", "b", "c"]), "too_long:tags"),
        (answer(tags=["a", "a"]), "repeated:tags"),
        (answer(tags=["a", 1]), "items:tags"),
        (answer(tags=["a", None]), "items:tags"),
        (answer(tags=["a", "bcdef"]), "items:tags"),
        (answer(tags=["a", ["b"]]), "items:tags"),
        (answer(open="true"), "wrong_type:open"),
        (answer(open=1), "wrong_type:open"),
    ],
)
def test_an_answer_that_breaks_the_contract_has_a_reason(
    judge: Judge, text: str | None, reason: str
) -> None:
    before, verdict, after = judge({"answer": answer()}, {"answer": text}, {"answer": answer()})
    assert (verdict["outcome"], verdict["reason"]) == ("contract_broken", reason)
    assert verdict["fields"] is None
    assert before["outcome"] == after["outcome"] == "valid"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (answer(category="BILLING"), {"category": "billing"}),
        (answer(category=" mixed case "), {"category": "Mixed Case"}),
        (answer(urgency=4.0), {"urgency": 4}),
        (raw("urgency", "0.4e1"), {"urgency": 4}),
        (answer(score=None), {"score": None}),
        (answer(score=3), {"score": 3.0}),
        (raw("score", "123456789012345678901234567890"), {"score": 1.2345678901234568e29}),
        (answer(summary='a, ] NaN inf \\ " }'), {"summary": 'a, ] NaN inf \\ " }'}),
        (raw("summary", r'"a\u0000b"'), {"summary": "a\0b"}),
        (answer(summary="é😀" * 10), {"summary": "é😀" * 10}),
        (f"\n {answer()}\t", {}),
        (json.dumps(dict(reversed(GOOD.items()))), {}),
    ],
)
def test_an_answer_that_means_a_valid_one_is_kept_as_declared(
    judge: Judge, text: str, kept: dict[str, Any]
) -> None:
    (verdict,) = judge({"answer": text})
    assert verdict["fields"] == GOOD | kept


def test_the_first_field_as_declared_gives_the_reason(judge: Judge) -> None:
    first, second, third = judge(
        {"answer": answer(urgency="x", summary="", open=None, more=1)},
        {"answer": answer(summary="", open=None, more=1)},
        {"answer": answer(tags=["bcdef", "bcdef", "bcdef"], open=None)},
    )
    assert first["reason"] == "wrong_type:urgency"
    assert second["reason"] == "too_short:summary"
    assert third["reason"] == "too_long:tags"


def test_whole_numbers_keep_all_their_digits(judge: Judge) -> None:
    contract = Contract.from_declaration({"n": {"type": ["integer", "null"]}})
    numbers = [2**63 - 1, -(2**63), 2**53 + 1, None]
    found = judge(*({"answer": json.dumps({"n": n})} for n in numbers), contract=contract)
    assert [each["fields"]["n"] for each in found] == numbers


def test_no_rows_make_an_empty_file_with_the_same_columns(judge: Judge, tmp_path: Path) -> None:
    judge({"answer": answer()})
    full = pq.read_schema(tmp_path / "verdicts.parquet")
    assert judge() == []
    assert pq.read_schema(tmp_path / "verdicts.parquet").equals(full)


def test_long_answers_are_judged_in_smaller_parts(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verdicts, "PART_BYTES", 3 * len(answer()))
    found = judge(*({"answer": answer() if row % 3 else "x" * 500} for row in range(20)))
    assert [each["row"] for each in found] == list(range(20))
    assert [each["outcome"] == "valid" for each in found] == [row % 3 > 0 for row in range(20)]


def test_more_rows_than_one_part_are_all_judged(tmp_path: Path) -> None:
    rows = PART_ROWS * 2 + 7
    duckdb.execute(
        f"""COPY (SELECT range AS row, 'c' AS chunk_id, 0 AS tier, 1 AS attempt, 1 AS sending,
                  'succeeded' AS result, 'end_turn' AS stop_reason, NULL::VARCHAR AS error_type,
                  '{{"n": ' || range || '}}' AS answer FROM range({rows}))
            TO '{tmp_path / "results.parquet"}' (FORMAT parquet)"""
    )
    contract = Contract.from_declaration({"n": {"type": "integer", "maximum": rows - 3}})
    to = tmp_path / "verdicts.parquet"
    write_verdicts(
        duckdb.connect(), tmp_path / "results.parquet", tmp_path / "no", contract, None, to
    )
    found = duckdb.execute(
        "SELECT count(*), count(DISTINCT row), count(*) FILTER (fields.n = row),"
        " list(row) FILTER (outcome <> 'valid') FROM read_parquet(?)",
        [str(to)],
    ).fetchone()
    assert found == (rows, rows, rows - 2, [rows - 2, rows - 1])


def test_paths_that_look_like_patterns_are_taken_as_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "a[b]*?'c"
    folder.mkdir()
    write_results(folder / "r[1].parquet", [{"answer": answer()}])
    write_results(folder / "r1.parquet", [{"answer": "x"}])
    to = folder / "v[1].parquet"
    write_verdicts(duckdb.connect(), folder / "r[1].parquet", folder / "no", CONTRACT, None, to)
    assert [each["outcome"] for each in read(to)] == ["valid"]


JSON_PARTS = st.sampled_from(
    [
        *'{}[]",:0-9.eE+- \\\n',
        "true",
        "null",
        "NaN",
        "Inf",
        "\\u0000",
        "\\ud800",
        "/*",
        "1e9",
        '"n"',
    ]
)
broken_json = st.builds(
    lambda text, at, part: text[: at % (len(text) + 1)] + part + text[at % (len(text) + 1) + 1 :],
    st.sampled_from(
        ['{"n": 1, "t": "a"}', '{"t": "x,}", "n": -2.5e0}', '{"n": 0, "t": ["a", {}]}']
    ),
    st.integers(0, 40),
    JSON_PARTS,
)
texts = st.one_of(st.none(), st.text(max_size=30), broken_json, st.lists(JSON_PARTS).map("".join))


def strictly_json(text: str) -> bool:
    """What the JSON standard takes, told by Python's reader with its leniences taken away."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        json.dumps(json.loads(text, parse_constant=refuse), ensure_ascii=False).encode()
    except ValueError:
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(answers=st.lists(texts, min_size=1, max_size=40))
def test_any_text_gets_exactly_one_verdict_and_none_stops_the_work(
    tmp_path_factory: pytest.TempPathFactory, answers: list[str | None]
) -> None:
    """And `not_json` is said of just what is not JSON."""
    folder = tmp_path_factory.mktemp("any")
    write_results(folder / "results.parquet", [{"answer": each} for each in answers])
    contract = Contract.from_declaration({"n": {"type": "number"}, "t": {"type": "string"}})
    to = folder / "verdicts.parquet"
    write_verdicts(duckdb.connect(), folder / "results.parquet", folder / "no", contract, None, to)
    found = read(to)
    assert [each["row"] for each in found] == list(range(len(answers)))
    for text, verdict in zip(answers, found, strict=True):
        assert verdict["outcome"] in ("valid", "contract_broken")
        assert (verdict["fields"] is None) == (verdict["outcome"] != "valid")
        assert (verdict["reason"] == "not_json") == (not strictly_json(text or "")), text


def test_users_checks_judge_rows_that_meet_the_contract(
    judge: Judge, checks: Callable[[str], UserChecks]
) -> None:
    own = checks("{'urgency': pa.Column(int, pa.Check.lt(6)), 'tags': pa.Column(list[str])}")
    found = judge(
        {"answer": answer(urgency=4)},
        {"answer": "x"},
        {"answer": answer(urgency=6)},
        {"result": "expired"},
        {"answer": answer(urgency=10)},
        checks=own,
        source={"_row": [0]},
    )
    assert [each["reason"] for each in found] == [
        None,
        "not_json",
        "check:urgency:less_than",
        "expired",
        "out_of_range:urgency",
    ]


def test_users_checks_see_the_sources_columns_that_they_name(
    judge: Judge, checks: Callable[[str], UserChecks]
) -> None:
    own = checks(
        "{'row': pa.Column(str), 'seats': pa.Column(int)}, checks=pa.Check("
        "lambda f: (f['row'] != 'free') | (f['urgency'] <= f['seats']), name='fair')"
    )
    found = judge(
        *({"row": row, "answer": answer(urgency=4)} for row in (1, 2, 3)),
        checks=own,
        source={
            "_row": [3, 2, 1, 0],
            "row": ["free", "pro", "free", "free"],
            "seats": pa.array([3, 1, None, 0], pa.int32()),
            "category": ["not", "the", "answer's", "column"],
        },
    )
    assert [each["reason"] for each in found] == ["check:seats:not_nullable", None, "check:fair"]


def test_a_check_on_a_column_that_nobody_has_is_refused(
    judge: Judge, checks: Callable[[str], UserChecks]
) -> None:
    with pytest.raises(ConfigurationError, match="column 'plam' is neither"):
        judge({"answer": answer()}, checks=checks("{'plam': pa.Column(str)}"), source={"_row": [0]})


@pytest.mark.parametrize(
    "check",
    [
        "pa.Check(lambda s: s.map(int) > 0, name='odd')",
        "pa.Check(lambda s: s.nunique() > 2, name='odd')",
    ],
)
def test_a_check_that_cannot_judge_leaves_nothing_behind(
    judge: Judge, checks: Callable[[str], UserChecks], tmp_path: Path, check: str
) -> None:
    own = checks(f"{{'summary': pa.Column(str, {check})}}")
    before = set(tmp_path.iterdir())
    with pytest.raises(ConfigurationError, match="summary:odd"):
        judge({"answer": answer()}, checks=own, source={"_row": [0]})
    made = {path.name for path in set(tmp_path.iterdir()) - before}
    assert made == {"results.parquet", "source.parquet"}


def test_a_file_that_was_there_stays_whole_when_the_work_fails(
    judge: Judge, checks: Callable[[str], UserChecks], tmp_path: Path
) -> None:
    judge({"answer": answer()})
    before = (tmp_path / "verdicts.parquet").read_bytes()
    with pytest.raises(ConfigurationError):
        judge(
            {"answer": answer()},
            checks=checks("{'summary': pa.Column(int)}"),
            source={"_row": [0]},
        )
    assert (tmp_path / "verdicts.parquet").read_bytes() == before


def test_row_text_appears_in_no_reason_log_or_file(
    judge: Judge,
    checks: Callable[[str], UserChecks],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    caplog.set_level(logging.DEBUG)
    own = checks(
        "{'summary': pa.Column(str, pa.Check(lambda s: s != 'row text', name='not_that'))}"
    )
    judge(
        {"answer": SECRET},
        {"answer": answer(category=SECRET)},
        {"answer": answer(summary=SECRET)},
        {"answer": answer(**{SECRET: 1})},
        {"answer": answer(summary="row text")},
        {"answer": answer(), "stop_reason": SECRET},
        checks=own,
        source={"_row": [0]},
    )
    said = caplog.text + "".join(capfd.readouterr()) + "".join(str(w.message) for w in recwarn)
    assert "row text" not in said
    assert b"row text" not in (tmp_path / "verdicts.parquet").read_bytes()
    assert not any("row text" in str(each) for each in read(tmp_path / "verdicts.parquet"))


def test_reasons_are_counted_over_files(judge: Judge, tmp_path: Path) -> None:
    judge({"answer": answer()}, {"answer": answer()}, {"answer": "x"})
    first = (tmp_path / "verdicts.parquet").rename(tmp_path / "first.parquet")
    judge({"answer": "x"}, {"result": "expired"}, {"answer": answer()})
    counted = count_reasons(duckdb.connect(), [first, tmp_path / "verdicts.parquet"])
    assert counted == [
        ("valid", "", 3),
        ("contract_broken", "not_json", 2),
        ("expired", "expired", 1),
    ]
    assert count_reasons(duckdb.connect(), []) == []


def test_examples_of_failures_are_keys_of_as_many_reasons_as_there_are(
    judge: Judge, tmp_path: Path
) -> None:
    judge(
        *({"answer": "x", "tier": 1} for _ in range(4)),
        {"answer": answer()},
        {"result": "expired"},
        source={"_row": list(range(6)), "_key": [f"T-{n}" for n in range(6)], "id": list(range(6))},
    )
    files = [tmp_path / "verdicts.parquet"], tmp_path / "source.parquet"
    assert example_failures(duckdb.connect(), *files, limit=3) == [
        {"key": "T-0", "tier": 1, "outcome": "contract_broken", "reason": "not_json"},
        {"key": "T-5", "tier": 0, "outcome": "expired", "reason": "expired"},
        {"key": "T-1", "tier": 1, "outcome": "contract_broken", "reason": "not_json"},
    ]
    assert example_failures(duckdb.connect(), *files, "id", 1)[0]["key"] == "0"
    assert example_failures(duckdb.connect(), [], files[1]) == []
