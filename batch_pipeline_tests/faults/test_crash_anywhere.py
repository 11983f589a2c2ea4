"""kill -9 at the boundaries that a night was seen to have, and what the next call makes of it."""

from itertools import pairwise

import pytest

from batch_pipeline_tests.faults.boundaries import DAGSTER, PRODUCT, UNWATCHED
from batch_pipeline_tests.faults.crash_anywhere import RUN, STAGES, Crashes, sample
from batch_pipeline_tests.postgres import PostgresServer

# The boundaries are dealt out to so many tests, so that two workers share them.
PARTS = 2
# A death before one of these leaves an empty folder or file more than the one before, which nobody reads:
# `make soak` goes there too.
_LIGHT = ("os.mkdir", "os.rmdir", "open")
# The metrics' copies are alike, and each is written anew by whoever grades again.
_COPY = "COPY (FROM metrics."
# A death after a step and one before the next leave the same behind, so steps come in pairs at least.
_STRIDE = 4


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Crashes:
    return Crashes(tmp_path_factory.mktemp("crashes") / "nights", STAGES)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Crashes:
    return Crashes(tmp_path_factory.mktemp("crashes") / "nights", RUN)


@pytest.fixture(scope="module")
def on_postgres(tmp_path_factory: pytest.TempPathFactory, postgres: PostgresServer) -> Crashes:
    return Crashes(tmp_path_factory.mktemp("crashes") / "nights", STAGES, postgres.url)


def weighty(crashes: Crashes) -> list[int]:
    """A quarter of those that leave something of their own behind; `make soak CRASHES=1` takes all."""
    light = {b.number for b in crashes.boundaries if b.kind in _LIGHT or b.label.startswith(_COPY)}
    return [number for number in crashes.distinct(PRODUCT) if number not in light][::_STRIDE]


@pytest.mark.parametrize("part", range(PARTS))
def test_killed_anywhere_a_night_is_resumed_as_if_nothing_had_happened(
    stages: Crashes, part: int
) -> None:
    for number in weighty(stages)[part::PARTS]:
        crash = stages.crash(PRODUCT, number)
        assert not crash.wrong, str(crash)


def test_killed_anywhere_a_night_whose_ledger_is_in_postgres_is_resumed_likewise(
    on_postgres: Crashes,
) -> None:
    """Before and after commits of the ledger above all; `make soak CRASHES=1 POSTGRES=1` takes every boundary."""
    commits = [b.number for b in on_postgres.boundaries if b.kind.startswith("postgres")]
    for number in sorted({*sample(commits, 12), *sample(weighty(on_postgres), 4)}):
        crash = on_postgres.crash(PRODUCT, number)
        assert not crash.wrong, str(crash)


def test_on_postgres_a_night_passes_every_step_of_the_send_protocol(on_postgres: Crashes) -> None:
    steps = [f"{b.kind}: {b.label}" for b in on_postgres.boundaries]
    protocol = [
        "os.rename: rename sent/N.parquet",
        "postgres commit: commit INSERT INTO chunks",
        "postgres committed: committed INSERT INTO chunks",
        "http request: POST /v1/messages/batches",
        "http answer: POST /v1/messages/batches 200",
        "postgres commit: commit INSERT INTO batches",
        "postgres committed: committed INSERT INTO batches",
    ]
    places = [steps.index(step) for step in protocol]
    assert places == sorted(places)
    assert not any(b.kind.startswith("sqlite") for b in on_postgres.boundaries)


def test_killed_again_while_it_is_resumed_it_is_resumed_again(stages: Crashes) -> None:
    numbers = sample(weighty(stages), 4)
    for first, second in pairwise([*numbers, numbers[0]]):
        crash = stages.crash(PRODUCT, first, max(second // 2, 1))
        assert not crash.wrong, str(crash)


@pytest.mark.parametrize(("owner", "most"), [(PRODUCT, 2), (DAGSTER, 2)])
def test_the_command_goes_on_after_a_death_at_our_boundaries_and_at_dagsters(
    run: Crashes, owner: str, most: int
) -> None:
    for number in sample(run.of(owner), most):
        crash = run.crash(owner, number)
        assert not crash.wrong, str(crash)


def test_a_night_has_boundaries_of_every_kind(stages: Crashes) -> None:
    kinds = {boundary.kind for boundary in stages.boundaries}
    assert {
        "os.rename", "os.remove", "open", "sqlite commit", "sqlite committed", "http request",
        "http answer", "duckdb statement", "duckdb commit", "duckdb committed", "duckdb close",
    } <= kinds  # fmt: skip
    assert UNWATCHED not in kinds


def test_a_night_passes_every_step_of_the_send_protocol(stages: Crashes) -> None:
    steps = [boundary.label for boundary in stages.boundaries]
    protocol = [
        "rename chunks/N.json",
        "rename sent/N.parquet",
        "commit INSERT INTO chunks",
        "POST /v1/messages/batches",
        "POST /v1/messages/batches 200",
        "commit INSERT INTO batches",
        "remove chunks/N.json",
    ]
    places = [steps.index(step) for step in protocol]
    assert places == sorted(places)


@pytest.mark.parametrize("way", ["stages", "run"])
def test_every_file_that_a_night_leaves_was_seen_being_written(
    way: str, request: pytest.FixtureRequest
) -> None:
    """What C++ writes past Python's events would show here, unless it is renamed into place."""
    crashes: Crashes = request.getfixturevalue(way)
    seen = {_place(boundary.target) for boundary in crashes.boundaries}
    unseen = [path for path in crashes.files if _database(_place(str(path))) not in seen]
    assert unseen == []


def _place(path: str) -> str:
    return path.partition("/state/")[2]


def _database(path: str) -> str:
    """SQLite's logs belong to their database."""
    return path.removesuffix("-wal").removesuffix("-shm")


def test_the_sample_is_spread_evenly_and_has_the_last() -> None:
    assert sample(list(range(1, 101)), 4) == [1, 34, 67, 100]
    assert sample([1, 2], 4) == [1, 2]
