"""The gate: what holds a load, what a person may override, and what nobody may."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_pipeline.measure.gate import GateDecision, decide
from batch_pipeline.measure.golden import GoldenScore
from batch_pipeline.measure.rates import Rate
from batch_pipeline.workload.spec import GatesSpec


def decision(**changes: Any) -> GateDecision:
    """The gate of a load that just passes, unless `changes` spoil it."""
    facts: dict[str, Any] = {
        "gates": GatesSpec(min_validity=Decimal("0.95"), max_cost_usd=Decimal(25)),
        "coverage": Rate(100, 100),
        "validated": 97,
        "changed": None,
        "ungraded": False,
        "batches_reconciled": True,
        "validity": Rate(95, 100),
        "golden": GoldenScore(88, 100, Decimal("0.9")),
        "cost_usd": 25.0,
        "fingerprint": "f",
        "override_reason": None,
        **changes,
    }
    return decide(**facts)


HOLDS: dict[str, tuple[dict[str, Any], str]] = {
    "golden score": (
        {"golden": GoldenScore(87, 100, Decimal("0.9"))},
        "golden score 87 of 100 (87.0%), 3.0 points below the declared baseline of 90.0%",
    ),
    "no golden rows": ({"golden": GoldenScore(0, 0, Decimal("0.9"))}, "golden score 0 of 0"),
    "validity": ({"validity": Rate(94, 100)}, "output validity 94.0% at tier 0, first attempt"),
    "unknown validity": ({"validity": Rate(0, 0)}, "output validity unknown"),
    "cost": ({"cost_usd": 25.0001}, "cost $25.0001"),
}
LEAKS: dict[str, tuple[dict[str, Any], str]] = {
    "rows": ({"coverage": Rate(99, 100)}, "coverage is 99 of 100 source rows, a leak"),
    "too many rows": ({"coverage": Rate(101, 100)}, "coverage is 101 of 100 source rows, a leak"),
    "batches": ({"batches_reconciled": False}, "do not add up to the requests sent"),
}


def test_a_load_that_meets_every_gate_just_so_passes_and_says_why() -> None:
    passed = decision()
    assert passed.promote
    assert [reason.split()[0] for reason in passed.reasons] == ["all", "golden", "output", "cost"]


@pytest.mark.parametrize(("changes", "reason"), HOLDS.values(), ids=HOLDS)
def test_a_measure_beyond_its_line_holds_the_load(changes: dict[str, Any], reason: str) -> None:
    held = decision(**changes)
    assert not held.promote
    assert len(held.reasons) == 1
    assert held.reasons[0].startswith(reason)


@pytest.mark.parametrize(("changes", "reason"), HOLDS.values(), ids=HOLDS)
def test_a_person_may_override_a_measure_and_the_decision_says_so(
    changes: dict[str, Any], reason: str
) -> None:
    opened = decision(**changes, override_reason="checked by hand")
    assert opened.promote
    assert opened.override_reason == "checked by hand"
    assert opened.reasons[0] == "override: checked by hand"
    assert opened.reasons[1].startswith(reason)


@pytest.mark.parametrize(("changes", "reason"), LEAKS.values(), ids=LEAKS)
def test_nobody_may_override_a_leak(changes: dict[str, Any], reason: str) -> None:
    held = decision(**changes, override_reason="checked by hand")
    assert not held.promote
    assert held.override_reason is None
    assert reason in held.reasons[0]


def test_an_override_of_an_open_gate_is_not_one() -> None:
    assert decision(override_reason="just in case").override_reason is None


def test_gates_that_are_not_declared_do_not_hold() -> None:
    passed = decision(gates=GatesSpec(), golden=None, validity=Rate(0, 0), cost_usd=1e9)
    assert passed.promote
    assert any("no golden set is declared" in reason for reason in passed.reasons)


@given(valid=st.integers(0, 2000), extra=st.integers(0, 2000), least=st.decimals(0, 1, places=3))
def test_validity_is_compared_exactly(valid: int, extra: int, least: Decimal) -> None:
    total = valid + extra
    open_ = decision(gates=GatesSpec(min_validity=least), validity=Rate(valid, total)).promote
    assert open_ is (total > 0 and valid * 1000 >= int(least * 1000) * total)


@given(
    closed=st.integers(0, 50),
    rows=st.integers(1, 50),
    reconciled=st.booleans(),
    override=st.none() | st.just("why"),
)
def test_nothing_opens_the_gate_while_a_row_is_unaccounted_for(
    closed: int, rows: int, *, reconciled: bool, override: str | None
) -> None:
    opened = decision(
        coverage=Rate(closed, rows), batches_reconciled=reconciled, override_reason=override
    ).promote
    assert opened is (closed == rows and reconciled)


def test_a_load_without_one_validated_row_is_held() -> None:
    made = decision(validated=0)
    assert not made.promote
    assert "not one row is validated" in made.reasons[0]


def test_a_golden_set_declared_too_late_holds_and_can_be_overridden() -> None:
    assert not decision(ungraded=True, golden=None).promote
    assert decision(ungraded=True, golden=None, override_reason="checked by hand").promote


def test_a_declaration_that_changed_cannot_be_overridden() -> None:
    made = decision(changed="the output contract changed", override_reason="in a hurry")
    assert not made.promote
    assert made.reasons == ["the output contract changed"]
