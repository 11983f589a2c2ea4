"""The benchmark's contestants do the same work, and what is said of them is true."""

import json
import os
import sys
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from batch_pipeline_tests.bench.__main__ import bench, bench_server, compare
from batch_pipeline_tests.bench.inputs import Inputs, make_inputs
from batch_pipeline_tests.bench.process import run_watched

ROWS = 300


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    return make_inputs(tmp_path_factory.mktemp("bench"), ROWS, "short")


def test_all_promote_the_same_rows_at_the_same_cost(inputs: Inputs) -> None:
    """`compare` refuses to compare where they do not."""
    found = compare(inputs, ("floor", "plain", "stages"), repeats=1)
    figures = found["contestants"]
    assert all(one["stages"] and one["peak_mb"] > 50 for one in figures.values())
    assert found["ratios"]["c/a"] == figures["stages"]["seconds"] / figures["floor"]["seconds"]
    assert set(found["ratios"]) == {"c/a", "b/c"}


def test_the_figures_are_printed_and_written(tmp_path: Path) -> None:
    to = tmp_path / "bench.json"
    asked = ["--rows", "50", "--only", "floor", "--repeats", "1", "--json", str(to)]
    done = CliRunner().invoke(bench, asked, catch_exceptions=False)
    assert "50 rows" in done.output and "a floor" in done.output
    [result] = json.loads(to.read_text())["results"]
    assert result["contestants"]["floor"]["rows_per_second"] > 0


def test_the_long_shape_has_a_prefix_of_40_000_tokens_and_texts_of_its_own(tmp_path: Path) -> None:
    inputs = make_inputs(tmp_path, 10, "long")
    assert inputs.system.stat().st_size == 160_000
    with duckdb.connect() as connection:
        texts = connection.execute(f"SELECT count(DISTINCT text) FROM '{inputs.source}'")
        assert texts.fetchall() == [(10,)]


def test_memory_and_time_are_those_of_the_whole_tree() -> None:
    child = "import time; x = bytearray(80_000_000); time.sleep(0.5)"
    parent = f"import subprocess, sys; x = bytearray(80_000_000); subprocess.run([sys.executable, '-c', {child!r}])"
    taken = run_watched([sys.executable, "-c", parent], os.environ)
    assert taken.peak_mb > 160
    assert taken.wall_seconds > 0.5


def test_a_contestant_that_fails_ends_the_benchmark() -> None:
    with pytest.raises(SystemExit, match="out of luck"):
        run_watched([sys.executable, "-c", "raise SystemExit('out of luck')"], os.environ)


def test_the_server_tells_every_contestant_the_same() -> None:
    import anthropic

    with bench_server() as url:
        client = anthropic.Anthropic(base_url=url, api_key="bench", max_retries=0)
        request = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "x"}]}
        answers = []
        for token in ("one", "two"):
            created = client.messages.batches.create(
                requests=[{"custom_id": f"{token}-{n}", "params": request} for n in range(200)]  # type: ignore[typeddict-item]
            )
            batch = client.messages.batches.retrieve(created.id)
            assert (batch.processing_status, batch.request_counts.errored) == ("ended", 2)
            lines = {
                line.custom_id.removeprefix(token): line.result
                for line in client.messages.batches.results(batch.id)
            }
            assert len(lines) == 200
            answers.append(lines)
    assert answers[0] == answers[1]
