"""What deploy/ says, held against Dagster, the settings and the definitions, and Docker's own tool where there is one."""

import os
import re
import shutil
import subprocess
from dataclasses import fields
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml
from dagster._config import process_config
from dagster._core.instance import DagsterInstance, InstanceRef
from dagster._core.instance.config import dagster_instance_config
from dagster._core.workspace.load_target import WorkspaceFileTarget
from dagster_docker import DockerRunLauncher
from dagster_k8s.job import DagsterK8sJobConfig

from batch_pipeline.dag.build import build_definitions
from batch_pipeline.dag.naming import LOAD_TAG, WAREHOUSE_POOL, WORKLOAD_TAG
from batch_pipeline.settings import Settings, project_root
from batch_pipeline_tests.night import Night
from batch_pipeline_tests.postgres import PASSWORD, USER, PostgresServer

DEPLOY = project_root() / "deploy"
INSTANCES = ("dagster.hosts.yaml", "dagster.docker.yaml")
# Others' variables: of the SDK, libpq, the object store's client, Dagster, and Compose's own example.
OTHERS = {
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_BASE_URL",
    "PGPASSWORD",
    "AWS_ENDPOINT_URL",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_DEFAULT_REGION",
    "DAGSTER_HOME",
    "DAGSTER_CURRENT_IMAGE",
}
# What only the files of deploy/ name, to each other.
BETWEEN_FILES = {"BATCH_PIPELINE_CODE_HOST", "BATCH_PIPELINE_IMAGE"}


def loaded(name: str) -> Any:
    return yaml.safe_load((DEPLOY / name).read_text(encoding="utf-8"))


@pytest.fixture
def in_postgres(postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The variables that the instances name."""
    for name, value in {
        "DAGSTER_POSTGRES_HOST": postgres.host,
        "DAGSTER_POSTGRES_PORT": str(postgres.port),
        "DAGSTER_POSTGRES_USER": USER,
        "DAGSTER_POSTGRES_PASSWORD": PASSWORD,
        "DAGSTER_POSTGRES_DB": postgres.database(),
        "BATCH_PIPELINE_STATE": str(tmp_path),
    }.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("name", INSTANCES)
def test_dagster_opens_an_instance_with_the_file_and_keeps_its_history_in_postgres(
    name: str, tmp_path: Path, in_postgres: None
) -> None:
    shutil.copy(DEPLOY / name, tmp_path / "dagster.yaml")
    # Its folders are the image's.
    elsewhere = {"base_dir": str(tmp_path)}
    overrides = {
        "local_artifact_storage": {
            "module": "dagster._core.storage.root",
            "class": "LocalArtifactStorage",
            "config": elsewhere,
        }
    }
    with DagsterInstance.from_ref(InstanceRef.from_dir(str(tmp_path), overrides=overrides)) as made:
        assert type(made.run_storage).__name__ == "PostgresRunStorage"
        assert type(made.event_log_storage).__name__ == "PostgresEventLogStorage"
        assert made.run_monitoring_enabled
        concurrency = made.get_concurrency_config()
        assert concurrency.pool_config.default_pool_limit == 1
        if "docker" in name:
            assert isinstance(made.run_launcher, DockerRunLauncher)


@pytest.mark.parametrize("name", INSTANCES)
def test_password_and_keys_come_from_the_environment_alone(name: str) -> None:
    database = loaded(name)["storage"]["postgres"]["postgres_db"]
    assert database["password"] == {"env": "DAGSTER_POSTGRES_PASSWORD"}
    # SQLAlchemy takes a bare `postgresql` for another driver than the one that Dagster brings.
    assert database["scheme"] == "postgresql+psycopg2"


def instance_of_the_chart() -> dict[str, Any]:
    """The dagster.yaml that Dagster's chart makes of our values."""
    values = loaded("helm/values.yaml")
    database = values["postgresql"]
    monitoring = values["dagsterDaemon"]["runMonitoring"]
    sensors, schedules = (values["dagsterDaemon"][kind] for kind in ("sensors", "schedules"))
    return {
        "storage": {
            "postgres": {
                "postgres_db": {
                    "username": database["postgresqlUsername"],
                    "password": {"env": "DAGSTER_PG_PASSWORD"},
                    "hostname": database["postgresqlHost"],
                    "db_name": database["postgresqlDatabase"],
                    "scheme": database["postgresqlScheme"],
                    "params": database["postgresqlParams"],
                }
            }
        },
        "run_coordinator": {
            "module": "dagster.core.run_coordinator",
            "class": "QueuedRunCoordinator",
        },
        "run_monitoring": {
            "enabled": monitoring["enabled"],
            "start_timeout_seconds": monitoring["startTimeoutSeconds"],
            "cancel_timeout_seconds": monitoring["cancelTimeoutSeconds"],
            "max_resume_run_attempts": monitoring["maxResumeRunAttempts"],
            "poll_interval_seconds": monitoring["pollIntervalSeconds"],
            "free_slots_after_run_end_seconds": monitoring["freeSlotsAfterRunEndSeconds"],
        },
        "sensors": {"use_threads": sensors["useThreads"], "num_workers": sensors["numWorkers"]},
        "schedules": {
            "use_threads": schedules["useThreads"],
            "num_workers": schedules["numWorkers"],
        },
        "retention": {
            kind: {"purge_after_days": values["retention"][kind]["purgeAfterDays"]}
            for kind in ("sensor", "schedule")
        },
        **values["additionalInstanceConfig"],
    }


def test_dagster_accepts_what_its_chart_makes_of_the_values(tmp_path: Path) -> None:
    made = instance_of_the_chart()
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(made), encoding="utf-8")

    config, _ = dagster_instance_config(str(tmp_path))

    assert config["concurrency"] == made["concurrency"]


