"""Dagster on several machines, with the instance's configuration of deploy/: one is lost, another finishes its loads.

Storage and ledger in Postgres, rows in an object store, code server, webserver and daemon on machines of their own.
"""

import logging
import os
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance import InstanceRef
from moto.server import ThreadedMotoServer

from batch_pipeline.dag.naming import job_name
from batch_pipeline.dag.run_worker import WORKER_TAG
from batch_pipeline.ledger.records import ChunkState
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline_tests.dag.dagster_processes import LOCATION, Ui
from batch_pipeline_tests.deploy.machines import Machine, Network, network
from batch_pipeline_tests.night import DAY, Night, account_of
from batch_pipeline_tests.object_store import ObjectStore
from batch_pipeline_tests.postgres import PASSWORD, USER, PostgresServer, required

DEPLOY = Path(__file__).parents[2] / "deploy"
BIN = Path(sys.executable).parent
WORKLOADS = ("first", "second", "third")
ROWS, GOLDEN, IN_A_BATCH = 16, 4, 10
STARTED, SUCCESS, FAILURE = (
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
)
# How the addresses end at which the code and the UI are found.
_CODE, _WEB = 10, 20


@dataclass
class Site:
    """The machines, and what all of them are told."""

    network: Network
    folder: Path

    def code_server(self, name: str) -> Machine:
        """Runs are processes of its machine. The next one takes the address of the one before, and nothing else."""
        machine = self.network.machine(name, _CODE)
        code = ["--module-name", "batch_pipeline.definitions", "--location-name", LOCATION]
        listening = ["--host", machine.address, "--port", "4000"]
        self._start(machine, "dagster", "api", "grpc", *listening, *code)
        return machine

    def ui(self) -> Ui:
        """Of a webserver that has a machine with the daemon."""
        machine = self.network.machine("web", _WEB)
        workspace = ["--workspace", str(DEPLOY / "workspace.yaml")]
        web = ["--host", machine.address, "--port", "3000"]
        self._start(machine, "dagster-webserver", *web, *workspace)
        self._start(machine, "dagster-daemon", "run", *workspace)
        return Ui(f"{machine.address}:3000", self.folder)

    def _start(self, machine: Machine, program: str, *arguments: str) -> None:
        state = self.folder / machine.name
        home = state / "home"
        home.mkdir(parents=True, mode=0o700, exist_ok=True)
        shutil.copy(DEPLOY / "dagster.hosts.yaml", home / "dagster.yaml")
        told = {**os.environ, "DAGSTER_HOME": str(home), "BATCH_PIPELINE_STATE": str(state)}
        log = self.folder / f"{machine.name}-{program}.log"
        machine.start([str(BIN / program), *arguments], told, log)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with network() as lan, _postgres(lan.here) as server, _object_store(lan.here) as store:
        database = server.database()
        for name, value in {
            **store.environment(),
            "BATCH_PIPELINE_ROWS": f"{store.bucket('rows')}/nights",
            "BATCH_PIPELINE_LEDGER": server.url(server.database()),
            "BATCH_PIPELINE_POLL_SECONDS": "3",
            "BATCH_PIPELINE_GRACE_SECONDS": "3",
            "BATCH_PIPELINE_AT_ONCE": "1",
            "BATCH_PIPELINE_CODE_HOST": lan.address(_CODE),
            "DAGSTER_POSTGRES_HOST": server.host,
            "DAGSTER_POSTGRES_PORT": str(server.port),
            "DAGSTER_POSTGRES_USER": USER,
            "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
            "DAGSTER_POSTGRES_DB": database,
        }.items():
            monkeypatch.setenv(name, value)
        yield Site(lan, tmp_path)


@contextmanager
def _postgres(address: str) -> Iterator[PostgresServer]:
    required()
    with tempfile.TemporaryDirectory(prefix="batch-pipeline-postgres-") as folder:
        server = PostgresServer(Path(folder), address)
        # As made, it lets in none but this machine.
        with (Path(folder) / "data" / "pg_hba.conf").open("a") as file:
            file.write("host all all samenet scram-sha-256\n")
        server.start()
        try:
            yield server
        finally:
            server.stop()


