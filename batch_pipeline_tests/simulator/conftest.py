from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from anthropic import Anthropic

from batch_pipeline.simulator import Scenario, Simulator

from .asking import client_of

Simulate = Callable[..., Simulator]


@pytest.fixture
def simulate() -> Iterator[Simulate]:
    """Starts simulators of a scenario given as keywords, and stops them after the test."""
    running: list[Simulator] = []

    def start(state_dir: Path | None = None, **scenario: Any) -> Simulator:
        running.append(Simulator(Scenario.model_validate(scenario), state_dir).start())
        return running[-1]

    yield start
    for simulator in running:
        simulator.stop()


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    """One without faults, shared by the tests of a module."""
    with Simulator() as started:
        yield started


@pytest.fixture(scope="module")
def client(simulator: Simulator) -> Anthropic:
    return client_of(simulator)
