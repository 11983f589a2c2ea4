"""The built wheel, used from a Dagster project of a team's own with nothing but YAML."""

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from batch_pipeline.ledger.schema import VERSION
from batch_pipeline.settings import project_root
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import DAY, Night

TEAM_DEFINITIONS = """
from pathlib import Path
from dagster import definitions, load_from_defs_folder

@definitions
def defs():
    return load_from_defs_folder(path_within_project=Path(__file__).parent)
"""
TEAM_PROJECT = """
[tool.dg]
directory_type = "project"
[tool.dg.project]
root_module = "team"
"""
LIST_ASSETS = """
import batch_pipeline, team.definitions as d
print(batch_pipeline.__file__)
print(sorted(k.to_user_string() for k in d.defs().resolve_all_asset_keys()))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's content, unpacked as pip would."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--wheel-dir", str(folder), str(project_root())),
        ],
        check=True,
    )
    (built,) = folder.glob("*.whl")
    site = folder / "site"
    with zipfile.ZipFile(built) as archive:
        archive.extractall(site)
    return site


def run(site: Path, cwd: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{cwd}"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_it_holds_templates_prices_migrations_the_registry_entry_and_no_sample(wheel: Path) -> None:
    package = wheel / "batch_pipeline"
    assert (package / "report" / "templates" / "scorecard.html.j2").is_file()
    assert (package / "claude" / "prices.yaml").is_file()
    assert (package / "dag" / "instance.yaml").is_file()
    assert (package / "ledger" / "migrations" / "env.py").is_file()
    assert len(list((package / "ledger" / "migrations" / "versions").glob("v0*.py"))) == VERSION
    assert not (package / "defs" / "support_tickets").exists()
    (entry_points,) = wheel.glob("*.dist-info/entry_points.txt")
    text = entry_points.read_text()
    assert "[dagster_dg_cli.registry_modules]\nbatch_pipeline = batch_pipeline" in text
    assert list(wheel.glob("*.dist-info/licenses/LICENSE"))


def test_a_teams_dagster_project_declares_a_workload_in_yaml_alone(
    wheel: Path, night: Callable[..., Night], tmp_path: Path
) -> None:
    made = night()
    project = tmp_path / "project"
    (project / "team" / "defs").mkdir(parents=True)
    (project / "pyproject.toml").write_text(TEAM_PROJECT)
    (project / "team" / "__init__.py").touch()
    (project / "team" / "defs" / "__init__.py").touch()
    (project / "team" / "definitions.py").write_text(TEAM_DEFINITIONS)
    made.folder.rename(project / "team" / "defs" / "questions")

    done = run(wheel, project, "-c", LIST_ASSETS)

    assert done.returncode == 0, done.stderr
    package, keys = done.stdout.splitlines()
    assert package.startswith(str(wheel))
    assert "'questions/source_rows'" in keys
    assert "'questions/promoted_rows'" in keys


def test_its_command_line_runs_a_load(
    wheel: Path,
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    simulate()
    made = night()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))

    done = run(
        *(wheel, tmp_path, "-c", "from batch_pipeline.cli import main; main()"),
        *("run", "questions", "--date", DAY, "--json"),
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["promoted_rows"] == 12
