"""The environment, read in one place."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from batch_pipeline.errors import ConfigurationError

_PACKAGE = Path(__file__).resolve().parent
SHIPPED_WORKLOADS = _PACKAGE / "defs"


def project_root() -> Path:
    """The checkout's top folder, or the current folder where the package is installed as a wheel."""
    top = _PACKAGE.parent
    return top if (top / "pyproject.toml").is_file() else Path.cwd()


@dataclass(frozen=True)
class Settings:
    """What the environment says.

    Attributes:
        state: folder of all state (`BATCH_PIPELINE_STATE`, default `data/state` of the project).
        workloads: extra folder of workload folders (`BATCH_PIPELINE_WORKLOADS`), or None.
        poll_seconds: time between two looks at open batches (`BATCH_PIPELINE_POLL_SECONDS`, 30).
        grace_seconds: how long an unresolved intent, or a batch that answers 404, is looked for
            before it counts as not there (`BATCH_PIPELINE_GRACE_SECONDS`, 300).
        prices: a YAML file with more prices (`BATCH_PIPELINE_PRICES`), or None.
    """

    state: Path
    workloads: Path | None
    poll_seconds: float
    grace_seconds: float
    prices: Path | None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Raises ConfigurationError for a number that is not one, or a folder that is not there."""
        state = environment.get("BATCH_PIPELINE_STATE")
        workloads = environment.get("BATCH_PIPELINE_WORKLOADS")
        if workloads and not Path(workloads).is_dir():
            raise ConfigurationError(
                f"BATCH_PIPELINE_WORKLOADS names {workloads}, which is not a folder; "
                "point it at a folder that holds one folder per workload."
            )
        prices = environment.get("BATCH_PIPELINE_PRICES")
        return cls(
            state=Path(state).resolve() if state else project_root() / "data" / "state",
            workloads=Path(workloads).resolve() if workloads else None,
            poll_seconds=_seconds(environment, "BATCH_PIPELINE_POLL_SECONDS", 30),
            grace_seconds=_seconds(environment, "BATCH_PIPELINE_GRACE_SECONDS", 300),
            prices=Path(prices).resolve() if prices else None,
        )


def _seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    text = environment.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise ConfigurationError(
            f"{name} is {text!r}; it must be a number of seconds, 0 or more (default {default:g})."
        )
    return value