def test_the_kubernetes_launcher_accepts_what_the_values_say_of_runs() -> None:
    launcher = loaded("helm/values.yaml")["runLauncher"]["config"]["k8sRunLauncher"]
    runs = launcher["runK8sConfig"]
    config = {
        "service_account_name": "dagster",
        "dagster_home": "/opt/dagster/dagster_home",
        "instance_config_map": "dagster-instance",
        "postgres_password_secret": "batch-pipeline-postgres",
        "image_pull_policy": launcher["imagePullPolicy"],
        "run_k8s_config": {
            "pod_spec_config": runs["podSpecConfig"],
            "job_spec_config": runs["jobSpecConfig"],
        },
    }

    schema: Any = DagsterK8sJobConfig
    outcome = process_config(schema.config_type_run_launcher(), config)

    assert outcome.success, outcome.errors


def test_a_run_that_lost_its_process_is_not_resumed_where_the_sensor_launches_the_next() -> None:
    monitoring = [
        *(loaded(name)["run_monitoring"] for name in INSTANCES),
        instance_of_the_chart()["run_monitoring"],
    ]
    for one in monitoring:
        assert one["enabled"]
        assert one.get("max_resume_run_attempts", 0) == 0
        assert one["free_slots_after_run_end_seconds"] > 0


@pytest.mark.parametrize("name", [*INSTANCES, "helm/values.yaml"])
def test_limits_are_on_tags_and_pools_that_the_definitions_have(name: str, night: Any) -> None:
    made: Night = night()
    definitions = build_definitions(made.context.workload)
    pools = {
        pool
        for asset in definitions.resolve_asset_graph().assets_defs
        for pool in asset.node_def.pools
    }
    text = (DEPLOY / name).read_text(encoding="utf-8")
    named = set(re.findall(r"`(batch_pipeline_\w+)` is the only pool", text))
    concurrency = loaded(name).get("concurrency") or instance_of_the_chart()["concurrency"]
    keys = {limit["key"] for limit in concurrency["runs"]["tag_concurrency_limits"]}

    assert pools == named == {WAREHOUSE_POOL}
    assert keys == {LOAD_TAG, WORKLOAD_TAG}


def variables_of_settings() -> set[str]:
    return {f"BATCH_PIPELINE_{field.name.upper()}" for field in fields(Settings)}


def test_every_variable_that_a_file_names_is_read_by_something() -> None:
    known = variables_of_settings() | OTHERS | BETWEEN_FILES
    for path in sorted(DEPLOY.rglob("*")):
        if not path.is_file() or path.suffix == ".md":
            continue
        text = path.read_text(encoding="utf-8")
        named = set(re.findall(r"\b(?:BATCH_PIPELINE|ANTHROPIC|AWS)_[A-Z_]+|\bPGPASSWORD\b", text))
        assert named <= known, path.name


