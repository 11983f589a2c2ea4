"""What survives: a stop, a kill, a second simulator on the same folder."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anthropic
import pytest
from anthropic import Anthropic

from batch_pipeline.simulator import Simulator, SimulatorError

from .asking import account, client_of, ended, lines, params, requests, results, send
from .conftest import Simulate

SERVE = """
import sys
from pathlib import Path
from batch_pipeline.simulator import serve
serve(0, Path(sys.argv[1]), Path(sys.argv[2]), lambda url: print(url, flush=True))
print("ended")
"""


@contextmanager
def _process(scenario: Path, state: Path) -> Iterator[tuple[subprocess.Popen[str], Anthropic]]:
    """A simulator in a process of its own, and a client of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(scenario), str(state)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:"), process.communicate()[1]
        yield process, Anthropic(base_url=url, api_key="k", max_retries=0)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "scenario.yaml"
    path.write_text(
        "turnaround_seconds: 0.5\n"
        "rows: [{contains: x, times: 2, fault: server_error}]\n"
        "calls: [{on: create, nth: 2, fault: status, status: 529}]\n"
    )
    return path


def test_an_accepted_batch_survives_a_kill(tmp_path: Path, scenario: Path) -> None:
    with _process(scenario, tmp_path / "state") as (process, client):
        first = client.messages.batches.create(requests=requests("a", "x"))  # type: ignore[arg-type]
        process.send_signal(signal.SIGKILL)
        process.wait()
    with _process(scenario, tmp_path / "state") as (_, client):
        batch = ended(client, first.id)
        assert batch.created_at == first.created_at
        assert batch.request_counts.succeeded == 1
        assert batch.request_counts.errored == 1
        found = {r.custom_id for r in client.messages.batches.results(first.id)}
        assert found == {"r0", "r1"}


def test_counts_of_rules_survive_a_kill(tmp_path: Path, scenario: Path) -> None:
    def type_of(client: Anthropic) -> str:
        return str(results(client, requests("x"))["r0"].type)

    with _process(scenario, tmp_path / "state") as (process, client):
        assert type_of(client) == "errored"
        process.send_signal(signal.SIGKILL)
        process.wait()
    with _process(scenario, tmp_path / "state") as (_, client):
        with pytest.raises(anthropic.OverloadedError):
            type_of(client)
        assert type_of(client) == "errored"
        assert type_of(client) == "succeeded"


@pytest.mark.parametrize("sig", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_quietly(tmp_path: Path, scenario: Path, sig: signal.Signals) -> None:
    with _process(scenario, tmp_path / "state") as (process, client):
        send(client, requests("a"))
        process.send_signal(sig)
        out, err = process.communicate(timeout=20)
    assert (out, err, process.returncode) == ("ended\n", "", 0)


def test_results_and_account_are_the_same_after_a_restart(
    simulate: Simulate, tmp_path: Path
) -> None:
    first = simulate(tmp_path / "state", models={"*": {"wrong": 0.2, "expired": 0.1}})
    client = client_of(first)
    batch = send(client, requests(*(f"row {i}" for i in range(50))))
    deleted = send(client, requests("a"))
    client.messages.batches.delete(deleted.id)
    client.messages.create(**params())
    wire, bill = lines(first, batch.id), account(first)
    first.stop()

    second = simulate(tmp_path / "state")
    bill["calls"]["results"] = account(second)["calls"]["results"]
    assert account(second) == bill
    assert lines(second, batch.id) == wire
    with pytest.raises(anthropic.NotFoundError):
        client_of(second).messages.batches.retrieve(deleted.id)


def test_a_cancellation_survives_a_restart(simulate: Simulate, tmp_path: Path) -> None:
    first = simulate(tmp_path / "state", turnaround_seconds=60, cancel_seconds=0.5)
    client = client_of(first)
    batch = client.messages.batches.create(requests=requests("a"))  # type: ignore[arg-type]
    client.messages.batches.cancel(batch.id)
    first.stop()
    second = simulate(tmp_path / "state")
    assert ended(client_of(second), batch.id).request_counts.canceled == 1


def test_a_new_batch_follows_the_old_ones(simulate: Simulate, tmp_path: Path) -> None:
    first = simulate(tmp_path / "state")
    old = send(client_of(first), requests("a")).id
    first.stop()
    client = client_of(simulate(tmp_path / "state"))
    new = send(client, requests("a")).id
    assert [b.id for b in client.messages.batches.list()] == [new, old]


def test_two_simulators_do_not_share_a_folder(simulate: Simulate, tmp_path: Path) -> None:
    simulate(tmp_path / "state")
    with pytest.raises(SimulatorError, match="another simulator uses this state folder"):
        Simulator(state_dir=tmp_path / "state").start()


def test_a_folder_that_is_a_file_gets_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("x")
    with pytest.raises(SimulatorError, match="cannot keep the simulator's state here"):
        Simulator(state_dir=tmp_path / "state").start()


def test_without_a_folder_nothing_is_left(simulate: Simulate, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tempfile.tempdir", str(tmp_path))
        simulator = simulate()
        send(client_of(simulator), requests("a"))
        assert any(tmp_path.iterdir())
        simulator.stop()
    assert not any(tmp_path.iterdir())


def test_importing_the_package_does_not_import_the_server() -> None:
    code = "import sys, batch_pipeline.simulator; print('uvicorn' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
