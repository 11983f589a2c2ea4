"""A local server that speaks the Message Batches API, for the demo and the tests.

It is a simulator: no model answers. What it answers comes from an answer key and seeded draws, what
goes wrong comes from a scenario file (`scenario` documents every option). It knows nothing of who
calls it; a caller chooses it by its base URL alone.

Importing this package is cheap; the server's dependencies load with the first name used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .errors import ScenarioError, SimulatorError
    from .scenario import Scenario
    from .server import Simulator, serve

__all__ = ["Scenario", "ScenarioError", "Simulator", "SimulatorError", "serve"]

_HOME = {
    "Scenario": ".scenario",
    "ScenarioError": ".errors",
    "Simulator": ".server",
    "SimulatorError": ".errors",
    "serve": ".server",
}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name], __name__), name)
