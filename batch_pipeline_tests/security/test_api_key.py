"""The API key is used and kept nowhere: not in the state, not in any output, through errors of every kind."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import DAY, Night, simulator_for
from batch_pipeline_tests.security.left_behind import command, command_anew, encodings, holding

KEY = "sk-ant-api03-Canary7Key9Qx-Vt5Lm2Zw8"
WRONG_KEY = "sk-ant-api03-Refused4Key6Hb-Jd1Np3Rc0"

# Overloaded, an accepted create whose answer is lost, unknown for a moment, results cut off, and broken rows.
TROUBLE: dict[str, Any] = {
    "keys": [KEY],
    "models": {"*": {"broken": 0.2, "server_error": 0.1, "refusal": 0.1}},
    "calls": [
        {"on": "list", "nth": 2, "fault": "status", "status": 500},
        {"on": "create", "nth": 2, "fault": "error_after_accepting", "status": 500},
        {"on": "retrieve", "nth": 1, "fault": "status", "status": 529, "retry_after": 1},
        {"on": "results", "nth": 1, "fault": "cut_short", "at": "mid_line"},
        {"on": "results", "nth": 2, "fault": "drop_before_accepting"},
    ],
}


def found_in(output: str, key: str) -> bool:
    return any(form in output.encode() for form in encodings(key))


@pytest.mark.parametrize("lead", [b"", b"x", b"xy"])
def test_the_search_would_find_it_encoded_too(tmp_path: Path, lead: bytes) -> None:
    (tmp_path / "a").write_bytes(
        b"user=" + base64.b64encode(lead + KEY.encode() + b":more") + b"\n"
    )

    assert holding(tmp_path, KEY) == ["a"]


def test_a_run_full_of_trouble_leaves_no_trace_of_the_key(
    night: Callable[..., Night], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = night(
        count=30,
        golden=5,
        limits={"max_requests": 20, "attempts": 3},
        gates={"golden_drop_points": 100},
    )
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
    state = tmp_path / "state"
    written = simulator_for(tmp_path / "scenario", **TROUBLE)
    with Simulator(written.scenario, state_dir=state / "simulator") as simulator:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", simulator.base_url)
        monkeypatch.setenv("ANTHROPIC_LOG", "debug")
        refused = command_anew("run", "questions", "--date", DAY, ANTHROPIC_API_KEY=WRONG_KEY)
        done = command_anew("run", "questions", "--date", DAY, ANTHROPIC_API_KEY=KEY)
    output = refused.output + done.output

    assert refused.code == 2, refused.output
    assert "The API refused the key (401)" in refused.output
    assert done.code in (0, 3), done.output
    assert "HTTP Request" in output  # the SDK did log what it did
    assert not found_in(output, KEY)
    assert not found_in(output, WRONG_KEY)
    # What was searched holds what was sent and what came back.
    assert holding(state, "question number 7 of the night")
    assert holding(state, KEY, WRONG_KEY) == []


def test_a_demo_never_uses_a_key_that_it_finds(tmp_path: Path) -> None:
    done = command("demo", ANTHROPIC_API_KEY=KEY, ANTHROPIC_AUTH_TOKEN=WRONG_KEY)

    assert done.code == 0, done.output
    assert not found_in(done.output, KEY)
    assert not found_in(done.output, WRONG_KEY)
    assert holding(tmp_path / "state", KEY, WRONG_KEY) == []


def test_a_password_in_the_address_is_kept_nowhere_either(
    night: Callable[..., Night], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night(golden=0).folder.parent))
    monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://user:{KEY}@127.0.0.1:1/v1")
    done = command("run", "questions", "--date", DAY, "--max-wait", "0")

    assert done.code == 4, done.output
    assert not found_in(done.output, KEY)
    assert holding(tmp_path / "state", KEY) == []
