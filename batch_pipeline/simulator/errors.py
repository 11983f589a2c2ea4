"""The simulator's own errors, for the person who starts it. What it answers over HTTP is in `api_errors`."""

from __future__ import annotations


class SimulatorError(Exception):
    """The simulator cannot start. `str(error)` is one sentence: what, where, how to mend it."""


class ScenarioError(SimulatorError):
    """The scenario file, or the answer key it names, cannot be used."""
