"""Fixtures for tests that drive loads against the simulator, over HTTP, with the real SDK."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batch_pipeline.simulator import Simulator
from batch_pipeline_tests import forked
from batch_pipeline_tests.night import Night, simulator_for

if TYPE_CHECKING:
    from batch_pipeline_tests.object_store import ObjectStore
    from batch_pipeline_tests.postgres import PostgresServer

_OURS = ("ANTHROPIC_", "AWS_", "BATCH_PIPELINE_", "DAGSTER_", "PG")
# What says that a missing program is an error; CI sets them.
_REQUIRED = ("BATCH_PIPELINE_REQUIRE_",)
# A file system in memory, where there is one with room: half of the suite's time would go into flushing a disk.
_IN_MEMORY = Path("/dev/shm")
_ROOM = 4 << 30
# The files whose tests take longest, longest first.
_LONG = (
    "deploy/test_hosts.py",
    "faults/test_crash_anywhere.py",
    "faults/test_seeded_nights.py",
    "warehouse/test_ducklake.py",
    "dag/test_daemon.py",
    "test_reliability.py",
    "test_docs.py",
    "cli/test_run.py",
    "dag/test_jobs.py",
    "cli/test_demo.py",
    "cli/test_two_runs.py",
    "cli/test_stops.py",
    "cli/test_purge.py",
    "security/test_api_key.py",
    "security/test_private_state.py",
    "test_wheel.py",
    "nights/test_night_run.py",
    "test_banking77.py",
)


def pytest_configure(config: pytest.Config) -> None:
    if hasattr(config, "workerinput"):
        return  # it inherits what the first process has set up
    usable = _IN_MEMORY.is_dir() and os.access(_IN_MEMORY, os.W_OK)
    if "TMPDIR" not in os.environ and usable and shutil.disk_usage(_IN_MEMORY).free > _ROOM:
        os.environ["TMPDIR"] = str(_IN_MEMORY)
        tempfile.tempdir = None
    open_until_the_end = ExitStack()
    open_until_the_end.enter_context(forked.available())
    config.add_cleanup(open_until_the_end.close)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Has every worker begin with long tests, so that none is left with one when the others have ended.

    Workers begin with equal shares of the tests, in their order, and take from each other's ends.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0"))
    if not workers:
        return
    shares: list[list[pytest.Item]] = [[] for _ in range(workers)]
    for number, name in enumerate(_LONG):
        shares[number % workers] += [item for item in items if item.path.match(name)]
    long = {item for share in shares for item in share}
    others = [item for item in items if item not in long]
    size = -(-len(items) // workers)
    for share in shares:
        left = max(0, size - len(share))
        share.extend(others[:left])
        del others[:left]
    items[:] = [item for share in shares for item in share]


def pytest_collection_finish() -> None:
    # To import it takes seconds, which tests that don't need it are spared.
    if "dagster" in sys.modules:
        from batch_pipeline_tests.dagsters_storage import quicken

        quicken()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No test sees the machine's own keys or state, and none waits for real polling intervals."""
    for name in list(os.environ):
        if name.startswith(_OURS) and not name.startswith(_REQUIRED):
            monkeypatch.delenv(name)
    monkeypatch.setenv("BATCH_PIPELINE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("BATCH_PIPELINE_POLL_SECONDS", "0.2")
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


@pytest.fixture(scope="session")
def postgres() -> "Iterator[PostgresServer]":
    """A Postgres server that all tests of this process share; each makes a database of its own."""
    from batch_pipeline_tests.postgres import running

    with running() as server:
        yield server


@pytest.fixture(scope="session")
def object_store() -> "Iterator[ObjectStore]":
    """An S3 server that all tests of this process share; each makes a bucket of its own."""
    from batch_pipeline_tests.object_store import running

    with running() as store:
        yield store
