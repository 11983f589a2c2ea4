"""What becomes of a row (DESIGN §6), outcome by outcome, with one, two and three tiers."""

from collections.abc import Callable
from typing import Any

import pytest

from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.states import POLICY
from batch_pipeline_tests.night import HAIKU, OPUS, SONNET, Night, rows
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


def load_of(night: MakeNight, tiers: int, attempts: int = 2) -> Night:
    """Two rows: the first meets the fault, the second is there to show that it is left alone."""
    return night(
        count=2, golden=0, output=OUTPUT, tiers=TIERS[:tiers], limits={"attempts": attempts}
    )


def every_time(fault: str) -> dict[str, Any]:
    return {"contains": "number 0 of", "fault": fault}


@pytest.mark.parametrize("tiers", [1, 2, 3])
@pytest.mark.parametrize("fault", CLIMBING)
def test_an_answer_that_fails_climbs_tier_by_tier_to_human_review(
    simulate: Simulate, night: MakeNight, fault: str, tiers: int
) -> None:
    simulate(rows=[every_time(fault)])
    n = load_of(night, tiers)
    n.settle()
    assert sendings(n) == {"r00000": [(tier, 1) for tier in range(tiers)], "r00001": [(0, 1)]}
    end = finals(n)["r00000"]
    assert (end.disposition, end.tier, end.attempts) == ("human_review", tiers - 1, tiers)
    assert end.reason
    assert end.reason.startswith(CLIMBING[fault])
    assert finals(n)["r00001"] == Final("validated", None, 0, 1)


@pytest.mark.parametrize("tiers", [1, 2])
@pytest.mark.parametrize("fault", REPEATED)
def test_a_row_that_the_api_fails_is_sent_to_the_same_tier_until_attempts_run_out(
    simulate: Simulate, night: MakeNight, fault: str, tiers: int
) -> None:
    simulate(rows=[every_time(fault)])
    n = load_of(night, tiers)
    n.settle()
    assert sendings(n) == {"r00000": [(0, 1), (0, 2)], "r00001": [(0, 1)]}
    assert finals(n)["r00000"] == Final("quarantined", REPEATED[fault], 0, 2)


@pytest.mark.parametrize("tiers", [1, 2, 3])
@pytest.mark.parametrize("fault", AT_ONCE)
def test_a_request_that_can_never_succeed_is_quarantined_at_once(
    simulate: Simulate, night: MakeNight, fault: str, tiers: int
) -> None:
    simulate(rows=[every_time(fault)])
    n = load_of(night, tiers)
    n.settle()
    assert sendings(n)["r00000"] == [(0, 1)]
    assert finals(n)["r00000"] == Final("quarantined", AT_ONCE[fault], 0, 1)


@pytest.mark.parametrize("attempts", [1, 2, 3])
def test_attempts_are_limited_as_declared(
    simulate: Simulate, night: MakeNight, attempts: int
) -> None:
    simulate(rows=[every_time("overloaded")])
    n = load_of(night, 2, attempts)
    n.settle()
    assert sendings(n)["r00000"] == [(0, each) for each in range(1, attempts + 1)]
    assert finals(n)["r00000"].attempts == attempts


@pytest.mark.parametrize("fault", [*REPEATED, *CLIMBING])
def test_a_row_that_succeeds_in_the_end_is_validated(
    simulate: Simulate, night: MakeNight, fault: str
) -> None:
    simulate(rows=[{**every_time(fault), "times": 1}])
    n = load_of(night, 2)
    n.settle()
    again = fault in REPEATED
    assert sendings(n)["r00000"] == [(0, 1), (0, 2) if again else (1, 1)]
    assert finals(n)["r00000"] == Final("validated", None, 0 if again else 1, 2)


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
        for (tier, attempt), after in zip(steps, steps[1:], strict=False):
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
