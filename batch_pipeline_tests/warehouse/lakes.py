"""DuckLakes for the tests: a database each in a Postgres of ours, and the overlay with DuckDB's extensions."""

import os
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from batch_pipeline.settings import Settings, project_root

# Where the second process finds its Postgres: libpq's words, without a database.
LAKES = "BATCH_PIPELINE_TEST_LAKES"
OVERLAY = project_root() / ".venv" / "ducklake"


def overlay() -> Path:
    """The folder of the DuckDB that has extensions. Without it the test is skipped with a word, or fails where CI asks."""
    if (OVERLAY / "duckdb_extension_ducklake").is_dir():
        return OVERLAY
    missing = (
        f"{OVERLAY} is missing (`make ducklake` builds it), so nothing is tested on a DuckLake"
    )
    if os.environ.get("BATCH_PIPELINE_REQUIRE_DUCKLAKE"):
        pytest.fail(missing)
    pytest.skip(missing)


def new_lake(server: str, state: Path, number: int) -> Settings:
    """The settings of a lake that nobody has made yet, in a database of its own."""
    name = f"lake_{os.getpid()}_{number}"
    made = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    with closing(psycopg.connect(f"{server} dbname=postgres", autocommit=True)) as connection:
        connection.execute(made)
    return Settings.from_environment(
        {
            "BATCH_PIPELINE_STATE": str(state),
            "BATCH_PIPELINE_WAREHOUSE": f"ducklake:postgres:{server} dbname={name}",
        }
    )


def with_overlay(environment: Mapping[str, str]) -> dict[str, str]:
    """An environment in which Python finds that DuckDB first."""
    paths = [str(overlay()), str(project_root()), environment.get("PYTHONPATH", "")]
    return {**environment, "PYTHONPATH": os.pathsep.join(p for p in paths if p)}


def python(
    *arguments: str, environment: Mapping[str, str] = os.environ, timeout: float = 240
) -> "subprocess.CompletedProcess[str]":
    """Runs Python with the overlay, to its end."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=with_overlay(environment),
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
