"""kill -9 before every single step that lasts, and what the next process makes of it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.promote import promote
from batch_pipeline.stages.source import read_source
from batch_pipeline.warehouse import warehouse
from batch_pipeline_tests.night import Night, simulator_for
from batch_pipeline_tests.stages.crashing import ROWS, Crash, kill_promotion, sweep
from batch_pipeline_tests.stages.watching import paid_twice, posts

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]


@dataclass(frozen=True)
class Sweep:
    """All crashes, and what the API saw of them."""

    crashes: list[Crash]
    posts: int
    paid_twice: int


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sweep]:
    folder = tmp_path_factory.mktemp("crashes")
    with pytest.MonkeyPatch.context() as patch, simulator_for(folder) as simulator:
        patch.setenv("ANTHROPIC_API_KEY", "test-key")
        patch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        crashes = sweep(folder / "nights")
        yield Sweep(crashes, posts(simulator), paid_twice(simulator))


def labels(swept: Sweep, outcome: str) -> list[str]:
    return [crash.label for crash in swept.crashes if crash.outcome == outcome]


def test_the_sweep_reaches_every_stage(swept: Sweep) -> None:
    seen = {crash.label for crash in swept.crashes}
    assert {
        "rename in g1",
        "rename in chunks",
        "rename in sent",
        "commit INSERT INTO loads",
        "commit INSERT INTO chunks",
        "post",
        "answered",
        "commit INSERT INTO batches",
        "commit UPDATE batches SET",
        "rename in raw",
        "move a download",
        "rename in results",
        "rename in verdicts",
        "measures half written",
        "table half written",
    } <= seen


def test_no_crash_anywhere_has_a_row_paid_twice(swept: Sweep) -> None:
    # Golden rows are the same in every night.
    assert swept.paid_twice <= 1
    posted = [crash for crash in swept.crashes if crash.label != "post"]
    # Two more: the nights that were not killed, before the first and after the last.
    assert swept.posts == len(posted) + 2


def test_only_between_the_intent_and_the_batch_id_is_a_person_needed(swept: Sweep) -> None:
    assert labels(swept, "unresolved") == ["post", "answered", "commit INSERT INTO batches"]


def test_after_any_other_crash_the_load_is_resumed_to_its_end(swept: Sweep) -> None:
    resumed = [crash for crash in swept.crashes if crash.outcome == "promoted"]
    assert [crash.promoted for crash in resumed] == [ROWS] * len(resumed)


def test_nothing_half_written_is_left_behind(swept: Sweep) -> None:
    for crash in swept.crashes:
        # The body of an intent is kept: it is what may have been sent.
        bodies = [path for path in crash.leftovers if path.endswith(".json")]
        assert len(bodies) == (crash.outcome == "unresolved")
        assert crash.leftovers == bodies, crash


@pytest.mark.parametrize("step", ["table half written", "commit UPDATE loads SET"])
def test_a_crash_in_the_middle_of_a_promotion_leaves_the_old_rows_or_the_new(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    simulate(rows=[{"contains": "number 3 of", "fault": "wrong", "times": 1}])
    n = night()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(n.folder.parent))

    def table() -> list[tuple[str, str]]:
        with warehouse(n.context.settings.state) as connection:
            return connection.execute(
                "SELECT id, label FROM promoted.questions ORDER BY id"
            ).fetchall()

    n.settle()
    n.publish()
    old = table()
    read_source(n.context, resend=True, requested_by="run 2")
    n.settle()
    kill_promotion(n, step)
    killed = table()
    promote(n.context)
    new = table()
    assert old != new
    assert killed == (old if step == "table half written" else new)
    assert n.context.record().promoted_rows == 12
