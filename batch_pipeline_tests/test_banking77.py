"""Real input: 3,080 customer questions in 77 intents, through two tiers to promotion."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from batch_pipeline.cli import main
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.banking77 import GOLDEN_ROWS, NAME, write_workload
from batch_pipeline_tests.night import DAY

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "banking77.csv"


@pytest.fixture
def workload(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    if not DATA.is_file():
        warnings.warn(
            f"SKIPPED: {DATA} is missing, so nothing was tried on real input", stacklevel=1
        )
        pytest.skip(f"{DATA} is missing")
    folder = tmp_path / "workloads"
    with Simulator(write_workload(DATA, folder)) as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(folder))
        yield


@pytest.mark.usefixtures("workload")
def test_real_questions_reach_promotion_through_two_tiers() -> None:
    done = CliRunner().invoke(main, ["run", NAME, "--date", DAY, "--json"])

    assert done.exit_code == 0, done.stderr
    card = json.loads(done.stdout)
    assert card["source_rows"] == 3080 == sum(card["dispositions"].values())
    assert card["coverage"] == 1
    assert card["golden"]["n"] == GOLDEN_ROWS
    assert 0.85 <= card["golden"]["score"] <= 0.99
    assert 0.01 <= card["escalation_rate"] <= 0.06
    assert card["promoted_rows"] == card["dispositions"]["validated"]
    assert card["results"]["errored"]
    assert card["results"]["expired"]
