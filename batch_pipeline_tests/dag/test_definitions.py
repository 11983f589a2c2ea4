"""What Dagster is told: the whole graph as a snapshot, so that no change to it goes unseen."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from syrupy.assertion import SnapshotAssertion

from batch_pipeline.settings import project_root


@pytest.fixture(scope="module")
def definitions() -> dg.Definitions:
    from batch_pipeline.definitions import defs

    resolved = defs()
    assert isinstance(resolved, dg.Definitions)
    return resolved


def test_all_definitions(definitions: dg.Definitions, snapshot: SnapshotAssertion) -> None:
    """Run pytest with --snapshot-update after a change that is meant."""
    repository = definitions.get_repository_def()
    graph = repository.asset_graph
    described: dict[str, Any] = {
        "assets": {
            key.to_user_string(): _asset(graph.get(key))
            for key in sorted(graph.get_all_asset_keys())
        },
        "checks": {
            key.to_user_string(): {
                "blocking": graph.get_check_spec(key).blocking,
                "description": graph.get_check_spec(key).description,
            }
            for key in sorted(graph.asset_check_keys, key=str)
        },
        "jobs": {
            job.name: sorted(key.to_user_string() for key in job.asset_layer.executable_asset_keys)
            for job in repository.get_all_jobs()
            if not job.name.startswith("__")
        },
        "sensors": {
            sensor.name: [sensor.default_status.value, sorted(t.job_name for t in sensor.targets)]
            for sensor in repository.sensor_defs
        },
        "schedules": {
            schedule.name: [
                schedule.cron_schedule,
                schedule.job_name,
                schedule.default_status.value,
            ]
            for schedule in repository.schedule_defs
        },
    }
    assert described == snapshot


def test_every_asset_is_described_owned_grouped_and_has_columns(
    definitions: dg.Definitions,
) -> None:
    graph = definitions.get_repository_def().asset_graph
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.description, key
        assert node.owners, key
        assert node.kinds, key
        assert len(node.kinds) <= 3, key
        assert node.group_name == key.path[0], key
        if key.path[1] != "source_rows":  # its columns are known once it was read
            assert "dagster/column_schema" in node.metadata, key


def test_the_projects_dagster_yaml_says_what_the_packaged_one_says() -> None:
    top = yaml.safe_load((project_root() / "dagster.yaml").read_text())
    packaged = yaml.safe_load(
        (project_root() / "batch_pipeline" / "dag" / "instance.yaml").read_text()
    )
    places = {"storage", "local_artifact_storage", "compute_logs"}
    assert {name: value for name, value in top.items() if name not in places} == packaged


def _asset(node: Any) -> dict[str, Any]:
    return {
        "deps": sorted(key.to_user_string() for key in node.parent_keys),
        "group": node.group_name,
        "kinds": sorted(node.kinds),
        "owners": list(node.owners),
        "partitions": type(node.partitions_def).__name__,
        "pools": sorted(node.pools or ()),
    }


def test_dagsters_own_tools_accept_the_project() -> None:
    """Its validator with the project's workspace.yaml, and `dg` with its pyproject.toml."""
    environment = {**os.environ, "DG_CLI_TELEMETRY_ENABLED": "false"}
    for command in (["dagster", "definitions", "validate"], ["dg", "list", "defs", "--json"]):
        done = subprocess.run(
            [str(Path(sys.executable).with_name(command[0])), *command[1:]],
            cwd=project_root(),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    listed = json.loads(done.stdout[done.stdout.index("{") :])
    assert len(listed["assets"]) == 7
    assert {job["name"] for job in listed["jobs"]} == {
        "support_tickets__submit",
        "support_tickets__collect",
        "support_tickets__publish",
        "support_tickets__rollback",
        "support_tickets__bakeoff",
        "support_tickets__cancel",
        "support_tickets__watch",
    }
