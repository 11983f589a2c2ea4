"""A night whose rows lie in an object store: the same comes of it, and another host goes on with it."""

import tempfile
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.claude.messages import MessagesApi
from batch_pipeline.rows.folder import LoadFolder
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.baseline import record_baseline
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.kept_scorecards import kept_scorecard
from batch_pipeline.stages.purge import Purge
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline_tests.night import DAY, Night, account_of, rows, simulator_for
from batch_pipeline_tests.review.desk import FAULTS, Desk, settled
from batch_pipeline_tests.rows.store_nights import (
    dispositions,
    local_files,
    names,
    on_another_host,
    promoted,
    root_of,
)
from batch_pipeline_tests.store_proxy import StoreProxy

Simulate = Callable[..., Simulator]
MakeNight = Callable[..., Night]
NEXT = "2026-11-21"
LOAD = f"rows/questions/{DAY}/g1"


def sent(simulator: Simulator) -> int:
    """Requests in all batches that the API accepted."""
    return int(account_of(simulator)["requests"]["accepted"])


# The same as in a folder


@given(
    faults=st.lists(
        st.sampled_from(
            [None, "unknown_label", "not_json", "refusal", "expired", "server_error"],
        ),
        min_size=1,
        max_size=6,
    ),
    times=st.integers(1, 3),
    most=st.integers(2, 9),
    dedupe=st.booleans(),
)
@settings(
    max_examples=4,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_same_rows_come_of_it_as_in_a_folder(
    monkeypatch: pytest.MonkeyPatch,
    faults: list[str | None],
    times: int,
    most: int,
    dedupe: bool,
) -> None:
    rules = [
        {"contains": f"number {n} of", "fault": fault, "times": times}
        for n, fault in enumerate(faults)
        if fault
    ]
    found = []
    for url in ("", f"memory://{uuid.uuid4().hex}"):
        monkeypatch.setenv("BATCH_PIPELINE_ROWS", url)
        with tempfile.TemporaryDirectory() as folder:
            monkeypatch.setenv("BATCH_PIPELINE_STATE", f"{folder}/state")
            with simulator_for(Path(folder) / "simulator", rows=rules) as simulator:
                monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
                source = [*rows(7), {**rows(1)[0], "id": "again"}]
                night = Night.make(
                    Path(folder),
                    source=source,
                    golden=2,
                    dedupe=dedupe,
                    limits={"max_requests": most, "attempts": 2},
                    gates={"golden_drop_points": 100, "min_validity": 0},
                )
                card = night.settle()
                night.publish()
                found.append((promoted(night), dispositions(night), card.results, sent(simulator)))
    assert found[0] == found[1]


def test_what_hosts_share_is_in_the_store_and_no_row_is_left_on_this_one(
    simulate: Simulate, night: MakeNight, bucket: str
) -> None:
    simulate()
    n = night()
    n.settle()
    assert n.publish().card.promoted_rows == 12
    assert names(n) >= {
        f"{LOAD}/source.parquet",
        f"{LOAD}/golden.parquet",
        f"{LOAD}/plan.json",
        f"{LOAD}/prompts.parquet",
        f"{LOAD}/sent/CHUNK.parquet",
        f"{LOAD}/raw/CHUNK.jsonl.zst",
        f"{LOAD}/results/CHUNK.parquet",
        f"{LOAD}/verdicts/CHUNK.parquet",
        f"{LOAD}/dispositions.parquet",
        f"{LOAD}/promoted.parquet",
        f"scorecards/questions/{DAY}/g1.json",
    }
    left = {name for name in local_files(n) if not name.startswith(("locks/", "metrics/"))}
    assert {name.partition(".")[0] for name in left} <= {"ledger", "warehouse"}


def test_a_folder_that_hosts_mount_is_named_as_a_file_url(
    simulate: Simulate, night: MakeNight, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulate()
    monkeypatch.setenv("BATCH_PIPELINE_ROWS", f"file://{tmp_path}/mounted")
    n = night()
    n.settle()
    n.publish()
    assert (tmp_path / "mounted" / LOAD / "promoted.parquet").is_file()
    assert not list((n.context.settings.state / "rows").rglob("*.parquet"))


# Another host


def test_another_host_goes_on_with_a_load_whose_first_one_is_lost(
    simulate: Simulate, night: MakeNight, bucket: str, tmp_path: Path
) -> None:
    simulator = simulate(rows=[{"contains": "number 3 of", "fault": "unknown_label", "times": 1}])
    first = night()
    first.submit()
    second = on_another_host(first, tmp_path / "second")
    second.settle()
    assert second.publish().card.promoted_rows == 12
    # One row climbed, and nothing else was sent again.
    assert sent(simulator) == 12 + 5 + 1


def test_a_host_that_is_lost_before_its_post_has_its_rows_sent_once_by_another(
    simulate: Simulate,
    night: MakeNight,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator = simulate()
    first = night()

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(BatchesApi, "create", dies)
        with pytest.raises(KeyboardInterrupt):
            first.submit()
    # The body is on the first host, and nobody else wants it.
    assert list((first.context.settings.state / LOAD / "chunks").iterdir())
    second = on_another_host(first, tmp_path / "second")
    second.settle()
    assert second.publish().card.promoted_rows == 12
    assert sent(simulator) == 12 + 5


def test_synchronous_answers_outlive_the_host_that_had_them(
    simulate: Simulate, night: MakeNight, bucket: str, tmp_path: Path
) -> None:
    simulator = simulate(
        calls=[{"on": "messages", "fault": "status", "nth": 5, "status": 429, "retry_after": 3600}]
    )
    first = night(count=9, golden=0, lane="sync", sync={"concurrency": 1})
    first.submit()
    second = on_another_host(first, tmp_path / "second")
    second.ledger.update_load(second.context.record(), not_before=None)
    second.settle()
    assert {line[2] for line in dispositions(second)} == {"validated"}
    assert account_of(simulator)["messages"]["billed"] == 9
    # Once they are read back they are kept as a batch's are, and only there.
    assert not [name for name in names(second) if "/answers/" in name]


def test_a_synchronous_request_that_was_under_way_when_its_host_was_lost_is_sent_again(
    simulate: Simulate,
    night: MakeNight,
    bucket: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator = simulate()
    first = night(count=5, golden=0, lane="sync", sync={"concurrency": 1})
    answers, n = MessagesApi.answer, iter(range(10))

    def lost(api: MessagesApi, params: bytes) -> bytes:
        answer = answers(api, params)
        if next(n) == 2:
            raise KeyboardInterrupt
        return answer

    with monkeypatch.context() as patched:
        patched.setattr(MessagesApi, "answer", lost)
        patched.setattr("batch_pipeline.stages.sync_lane._work", _dies_with(patched))
        with pytest.raises(KeyboardInterrupt):
            first.submit()
    second = on_another_host(first, tmp_path / "second")
    second.settle()
    assert {line[2] for line in dispositions(second)} == {"validated"}
    assert account_of(simulator)["messages"]["billed"] == 6


def _dies_with(_: pytest.MonkeyPatch) -> Callable[..., None]:
    """The sending thread, whose death is that of its process."""
    from batch_pipeline.stages import sync_lane

    work = sync_lane._work

    def dying(api: Any, answers: Any, inbox: Any, outbox: Any) -> None:
        try:
            work(api, answers, inbox, outbox)
        except KeyboardInterrupt as error:
            outbox.put(sync_lane._Outcome(("", b""), error))  # type: ignore[arg-type]

    return dying


def test_a_store_that_is_not_well_for_a_while_costs_no_row(
    simulate: Simulate,
    night: MakeNight,
    bucket: str,
    proxy: StoreProxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulator = simulate()
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "30")
    counts = iter(range(1_000_000))
    proxy.refusal = lambda _: (503, "SlowDown") if next(counts) % 40 < 2 else None
    n = night(count=6, golden=2)
    n.settle()
    assert n.publish().card.promoted_rows == 6
    assert sent(simulator) == 8


# All else that reads or writes rows


def test_a_load_is_sent_again_and_purged(simulate: Simulate, night: MakeNight, bucket: str) -> None:
    simulate()
    n = night()
    n.settle()
    n.publish()
    read_source(n.context, resend=True, requested_by="somebody")
    send_pending(n.context, BatchesApi)
    n.settle()
    n.publish()
    card, root = measure_load(n.context), root_of(n)
    assert card.spend is not None
    assert card.spend.total_usd > 0
    purge = Purge(
        n.context.settings.state, n.ledger, datetime.now(UTC), lambda _: None, shared=root
    )
    size = sum(size for url, size in root.store.below(str(root / "rows")).items())
    [done] = purge.run()
    assert (done.bytes, done.left_alone) == (size, None)
    assert root.store.below(str(root / "rows")) == {}
    assert list(purge.run()) == []
    assert kept_scorecard(root, n.context.record()).spend == card.spend


def test_a_reviewed_row_a_baseline_and_answers_carried_over(
    simulate: Simulate, night: MakeNight, bucket: str, tmp_path: Path
) -> None:
    simulator = simulate(rows=FAULTS)
    n = settled(night, tmp_path / "workloads", reuse=True)
    n.publish()
    desk = Desk(n.context, tmp_path / "review.csv")
    desk.decide(r00001={"decision": "drop"})
    assert desk.take_in().dropped == 1
    record = n.context.record()
    assert n.context.folder(record).decisions.is_file()
    assert not list(n.context.settings.state.rglob("decisions.parquet"))
    n.publish()
    record_baseline(n.context, reason="good enough", by="a test")
    before = sent(simulator)
    later = night(
        day=NEXT,
        output=n.context.workload.spec.model_dump(mode="json")["output"],
        checks="my_checks:Frame",
        gates={"golden_drop_points": 50},
        reuse=True,
    )
    card = later.settle()
    assert card.reused == len(promoted(n))
    assert sent(simulator) < 2 * before
    summary = grade(later.context)
    assert summary.golden is not None
    assert summary.golden.paired is not None


def test_a_file_that_is_lost_is_named_by_its_address(
    simulate: Simulate, night: MakeNight, bucket: str
) -> None:
    simulate()
    n = night()
    n.submit()
    n.wait()
    n.collect()
    record = n.context.record()
    folder = LoadFolder.configured(n.context.settings, record.workload, record.load, 1)
    folder.dispositions.unlink()
    with pytest.raises(Exception, match=r"s3://.*dispositions\.parquet is damaged or missing"):
        measure_load(n.context)
