"""A night with every kind of mishap, three tiers, golden rows and a cached prefix."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.promote import promote
from batch_pipeline.stages.scorecard import Scorecard
from batch_pipeline_tests.night import HAIKU, OPUS, SONNET, Night, simulator_for

# Above the minimum that Haiku caches.
LONG_SYSTEM = "Say what the question is about. Mind every rule of the house. " * 300
FAULTS = {
    "not_json": 0.08,
    "unknown_label": 0.05,
    "refusal": 0.05,
    "refusal_midway": 0.04,
    "truncated": 0.06,
    "server_error": 0.08,
    "expired": 0.06,
    "absent": 0.03,
    "wrong": 0.1,
    "invalid_request": 0.02,
}
# Whatever is drawn, a row of each disposition.
FATES = [
    {"contains": "number 7 of", "fault": "refusal"},
    {"contains": "number 8 of", "fault": "invalid_request"},
    # Paid for at every tier, and a person's in the end.
    {"contains": "number 9 of", "fault": "not_json"},
]


def stormy(make: Callable[..., Night], cache: str) -> Night:
    return make(
        count=90,
        golden=12,
        tiers=[
            {"model": HAIKU, "max_tokens": 64},
            {"model": SONNET, "max_tokens": 128},
            {"model": OPUS, "max_tokens": 256},
        ],
        prompt={"system": LONG_SYSTEM, "user": "{{ text }}", "cache": cache},
        limits={"max_requests": 60},
        gates={"golden_drop_points": 100},
    )


@dataclass(frozen=True)
class Published:
    """A night that is published, and the simulator that it was driven against."""

    night: Night
    card: Scorecard
    simulator: Simulator


@contextmanager
def published_night(folder: Path) -> Iterator[Published]:
    scenario: dict[str, Any] = {
        "seed": 1,
        "models": {"*": FAULTS},
        "rows": FATES,
        "cache_hit_rate": 0.8,
    }
    with simulator_for(folder, **scenario) as simulator:
        # Only while it is driven: what is made once must leave no test its environment.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ANTHROPIC_API_KEY", "test-key")
            patch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
            patch.setenv("BATCH_PIPELINE_STATE", str(folder / "state"))
            patch.setenv("BATCH_PIPELINE_POLL_SECONDS", "0.05")
            patch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "0.5")
            night = stormy(partial(Night.make, folder), "1h")
            night.settle()
            card = grade(night.context)
            promote(night.context)
        yield Published(night, card, simulator)
