"""What becomes of a row, outcome by outcome, with one, two and three tiers.

A night costs a second, so all faults of a table ride in one: the n-th row meets the n-th fault.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.states import POLICY
from batch_pipeline_tests.night import HAIKU, OPUS, SONNET, Night, rows, simulator_for
from batch_pipeline_tests.stages.watching import Final, accepted, finals, paid_twice, sendings

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

TIERS = [
    {"model": HAIKU, "max_tokens": 64},
    {"model": SONNET, "max_tokens": 128},
    {"model": OPUS, "max_tokens": 256},
]
OUTPUT: dict[str, Any] = {
    "label": {"type": "string", "enum": ["billing", "bug", "how_to"]},
    "urgency": {"type": "integer", "minimum": 1, "maximum": 5},
}
# A fault, and the reason that a row ends with when it meets it every time.
CLIMBING = {
    "not_json": "not_json",
    "wrong_type": "wrong_type:",
    "unknown_label": "",
    "out_of_range": "",
    "missing_field": "missing:",
    "extra_field": "unexpected_field",
    "refusal": "refusal",
    "refusal_midway": "refusal",
    "truncated": "truncated:max_tokens",
    "context_exceeded": "truncated:model_context_window_exceeded",
    "pause_turn": "stop_reason:pause_turn",
}
REPEATED = {
    "server_error": "errored:api_error",
    "overloaded": "errored:overloaded_error",
    "rate_limit": "errored:rate_limit_error",
    "expired": "expired",
    "canceled": "canceled",
    "absent": "absent",
    "unparseable": "absent",
}
AT_ONCE = {"invalid_request": "invalid_request"}


FAULTS = [*CLIMBING, *REPEATED, *AT_ONCE]


@dataclass(frozen=True)
class Ended:
    """What became of each row of a night."""

    sendings: dict[str, list[tuple[int, int]]]
    finals: dict[str, Final]

    def of(self, fault: str) -> tuple[list[tuple[int, int]], Final]:
        key = f"r{FAULTS.index(fault):05}"
        return self.sendings[key], self.finals[key]


EndOf = Callable[..., Ended]


@pytest.fixture(scope="module")
def end_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EndOf]:
    """Drives a night in which the n-th row meets the n-th fault, every time or so often."""
    with pytest.MonkeyPatch.context() as patch:

        @cache
        def end(*, tiers: int, times: int | None = None, attempts: int = 2) -> Ended:
            folder: Path = tmp_path_factory.mktemp("policy")
            patch.setenv("ANTHROPIC_API_KEY", "test-key")
            patch.setenv("BATCH_PIPELINE_STATE", str(folder / "state"))
            rules = [
                {"contains": f"number {n} of", "fault": fault, "times": times}
                for n, fault in enumerate(FAULTS)
            ]
            with simulator_for(folder, rows=rules) as simulator:
                patch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
                night = Night.make(
                    folder,
                    count=len(FAULTS) + 1,
                    golden=0,
                    output=OUTPUT,
                    tiers=TIERS[:tiers],
                    limits={"attempts": attempts},
                )
                night.settle()
                return Ended(sendings(night), finals(night))

        yield end


@pytest.mark.parametrize("tiers", [1, 2, 3])
@pytest.mark.parametrize("fault", CLIMBING)
def test_an_answer_that_fails_climbs_tier_by_tier_to_human_review(
    end_of: EndOf, fault: str, tiers: int
) -> None:
    sent, final = end_of(tiers=tiers).of(fault)
    assert sent == [(tier, 1) for tier in range(tiers)]
    assert (final.disposition, final.tier, final.attempts) == ("human_review", tiers - 1, tiers)
    assert final.reason
    assert final.reason.startswith(CLIMBING[fault])


@pytest.mark.parametrize("tiers", [1, 2, 3])
@pytest.mark.parametrize("fault", REPEATED)
def test_a_row_that_the_api_fails_is_sent_to_the_same_tier_until_attempts_run_out(
    end_of: EndOf, fault: str, tiers: int
) -> None:
    sent, final = end_of(tiers=tiers).of(fault)
    assert sent == [(0, 1), (0, 2)]
    assert final == Final("quarantined", REPEATED[fault], 0, 2)


@pytest.mark.parametrize("tiers", [1, 2, 3])
@pytest.mark.parametrize("fault", AT_ONCE)
def test_a_request_that_can_never_succeed_is_quarantined_at_once(
    end_of: EndOf, fault: str, tiers: int
) -> None:
    sent, final = end_of(tiers=tiers).of(fault)
    assert sent == [(0, 1)]
    assert final == Final("quarantined", AT_ONCE[fault], 0, 1)


@pytest.mark.parametrize("tiers", [1, 2, 3])
def test_a_valid_answer_ends_it(end_of: EndOf, tiers: int) -> None:
    ended, key = end_of(tiers=tiers), f"r{len(FAULTS):05}"
    assert ended.sendings[key] == [(0, 1)]
    assert ended.finals[key] == Final("validated", None, 0, 1)


@pytest.mark.parametrize("attempts", [1, 2, 3])
@pytest.mark.parametrize("fault", REPEATED)
def test_attempts_are_limited_as_declared(end_of: EndOf, fault: str, attempts: int) -> None:
    sent, final = end_of(tiers=2, attempts=attempts).of(fault)
    assert sent == [(0, each) for each in range(1, attempts + 1)]
    assert final.attempts == attempts


@pytest.mark.parametrize("fault", [*REPEATED, *CLIMBING])
def test_a_row_that_succeeds_in_the_end_is_validated(end_of: EndOf, fault: str) -> None:
    sent, final = end_of(tiers=2, times=1).of(fault)
    again = fault in REPEATED
    assert sent == [(0, 1), (0, 2) if again else (1, 1)]
    assert final == Final("validated", None, 0 if again else 1, 2)


def load_of(night: MakeNight, tiers: int) -> Night:
    """Two rows, of which the tests let the first meet a fault."""
    return night(count=2, golden=0, output=OUTPUT, tiers=TIERS[:tiers], limits={"attempts": 2})


def every_time(fault: str) -> dict[str, Any]:
    return {"contains": "number 0 of", "fault": fault}


def test_attempts_are_counted_anew_at_each_tier(simulate: Simulate, night: MakeNight) -> None:
    simulate(
        rows=[
            {**every_time("server_error"), "model": HAIKU, "times": 1},
            {**every_time("refusal"), "model": HAIKU},
            {**every_time("expired"), "model": SONNET, "times": 1},
            {**every_time("not_json"), "model": SONNET},
            {**every_time("overloaded"), "model": OPUS},
        ]
    )
    n = load_of(night, 3)
    n.settle()
    assert sendings(n)["r00000"] == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2)]
    assert finals(n)["r00000"] == Final("quarantined", "errored:overloaded_error", 2, 6)


def test_a_request_refused_at_a_higher_tier_is_quarantined_there(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(
        rows=[
            {**every_time("refusal"), "model": HAIKU},
            {**every_time("invalid_request"), "model": SONNET},
        ]
    )
    n = load_of(night, 3)
    n.settle()
    assert finals(n)["r00000"] == Final("quarantined", "invalid_request", 1, 2)


def test_a_higher_tier_is_asked_with_its_own_parameters(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(rows=[{**every_time("truncated"), "model": HAIKU}])
    n = load_of(night, 2)
    n.settle()
    record = n.context.record()
    assert [(c.tier, c.model, c.wave) for c in n.ledger.chunks(record)] == [
        (0, HAIKU, 1),
        (1, SONNET, 2),
    ]
    assert n.publish().promotion.rows == 2


def test_golden_rows_climb_like_the_others(simulate: Simulate, night: MakeNight) -> None:
    simulate(
        rows=[
            {"contains": "number 100001 of", "model": HAIKU, "fault": "refusal"},
            {"contains": "number 100002 of", "fault": "not_json"},
            {"contains": "number 100003 of", "times": 1, "fault": "expired"},
            {"contains": "number 100004 of", "fault": "invalid_request"},
        ]
    )
    n = night()
    n.settle()
    assert finals(n, golden=True) == {
        "r100000": Final("validated", None, 0, 1),
        "r100001": Final("validated", None, 1, 2),
        "r100002": Final("human_review", "not_json", 1, 2),
        "r100003": Final("validated", None, 0, 2),
        "r100004": Final("quarantined", "invalid_request", 0, 1),
    }


def test_a_stormy_night_sends_each_row_just_as_often_as_the_policy_says(
    simulate: Simulate, night: MakeNight
) -> None:
    faults = {"not_json": 0.1, "refusal": 0.05, "server_error": 0.1, "expired": 0.1, "absent": 0.05}
    simulator = simulate(seed=5, models={"*": {**faults, "invalid_request": 0.03}})
    n = night(count=120, golden=10, tiers=TIERS, limits={"max_requests": 40})
    card = n.settle()
    ends = finals(n)
    assert set(ends) == {row["id"] for row in rows(120)}
    sent = sendings(n)
    for key, end in ends.items():
        steps = sent[key]
        assert end.attempts == len(steps)
        assert steps[0] == (0, 1)
        for (tier, attempt), after in pairwise(steps):
            assert after in ((tier, attempt + 1), (tier + 1, 1))
        if end.disposition == "human_review":
            assert steps[-1][0] == 2
        if end.disposition == "quarantined" and end.reason != "invalid_request":
            assert steps[-1][1] == 3
    assert sum(len(steps) for steps in sent.values()) == card.requests
    assert sum(b["requests"] for b in accepted(simulator)) == card.requests
    assert card.rates["coverage"].value == 1


def test_no_row_is_paid_twice_when_nothing_asks_for_it(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(models={"*": {"server_error": 0.2, "expired": 0.2, "not_json": 0.1}})
    night(count=60).settle()
    assert paid_twice(simulator) == 0


def test_every_outcome_has_a_policy() -> None:
    assert set(POLICY) == {
        "valid",
        "contract_broken",
        "refusal",
        "truncated",
        "invalid_request",
        "unsendable",
        "errored",
        "expired",
        "canceled",
        "absent",
        "results_gone",
    }
