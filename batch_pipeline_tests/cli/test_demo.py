"""`make demo`'s command, from the outside."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from batch_pipeline_tests import forked
from batch_pipeline_tests.forked import BATCH_PIPELINE


@pytest.mark.timeout(300)
def test_it_promotes_a_load_and_a_second_call_makes_another(tmp_path: Path) -> None:
    # Whatever the environment holds, no money is spent: an unusable address proves that it is not called.
    hostile = {
        "ANTHROPIC_API_KEY": "sk-real",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:9",
        "HTTP_PROXY": "http://127.0.0.1:9",
        "BATCH_PIPELINE_WORKLOADS": "/nonexistent",
    }
    first = subprocess.run(
        [str(Path(sys.executable).with_name("batch-pipeline")), "demo"],
        env={**os.environ, **hostile},
        capture_output=True,
        text=True,
        check=False,
    )
    second = forked.run(BATCH_PIPELINE, "demo")

    for done in (first, second):
        assert done.returncode == 0, done.stderr
        assert "A simulator answers" in done.stdout
        assert "793 validated" in done.stdout
        assert "Gate: PROMOTE" in done.stdout
        report = next(line.split()[-1] for line in done.stdout.splitlines() if "report  " in line)
        page = Path(report).read_text(encoding="utf-8")
        assert re.search(r"answered by http://127.0.0.1:\d+/simulator<", page)
        assert "May be promoted" in page or "Promoted" in page
    assert first.stdout.splitlines()[1].split()[:2] != second.stdout.splitlines()[1].split()[:2]
    assert len(list((tmp_path / "state" / "reports" / "support_tickets").glob("*.html"))) == 2