@contextmanager
def _object_store(address: str) -> Iterator[ObjectStore]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address=address, port=0, verbose=False)
    server.start()
    try:
        yield ObjectStore("http://{}:{}".format(*server.get_host_and_port()))
    finally:
        server.stop()


@contextmanager
def _instance(folder: Path) -> Iterator[dg.DagsterInstance]:
    shutil.copy(DEPLOY / "dagster.hosts.yaml", folder / "dagster.yaml")
    with dg.DagsterInstance.from_ref(InstanceRef.from_dir(str(folder))) as instance:
        yield instance


@pytest.mark.timeout(1200)
def test_three_loads_of_a_machine_that_is_lost_while_it_sends_are_finished_by_another(
    site: Site,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
) -> None:
    # Each load's first batch is made, and the answer never comes; its second is not sent yet.
    simulator = simulate(
        turnaround_seconds=20,
        calls=[
            {
                "on": "create",
                "fault": "hang",
                "nth": [1, 2, 3],
                "seconds": 300,
                "when": "after_accepting",
            }
        ],
    )
    port = site.network.passing_on(int(simulator.base_url.rpartition(":")[2]))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://{site.network.here}:{port}")
    limits = {"max_requests": IN_A_BATCH}
    nights = [night(name=name, count=ROWS, golden=GOLDEN, limits=limits) for name in WORKLOADS]
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(nights[0].folder.parent))

    with ExitStack() as stack:
        # It makes the tables, which several processes at once would only wait for.
        instance = stack.enter_context(_instance(tmp_path))
        lost = site.code_server("lost")
        _wait_for_code(site)
        ui = site.ui()
        ui.wait_for(ui.answers, "the webserver to load the code location", 180)
        for name in WORKLOADS:
            ui.launch(job_name(name, "submit"), DAY)
        ui.wait_for(lambda: all(map(_answer_is_out, nights)), "every load to be in a POST", 180)
        submits = {job_name(name, "submit") for name in WORKLOADS}
        begun = [run for run in instance.get_runs() if run.job_name in submits]
        assert {run.status for run in begun} == {STARTED}

        lost.lose()
        site.code_server("next")

        ui.wait_for(lambda: all(map(_promoted, nights)), "all loads to be promoted", 800)
        under_way = dg.RunsFilter(statuses=[STARTED])
        ui.wait_for(lambda: not instance.get_runs_count(under_way), "the last run to end", 180)
        runs = instance.get_runs()

    # Nobody had to end a run by hand, and what the lost machine had begun the next one went on with.
    begun_there = {run.run_id for run in begun}
    assert {run.status for run in runs if run.run_id in begun_there} == {FAILURE}
    went_on = [run for run in runs if run.job_name.endswith(("__collect", "__publish"))]
    assert {run.status for run in went_on} == {SUCCESS}
    if site.network.apart:
        assert {run.tags[WORKER_TAG].partition(":")[0] for run in went_on} == {"next"}
    # Every batch that the API has made is one of the ledger's, and each row was asked once.
    account = account_of(simulator)
    known = [batch for one in nights for batch in one.ledger.batches(one.context.record())]
    assert {batch["id"] for batch in account["batches"]} == {batch.batch_id for batch in known}
    assert sum(batch["requests"] for batch in account["batches"]) == len(WORKLOADS) * (
        ROWS + GOLDEN
    )
    for one in nights:
        card = measure_load(one.context).to_json()
        assert card["coverage"] == 1.0
        assert card["promoted_rows"] == ROWS


def _wait_for_code(site: Site) -> None:
    """As compose.yaml has it: a daemon that finds no code looks again after a minute."""
    place = (site.network.address(_CODE), 4000)
    until = time.monotonic() + 120
    while True:
        try:
            socket.create_connection(place, 1).close()
            return
        except OSError:
            assert time.monotonic() < until, "the code server does not listen"
            time.sleep(0.2)


def _answer_is_out(night: Night) -> bool:
    """Whether some of the load is sent, and the answer to the rest of it is being waited for."""
    record = night.ledger.load(night.context.workload.name, night.context.load)
    if record is None:
        return False
    return any(chunk.state is ChunkState.INTENT for chunk in night.ledger.chunks(record))


def _promoted(night: Night) -> bool:
    record = night.ledger.load(night.context.workload.name, night.context.load)
    return record is not None and record.promoted_at is not None
