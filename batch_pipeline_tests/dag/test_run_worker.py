"""How it is found out that whatever carried out a run is gone, and what the sensor makes of it."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import dagster as dg
import pytest

from batch_pipeline.dag.build import build_definitions
from batch_pipeline.dag.instance import end_abandoned_runs
from batch_pipeline.dag.naming import WORK_TAG, job_name
from batch_pipeline.dag.run_worker import LOCKED_TAG, PROCESS_TAG, WORKER_TAG, carrying_out, is_gone
from batch_pipeline.dag.sensor import MOST_LOST, MOST_TRIES, tried_in_vain
from batch_pipeline_tests.night import Night
from batch_pipeline_tests.postgres import PostgresServer, running

ELSEWHERE = "another-machine:4711"
# Carries out a run until it is killed, as a process of another machine that shares the ledger.
_CARRY = """
import sys, time
from batch_pipeline.dag.run_worker import carrying_out
with carrying_out(sys.argv[1]) as tags:
    print(*sorted(tags), flush=True)
    time.sleep(600)
"""


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as made:
        yield made


@pytest.fixture
def shared(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ledger that machines share, in a database that has been up for long enough."""
    monkeypatch.setattr("batch_pipeline.dag.run_worker._RENEW_SECONDS", 0.05)
    monkeypatch.setenv("BATCH_PIPELINE_LEDGER", postgres.url())


def started(made: Night, instance: dg.DagsterInstance, **tags: str) -> dg.DagsterRun:
    job = build_definitions(made.context.workload).resolve_job_def(job_name("questions", "submit"))
    return instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=tags)


def status(instance: dg.DagsterInstance, run: dg.DagsterRun) -> dg.DagsterRunStatus:
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    return found.status


def carried_elsewhere(run: dg.DagsterRun) -> "subprocess.Popen[str]":
    process = subprocess.Popen(
        [sys.executable, "-c", _CARRY, run.run_id], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert LOCKED_TAG in process.stdout.readline().split()
    return process


def test_a_run_outlives_a_restart_of_the_ledgers_database(
    night: Callable[..., Night], instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_pipeline.dag.run_worker._RENEW_SECONDS", 0.3)
    with running() as server:
        monkeypatch.setenv("BATCH_PIPELINE_LEDGER", server.url())
        made = night()
        run = started(made, instance, **{WORKER_TAG: ELSEWHERE, LOCKED_TAG: "yes"})
        with carrying_out(run.run_id):
            server.stop()
            server.start()
            until = time.monotonic() + 30
            while made.ledger.up_for() < 1.5:  # in which every lock is free, and shows nothing
                end_abandoned_runs(instance, "questions", made.ledger)
                assert time.monotonic() < until
            end_abandoned_runs(instance, "questions", made.ledger)
            assert status(instance, run) is dg.DagsterRunStatus.STARTED
        end_abandoned_runs(instance, "questions", made.ledger)
        assert status(instance, run) is dg.DagsterRunStatus.FAILURE


def test_a_run_on_a_machine_that_is_lost_is_ended_once_its_lock_in_the_ledger_is_free(
    shared: None, night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    made = night()
    run = started(made, instance, **{WORKER_TAG: ELSEWHERE, LOCKED_TAG: "yes"})
    process = carried_elsewhere(run)

    end_abandoned_runs(instance, "questions", made.ledger)
    alive = status(instance, run)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with made.ledger.try_hold("_runs", run.run_id, 30) as free:
        assert free  # the database has noticed
    end_abandoned_runs(instance, "questions", made.ledger)

    assert alive is dg.DagsterRunStatus.STARTED
    assert status(instance, run) is dg.DagsterRunStatus.FAILURE


def test_a_run_of_another_machine_without_a_shared_ledger_is_left_alone(
    night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    made = night()
    run = started(made, instance, **{WORKER_TAG: ELSEWHERE})
    end_abandoned_runs(instance, "questions", made.ledger)
    assert status(instance, run) is dg.DagsterRunStatus.STARTED


@pytest.mark.parametrize("tag", [WORKER_TAG, PROCESS_TAG])
def test_a_run_of_a_dead_process_of_this_machine_is_ended(
    night: Callable[..., Night], instance: dg.DagsterInstance, tag: str
) -> None:
    made = night()
    with carrying_out("any") as tags:
        host = tags[WORKER_TAG].rpartition(":")[0]
    process = subprocess.Popen(["true"])
    process.wait()
    run = started(made, instance, **{tag: f"{host}:{process.pid}"})
    end_abandoned_runs(instance, "questions", made.ledger)
    assert status(instance, run) is dg.DagsterRunStatus.FAILURE


def test_what_carries_out_a_run_is_alive_and_leaves_no_lock_behind(
    shared: None, night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    made = night()
    run = started(made, instance)
    with carrying_out(run.run_id) as tags:
        instance.add_run_tags(run.run_id, tags)
        tagged = instance.get_run_by_id(run.run_id)
        assert tagged is not None
        assert not is_gone(tagged, made.ledger)
    with made.ledger.try_hold("_runs", run.run_id) as free:
        assert free


def lost(made: Night, instance: dg.DagsterInstance, times: int, **tags: str) -> None:
    for _ in range(times):
        run = started(made, instance, **{WORK_TAG: "work", **tags})
        instance.report_run_failed(run)


def test_runs_whose_machine_was_lost_do_not_count_as_tries_but_for_ever_it_is_not_tried(
    night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    made = night()
    lost(made, instance, MOST_LOST, **{WORKER_TAG: ELSEWHERE})
    before = tried_in_vain(instance, "work")
    lost(made, instance, 1, **{WORKER_TAG: ELSEWHERE})
    assert not before
    assert tried_in_vain(instance, "work")


def test_runs_that_never_began_count_as_tries(
    night: Callable[..., Night], instance: dg.DagsterInstance
) -> None:
    made = night()
    lost(made, instance, MOST_TRIES)
    assert tried_in_vain(instance, "work")