def compose() -> dict[str, Any]:
    found: dict[str, Any] = loaded("compose.yaml")
    return found


def test_every_variable_that_a_run_is_given_is_one_of_the_daemons() -> None:
    """Docker's launcher fails a run for one that the daemon does not have."""
    given = set(loaded("dagster.docker.yaml")["run_launcher"]["config"]["env_vars"])
    for service in ("daemon", "webserver", "code"):
        assert given <= set(compose()["services"][service]["environment"])


def test_runs_are_on_the_network_and_the_volume_of_the_services() -> None:
    launcher = loaded("dagster.docker.yaml")["run_launcher"]["config"]
    volume, _, place = launcher["container_kwargs"]["volumes"][0].partition(":")

    assert compose()["networks"][launcher["network"]]["name"] == launcher["network"]
    assert compose()["volumes"]["state"]["name"] == volume
    assert f"state:{place}" in compose()["services"]["code"]["volumes"]
    assert f"BATCH_PIPELINE_STATE={place}" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def test_the_code_server_is_where_the_workspace_looks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_CODE_HOST", "code")
    [origin] = WorkspaceFileTarget(paths=[str(DEPLOY / "workspace.yaml")]).create_origins()

    assert (origin.host, origin.port) == ("code", 4000)  # type: ignore[attr-defined]
    assert origin.location_name == "batch_pipeline"
    command = (DEPLOY / "Dockerfile").read_text(encoding="utf-8").partition("CMD")[2]
    assert '"--port", "4000"' in command
    assert (
        compose()["services"]["daemon"]["environment"]["BATCH_PIPELINE_CODE_HOST"]
        in compose()["services"]
    )


def test_what_the_image_copies_is_there_and_let_through_to_the_builder() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    let_through = [
        line.removeprefix("!")
        for line in (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    ]
    for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.MULTILINE):
        *sources, _ = [word for word in line.split() if not word.startswith("--")]
        for source in sources:
            assert (project_root() / source).exists(), source
            assert source in let_through


def test_the_image_installs_what_the_lock_pins_and_does_not_run_as_root() -> None:
    text = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
    pinned = (project_root() / "requirements-dev.lock").read_text(encoding="utf-8")

    assert "--constraint requirements-dev.lock" in text
    for name in ("dagster-postgres", "dagster-docker", "dagster-k8s", "psycopg", "s3fs"):
        assert re.search(rf"^{name}(\[\w+\])?==", pinned, re.MULTILINE), name
    stages = text.split("\nFROM ")
    assert re.search(r"^USER [1-9]\d*$", stages[-1], re.MULTILINE)


def test_the_chart_is_asked_for_in_dagsters_own_version() -> None:
    text = (DEPLOY / "helm" / "values.yaml").read_text(encoding="utf-8")
    assert f"--version {dg.__version__} " in text


@pytest.fixture
def docker_compose() -> str:
    found = shutil.which("docker-compose")
    if found is None:
        pytest.skip(
            "docker-compose is not installed, so compose.yaml is read by no tool of its own"
        )
    return found


def test_compose_reads_the_file(docker_compose: str, tmp_path: Path) -> None:
    done = _composed(docker_compose, tmp_path, POSTGRES_PASSWORD="x", ANTHROPIC_API_KEY="y", DOCKER_GROUP="1")  # fmt: skip
    assert done.returncode == 0, done.stderr
    services = yaml.safe_load(done.stdout)["services"]
    assert {"postgres", "code", "webserver", "daemon", "minio", "bucket"} == set(services)
    assert services["code"]["environment"]["PGPASSWORD"] == "x"


def test_compose_says_what_is_not_filled_in(docker_compose: str, tmp_path: Path) -> None:
    done = _composed(docker_compose, tmp_path)
    assert done.returncode != 0
    assert "set it in .env" in done.stderr


def _composed(program: str, folder: Path, **environment: str) -> "subprocess.CompletedProcess[str]":
    # The first release of Compose, which Debian has, knows no name at the top.
    without_name = {key: value for key, value in compose().items() if key != "name"}
    (folder / "compose.yaml").write_text(yaml.safe_dump(without_name), encoding="utf-8")
    return subprocess.run(
        [program, "--file", "compose.yaml", "--profile", "s3", "config"],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )
