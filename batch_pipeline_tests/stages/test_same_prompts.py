"""Rows with the same prompt: which they are, and that one request answers them all."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.errors import PipelineError
from batch_pipeline.ledger import Ledger
from batch_pipeline.measure.rates import Rate
from batch_pipeline.rows import LoadFolder, Place
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.same_prompts import prompt_digests
from batch_pipeline.stages.scorecard import Scorecard, measure_load
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline.workload.prompt import Prompt
from batch_pipeline_tests.night import HAIKU, SONNET, Night, account_of, rows, simulator_for
from batch_pipeline_tests.stages.watching import Final, Watch, finals, rows_of, sendings

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]


def repeated(*texts: int) -> list[dict[str, str]]:
    """A source row for each number, with the text of the night's row of that number."""
    known = rows(max(texts) + 1)
    return [
        {"id": f"k{n}", "text": known[text]["text"], "place": f"p{n}"}
        for n, text in enumerate(texts)
    ]


def answers(night: Night) -> dict[str, str]:
    night.publish(override_reason="the answers are looked at")
    folder = night.context.folder(night.context.record())
    return dict(rows_of(folder.promoted, "id, label"))


# Which prompts are the same


@pytest.fixture(scope="module")
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        yield opened


def digests(
    connection: duckdb.DuckDBPyConnection, folder: Path, prompt: Prompt, **columns: Any
) -> list[bytes | None]:
    """Of rows with these columns, in order."""
    count = len(next(iter(columns.values())))
    source = {
        "_row": pa.array(range(count), pa.int64()),
        "_golden": pa.array([False] * count),
        "_key": pa.array([f"k{n}" for n in range(count)]),
        **columns,
    }
    load = LoadFolder(folder, folder)
    pq.write_table(pa.table(source), load.source)
    load.prompts.unlink(missing_ok=True)
    path = prompt_digests(connection, load, prompt)
    return [digest for _, digest in rows_of(path, "row, digest")]


TEXTS = st.none() | st.text(st.sampled_from("ab \\'\"\x00|\x1f{}é\U0001f600"), max_size=4)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=12),
    st.sampled_from(
        [
            "{{x}}{{y}}",
            "{{ x }} {{ y }}",
            "it's \\ {{ x }}|{{ y }}",
            "{{ row['x'] }}\n{{ row['y'] }}",
            "{% if x %}{{ x }}{% endif %}{{ y }}",
        ]
    ),
)
def test_digests_are_those_of_the_rendered_prompt(
    connection: duckdb.DuckDBPyConnection,
    tmp_path: Path,
    found: list[tuple[str | None, str | None]],
    template: str,
) -> None:
    prompt = Prompt(None, template, "none")
    x, y = ([each[n] for each in found] for n in range(2))
    columns = {"x": pa.array(x, pa.string()), "y": pa.array(y, pa.string())}
    assert digests(connection, tmp_path, prompt, **columns) == [
        hashlib.sha256(prompt.render({"x": a, "y": b}).encode()).digest() for a, b in found
    ]


def test_where_one_column_ends_and_the_next_begins_does_not_matter(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    columns = {"x": ["a", "ab"], "y": ["bc", "c"]}
    together = digests(connection, tmp_path, Prompt(None, "{{x}}{{y}}", "none"), **columns)
    apart = digests(connection, tmp_path, Prompt(None, "{{x}} {{y}}", "none"), **columns)
    assert together[0] == together[1]
    assert apart[0] != apart[1]


def test_columns_that_are_no_text_are_told_apart_as_the_prompt_writes_them(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """DuckDB writes true where the prompt says True, and 1e22 where it says 1e+22."""
    prompt = Prompt(None, "{{ text }}{{ flag }}{{ size }}", "none")
    text, flag, size = ["true", "", "True"], [None, True, None], [1e22, 1e22, 1e22]
    first, second, third = digests(
        connection, tmp_path, prompt, text=text, flag=pa.array(flag, pa.bool_()), size=size
    )
    assert first != second
    assert second == third


def test_numbers_are_digested_without_being_rendered_row_by_row(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    prompt = Prompt(None, "{{ a }}{{ b }}", "none")
    same, other, alike = digests(connection, tmp_path, prompt, a=[1, 2, 12], b=[23, 3, 3])
    assert same == alike == hashlib.sha256(b"123").digest()
    assert other != same


def test_a_system_text_that_varies_is_part_of_the_prompt(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    prompt = Prompt("For {{ who }}", "{{ text }}", "none")
    columns = {"who": ["a", "b", "a", "a1"], "text": ["1x", "1x", "1x", "x"]}
    first, second, third, fourth = digests(connection, tmp_path, prompt, **columns)
    assert first == third
    assert len({first, second, fourth}) == 3


def test_a_row_that_no_prompt_can_be_made_of_is_like_no_other(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    prompt = Prompt(None, "{{ 1 // n }}", "none")
    assert digests(connection, tmp_path, prompt, n=[0, 0, 1])[:2] == [None, None]


# What is sent


def test_rows_that_ask_the_same_are_one_request_and_share_its_answer(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator, watch = simulate(), Watch()
    n = night(source=repeated(0, 1, 0, 2, 1, 0))
    read_source(n.context)
    send_pending(n.context, watch)
    card = n.settle()
    assert (card.requests, card.results["succeeded"]) == (3 + 5, 3 + 5)
    assert (card.dispositions["validated"], card.asked_once, card.reused) == (6, 3, 0)
    assert answers(n) == {
        "k0": "billing",
        "k1": "bug",
        "k2": "billing",
        "k3": "how_to",
        "k4": "bug",
        "k5": "billing",
    }
    assert Counter(account_of(simulator)["params_billed"]) == {"1": 8}


def test_a_golden_row_is_asked_by_itself_whoever_asks_the_same(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    [golden] = rows(1, start=100_000)
    n = night(golden=1, source=[{"id": f"k{i}", "text": golden["text"]} for i in range(3)])
    card = n.settle()
    assert (card.requests, card.asked_once) == (2, 2)
    assert card.golden is not None
    assert card.golden.n == 1


def test_a_workload_can_ask_for_every_row_by_itself(simulate: Simulate, night: MakeNight) -> None:
    simulate()
    n = night(source=repeated(0, 0, 0), golden=0, dedupe=False)
    card = n.settle()
    assert (card.requests, card.asked_once) == (3, 0)


def test_passengers_go_in_their_carriers_chunk_however_chunks_are_cut(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    n = night(source=repeated(0, 1, 2, 2, 1, 0), golden=0, limits={"max_requests": 1})
    card = n.settle()
    assert (card.batches, card.requests) == (3, 3)
    assert all(len(sent) == 1 for sent in sendings(n).values())


def test_each_row_is_judged_by_itself_and_one_that_fails_alone_climbs_alone(
    simulate: Simulate, night: MakeNight, tmp_path: Path
) -> None:
    simulate()
    folder = tmp_path / "workloads" / "questions"
    folder.mkdir(parents=True)
    (folder / "my_checks.py").write_text(
        "import pandera.pandas as pa\n"
        "Frame = pa.DataFrameSchema({'place': pa.Column(str, pa.Check(lambda c: c != 'p1', name='not_p1'))})\n"
    )
    n = night(source=repeated(0, 0, 0), golden=0, checks="my_checks:Frame")
    card = n.settle()
    assert sendings(n) == {"k0": [(0, 1)], "k1": [(0, 1), (1, 1)], "k2": [(0, 1)]}
    assert finals(n)["k1"] == Final("human_review", "check:place:not_p1", 1, 2)
    assert card.dispositions == {"validated": 2, "quarantined": 0, "human_review": 1}
    validity = card.rates["validity"]
    assert (validity.numerator, validity.denominator) == (2, 3)
    escalation = card.rates["escalation_rate"]
    assert (escalation.numerator, escalation.denominator) == (1, 3)


def test_what_the_api_fails_is_sent_again_together(simulate: Simulate, night: MakeNight) -> None:
    simulate(rows=[{"contains": "number 0 of", "fault": "server_error", "times": 1}])
    n = night(source=repeated(0, 0, 1), golden=0)
    card = n.settle()
    assert card.requests == 3
    assert sendings(n) == {"k0": [(0, 1), (0, 2)], "k1": [(0, 1), (0, 2)], "k2": [(0, 1)]}
    assert card.rates["errored_rate"].numerator == 1


@pytest.mark.parametrize(
    ("reason", "changes"),
    [
        ("request_too_large", {"limits": {"max_bytes": 1_000}}),
        (
            "template_failed",
            {"prompt": {"user": "{{ text }}{% if 'xx' in text %}{{ 1 // 0 }}{% endif %}"}},
        ),
    ],
)
def test_rows_of_which_no_request_can_be_made_share_that_fate(
    simulate: Simulate, night: MakeNight, reason: str, changes: dict[str, Any]
) -> None:
    simulate()
    long = [{"id": f"x{i}", "text": "x" * 2_000, "place": "-"} for i in range(2)]
    n = night(source=[*long, *repeated(0)], golden=0, **changes)
    n.settle()
    ended = finals(n)
    assert ended["x0"] == ended["x1"] == Final("quarantined", reason, 0, 1)
    assert ended["k0"].disposition == "validated"


def test_rows_travel_with_the_pilots_and_are_not_paid_again(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    n = night(source=repeated(0, 0, 0, 0, 0, 0), golden=0, pilot={"rows": 2})
    n.submit()
    assert [len(sent) for sent in sendings(n).values()] == [1] * 6
    card = n.settle()
    assert (card.requests, card.dispositions["validated"]) == (1, 6)


def test_a_source_that_is_read_again_is_compared_anew(simulate: Simulate, night: MakeNight) -> None:
    simulate(calls=[{"on": "create", "fault": "status", "status": 400, "nth": 1}])
    n = night(source=repeated(0, 0), golden=0)
    with pytest.raises(PipelineError, match="not accepted"):
        n.submit()
    n = night(source=repeated(0, 1), golden=0)
    n.submit()
    assert n.settle().requests == 2


def test_a_crash_before_the_intent_leaves_carrier_and_passengers_due(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate()
    n = night(source=repeated(0, 0, 1), golden=0)
    read_source(n.context)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Ledger, "record_intent", _die)
        send_pending(n.context, BatchesApi)
    folder = n.context.folder(n.context.record())
    left: list[Place] = list(folder.sent("x").parent.glob("*.parquet"))
    assert len(left) == 1
    card = n.settle()
    assert not left[0].exists()
    assert (card.requests, card.dispositions["validated"]) == (2, 3)


def _die(*_: object) -> None:
    raise KeyboardInterrupt


# The same answers as without it

# What becomes of the n-th text at each tier, always.
FAULTS: list[tuple[str | None, str | None]] = [
    (None, None),
    ("not_json", None),
    ("refusal", "not_json"),
    ("server_error", None),
    ("truncated", "expired"),
    ("invalid_request", None),
    ("absent", None),
]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    rules = [
        {"contains": f"number {n} of", "model": model, "fault": fault}
        for n, faults in enumerate(FAULTS)
        for model, fault in zip((HAIKU, SONNET), faults, strict=True)
        if fault is not None
    ]
    with simulator_for(tmp_path_factory.mktemp("faulty"), rows=rules, redraw=0.0) as simulator:
        yield simulator


@settings(
    max_examples=2, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, len(FAULTS) - 1), min_size=8, max_size=20))
def test_dispositions_and_answers_are_those_of_rows_asked_one_by_one(
    faulty: Simulator, tmp_path_factory: pytest.TempPathFactory, texts: list[int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ANTHROPIC_BASE_URL", faulty.base_url)
        patch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.1")
        ended: list[tuple[dict[str, Final], dict[str, str]]] = []
        cards: list[Scorecard] = []
        for dedupe in (True, False):
            folder = tmp_path_factory.mktemp("night")
            patch.setenv("BATCH_PIPELINE_STATE", str(folder / "state"))
            before = _spent(faulty)
            n = Night.make(
                folder, source=repeated(*texts), golden=0, dedupe=dedupe, limits={"attempts": 2}
            )
            card = n.settle()
            assert card.spend is not None
            assert Counter(card.spend.tokens) == _spent(faulty) - before
            ended.append((finals(n), _valid(n)))
            cards.append(measure_load(n.context))
    assert ended[0] == ended[1]
    assert cards[0].dispositions == cards[1].dispositions
    assert cards[0].rates["escalation_rate"] == cards[1].rates["escalation_rate"]
    assert cards[0].requests == sum(_requests(text) for text in set(texts))
    assert cards[1].requests == sum(_requests(text) for text in texts)


def _requests(text: int) -> int:
    """How often a text is sent, by what becomes of it: two attempts where the API fails, else a tier up."""
    first, second = FAULTS[text]
    if first in ("server_error", "absent"):
        return 2
    if first in (None, "invalid_request"):
        return 1
    return 3 if second == "expired" else 2


def _spent(simulator: Simulator) -> Counter[str]:
    names = {"cache_write_5m": "cache_creation_5m", "cache_write_1h": "cache_creation_1h"}
    total: Counter[str] = Counter()
    for tokens in account_of(simulator)["tokens"].values():
        total.update(tokens)
    return Counter({names.get(kind, kind): n for kind, n in total.items() if n})


def _valid(night: Night) -> dict[str, str]:
    record = night.context.record()
    folder = night.context.folder(record)
    verdicts: list[Place] = list(folder.verdicts("x").parent.glob("*.parquet"))
    keys = dict(rows_of(folder.source, "_row, _key"))
    return {
        keys[row]: label
        for row, label in rows_of(list(verdicts), "row, fields.label", "outcome = 'valid'")
    }


def test_a_gate_decides_the_same_whether_duplicates_are_asked_once_or_each(
    simulate: Simulate, night: MakeNight
) -> None:
    """Nine of ten rows ask the same, and its answer is broken."""
    simulate(rows=[{"fault": "unknown_label", "contains": "number 0 of"}])
    for day, dedupe in (("2026-11-19", True), ("2026-11-20", False)):
        n = night(
            source=repeated(*[0] * 18, 1, 2),
            golden=0,
            day=day,
            dedupe=dedupe,
            gates={"min_validity": 0.95},
            tiers=[{"model": HAIKU, "max_tokens": 64}],
        )
        card = n.settle()
        assert card.rates["validity"] == Rate(2, 20)
        assert card.gate is not None and not card.gate.promote


def test_a_row_that_shared_two_answers_is_one_row_that_was_asked_once(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(rows=[{"fault": "unknown_label", "model": HAIKU}])
    n = night(source=repeated(*[0] * 10), golden=0)
    card = n.settle()
    assert card.requests == 2
    assert card.asked_once == 9
    assert card.savings is not None
    assert card.savings.asked_once_rows == 9
    prices = card.spend.usd_by_tier if card.spend else {}
    assert float(card.savings.asked_once_usd) == pytest.approx(9 * (prices[0] + prices[1]))
