"""Dagster's webserver and daemon as real processes on loopback, and the GraphQL calls that the UI makes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

LOCATION = "batch_pipeline"
REPOSITORY = "__repository__"

_LAUNCH = """
mutation ($params: ExecutionParams!) { launchRun(executionParams: $params) {
  __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  ... on RunConfigValidationInvalid { errors { message } } } }
"""
_BACKFILL = """
mutation ($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }
"""


class Ui:
    """A webserver, asked as the UI asks it. `logs` are shown when something is waited for in vain."""

    def __init__(self, address: str, logs: Path) -> None:
        self.address = address
        self._logs = logs

    def launch(self, job: str, load: str) -> str:
        """Launches a job for a partition as the UI does; returns the run's id."""
        selector = {
            "repositoryLocationName": LOCATION,
            "repositoryName": REPOSITORY,
            "jobName": job,
        }
        tags = [{"key": "dagster/partition", "value": load}]
        answer = self.query(
            _LAUNCH,
            params={
                "selector": selector,
                "mode": "default",
                "runConfigData": "{}",
                "executionMetadata": {"tags": tags},
            },
        )["launchRun"]
        assert answer["__typename"] == "LaunchRunSuccess", answer
        return str(answer["run"]["runId"])

    def backfill(self, job: str, loads: list[str]) -> str:
        selector = {
            "partitionSetName": f"{job}_partition_set",
            "repositorySelector": {
                "repositoryLocationName": LOCATION,
                "repositoryName": REPOSITORY,
            },
        }
        answer = self.query(_BACKFILL, params={"selector": selector, "partitionNames": loads})
        launched = answer["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def query(self, text: str, **variables: Any) -> dict[str, Any]:
        request = urllib.request.Request(
            f"http://{self.address}/graphql",
            data=json.dumps({"query": text, "variables": variables}).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as response:
            answer = json.load(response)
        assert "errors" not in answer, answer["errors"]
        data: dict[str, Any] = answer["data"]
        return data

    def wait_for(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Polls `condition`; fails with the processes' logs when it does not come true in time."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if condition():
                return
            time.sleep(0.5)
        logs = "\n".join(log.read_text()[-4000:] for log in self._logs.glob("*.log"))
        raise AssertionError(f"waited {seconds:.0f} s for {what}\n{logs}")

    def answers(self) -> bool:
        try:
            answer = self.query(
                "{ repositoriesOrError { ... on RepositoryConnection { nodes { name } } } }"
            )
        except OSError:
            return False
        return bool(answer["repositoriesOrError"].get("nodes"))


class DagsterProcesses(Ui):
    """Webserver and daemon on one instance; both end with the context."""

    def __init__(self, home: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        super().__init__(f"127.0.0.1:{self.port}", home)
        self._home = home
        self._processes: list[subprocess.Popen[bytes]] = []

    def __enter__(self) -> "DagsterProcesses":
        workspace = self._home / "workspace.yaml"
        module = {"module_name": "batch_pipeline.definitions", "location_name": LOCATION}
        workspace.write_text(yaml.safe_dump({"load_from": [{"python_module": module}]}))
        web = ["dagster-webserver", "-h", "127.0.0.1", "-p", str(self.port)]
        for command in (
            [*web, "-w", str(workspace)],
            ["dagster-daemon", "run", "-w", str(workspace)],
        ):
            with (self._home / f"{command[0]}.log").open("wb") as log:
                self._processes.append(
                    subprocess.Popen(
                        [str(Path(sys.executable).with_name(command[0])), *command[1:]],
                        env={**os.environ, "DAGSTER_HOME": str(self._home)},
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        self.wait_for(self.answers, "the webserver to load the code location", 120)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process in self._processes:
            process.send_signal(signal.SIGINT)
        for process in self._processes:
            with suppress(subprocess.TimeoutExpired):
                process.wait(30)
            # Its code server outlives it, and would idle for minutes.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
