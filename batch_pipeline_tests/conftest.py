"""Fixtures for tests that drive loads against the simulator, over HTTP, with the real SDK."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import Night, simulator_for

_OURS = ("ANTHROPIC_", "BATCH_PIPELINE_", "DAGSTER_")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the machine's own keys or state, and none waits for real polling intervals."""
    for name in list(os.environ):
        if name.startswith(_OURS):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BATCH_PIPELINE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("BATCH_PIPELINE_POLL_SECONDS", "0.05")
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "1")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "test-key")
    # Nothing listens there: a test that starts no simulator must not reach the real API.
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "1")


@pytest.fixture
def simulate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Simulator]]:
    """Starts a simulator from a scenario given as keywords, and points the SDK at it."""
    running: list[Simulator] = []

    def start(**scenario: Any) -> Simulator:
        simulator = simulator_for(tmp_path / f"simulator{len(running)}", **scenario)
        simulator.start()
        running.append(simulator)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        return simulator

    yield start
    for simulator in running:
        simulator.stop()


@pytest.fixture
def night(tmp_path: Path) -> Callable[..., Night]:
    """Makes a workload in a folder of its own, and a load of it to drive."""
    return lambda **options: Night.make(tmp_path, **options)
