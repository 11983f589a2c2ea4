"""A scorecard is measured once for as long as nothing of it changes, and anew as soon as anything does."""

from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline.simulator import Simulator
from batch_pipeline.stages import measured as module
from batch_pipeline.stages.baseline import record_baseline
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.measured import measured
from batch_pipeline.stages.promote import promote
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline_tests.night import Night

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]


@pytest.fixture
def settled(simulate: Simulate, night: MakeNight) -> Night:
    simulate()
    n = night(count=6, golden=4)
    n.settle()
    return n


@pytest.fixture
def measurings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Grows by one with each scorecard that is measured."""
    found: list[str] = []

    def counting(context: Any) -> Any:
        found.append(context.load)
        return measure_load(context)

    monkeypatch.setattr(module, "measure_load", counting)
    return found


def test_asked_again_it_is_not_measured_again(settled: Night, measurings: list[str]) -> None:
    cards = [measured(settled.context) for _ in range(3)]
    assert len(measurings) == 1
    assert all(card == measure_load(settled.context) for card in cards)


def test_what_was_graded_or_promoted_is_known(settled: Night, measurings: list[str]) -> None:
    grade(settled.context)
    graded = measured(settled.context)
    promote(settled.context)
    promoted = measured(settled.context)
    assert not measurings
    assert (graded.promoted_rows, promoted.promoted_rows) == (0, 6)
    assert promoted == measure_load(settled.context)


def test_other_gates_are_another_scorecard(settled: Night, measurings: list[str]) -> None:
    assert measured(settled.context).gate is not None
    workload = settled.context.workload
    gates = workload.spec.gates.model_copy(update={"min_validity": Decimal(1)})
    stricter = replace(workload, spec=workload.spec.model_copy(update={"gates": gates}))
    measured(replace(settled.context, workload=stricter))
    assert len(measurings) == 2


def test_an_override_is_seen(settled: Night, measurings: list[str]) -> None:
    card = measured(settled.context)
    assert card.gate is not None
    settled.ledger.record_override(
        settled.context.record(),
        fingerprint=card.gate.fingerprint,
        reason="known",
        requested_by="somebody",
    )
    again = measured(settled.context)
    assert again.gate is not None and len(measurings) == 2


def test_a_new_baseline_is_seen(settled: Night, measurings: list[str]) -> None:
    before = measured(settled.context)
    record_baseline(settled.context, reason="first", by="somebody")
    after = measured(settled.context)
    assert len(measurings) == 2
    assert before.golden is not None and after.golden is not None
    assert (before.golden.recorded, after.golden.recorded is not None) == (None, True)


def test_decisions_of_people_are_seen(settled: Night, measurings: list[str]) -> None:
    measured(settled.context)
    folder = settled.context.folder(settled.context.record())
    Path(str(folder.decisions)).write_bytes(b"not read here")
    with pytest.raises(Exception):  # noqa: B017 - it is read at all, which is what counts
        measured(settled.context)
