"""A simulator without an answer key, which starts at once: for tests of what becomes of a request."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from batch_pipeline.simulator import Simulator
from batch_pipeline.simulator.scenario import Scenario


def simulate_made_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Simulator]]:
    """As the fixture `simulate`; answers are valid, and made up from each request's schema."""
    running: list[Simulator] = []

    def start(**scenario: Any) -> Simulator:
        simulator = Simulator(Scenario.model_validate(scenario)).start()
        running.append(simulator)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        return simulator

    yield start
    for simulator in running:
        simulator.stop()
