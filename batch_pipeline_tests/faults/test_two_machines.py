"""Two machines on one ledger: whoever is first sends, whatever breaks in between."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.faults.outside import Left, accepted, billed_twice
from batch_pipeline_tests.faults.place import Place, opened, rows, write_workload
from batch_pipeline_tests.faults.work import Started, start
from batch_pipeline_tests.night import DAY, Night, account_of
from batch_pipeline_tests.postgres import PostgresServer, running

WORKLOAD = "questions"
_DRIVE = "batch_pipeline_tests.faults.driving:stages"


@pytest.fixture
def place(tmp_path: Path, postgres: PostgresServer) -> Iterator[Place]:
    known, golden = rows("A customer", 40), rows("A golden customer", 3, "g{n}")
    scenario = {"seed": 1, "turnaround_seconds": 0.2}
    with opened(tmp_path / "night", [*known, *golden], scenario, postgres.url()) as made:
        write_workload(made.folder, WORKLOAD, {DAY: known}, golden, limits={"max_requests": 5})
        yield made


def machine(place: Place, number: int) -> Started:
    """It shares the rows' files with the others, and nothing else: no lock of the kernel's keeps it out."""
    state = place.folder / f"machine{number}"
    state.mkdir()
    (place.state / "rows").mkdir(parents=True, exist_ok=True)
    (state / "rows").symlink_to(place.state / "rows")
    environment = {"BATCH_PIPELINE_STATE": str(state)}
    return start(place.work(_DRIVE, [WORKLOAD, DAY, 60], f"machine{number}", environment))


def test_of_two_that_race_for_a_load_each_chunk_has_one_sender(place: Place) -> None:
    ends = [process.wait() for process in [machine(place, n) for n in range(2)]]
    assert [end.code for end in ends] == [0, 0], [end.output for end in ends]
    left, sent = Left(place.state, place.ledger), accepted(place.api)
    assert {b["batch_id"] for b in left.batches} == {b.batch_id for b in sent}
    assert len(sent) == 9  # 43 rows, 5 a batch
    assert list(billed_twice(left, sent)) == []
    texts = [text for batch in sent for text in batch.texts]
    assert len(texts) == len(set(texts)) == 43


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    with running() as server:
        yield server


@pytest.mark.parametrize("moment", ["before an intent", "while a batch is uploaded"])
def test_a_postgres_that_goes_away_in_the_middle_of_a_send_is_waited_for(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    own_server: PostgresServer,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_LEDGER", own_server.url())
    simulator = simulate()
    made = night(count=20, limits={"max_requests": 5})
    struck = threading.Event()

    def strike() -> None:
        """Restarts the server when two batches are under way at the API, or one."""
        until = time.monotonic() + 30
        wanted = 1 if moment == "before an intent" else 2
        while account_of(simulator)["arrived"].get("create", 0) < wanted:
            assert time.monotonic() < until
            time.sleep(0.001)
        own_server.stop()
        struck.set()
        time.sleep(1)
        own_server.start()

    striker = threading.Thread(target=strike)
    striker.start()
    made.submit()
    striker.join()
    assert struck.is_set()
    made.settle()
    assert made.publish().promotion.rows == 20
    account = account_of(simulator)
    assert set(account["params_billed"]) == {"1"}
    assert len(account["batches"]) == 5
