"""One load with rows in review, made once and copied for each test."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batch_pipeline_tests.night import Night, simulator_for
from batch_pipeline_tests.review.desk import FAULTS, Desk, settled


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the state and the workload of a load that is promoted."""
    folder = tmp_path_factory.mktemp("reviewed")
    with pytest.MonkeyPatch.context() as patch, simulator_for(folder, rows=FAULTS) as simulator:
        for name, value in {
            "BATCH_PIPELINE_STATE": str(folder / "state"),
            "BATCH_PIPELINE_POLL_SECONDS": "0.05",
            "BATCH_PIPELINE_GRACE_SECONDS": "1",
            "ANTHROPIC_API_KEY": "test-key",
            "ANTHROPIC_BASE_URL": simulator.base_url,
        }.items():
            patch.setenv(name, value)
        settled(lambda **changes: Night.make(folder, **changes), folder / "workloads").publish()
    yield folder


@pytest.fixture
def desk(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A copy of that load, to be reviewed."""
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(tmp_path / "workloads"))
    return Desk.of_copy(made, tmp_path)


@pytest.fixture
def fixing() -> Callable[..., dict[str, str]]:
    """The cells of a fix."""
    return lambda **cells: {"decision": "fix", **{f"fixed_{k}": v for k, v in cells.items()}}
