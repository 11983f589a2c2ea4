"""The state is its owner's alone, whoever of the many makes a file; what a person asks for is theirs as usual."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from batch_pipeline.errors import ConfigurationError
from batch_pipeline.simulator import Simulator
from batch_pipeline.state_folder import close_to_others
from batch_pipeline_tests import forked
from batch_pipeline_tests.forked import BATCH_PIPELINE
from batch_pipeline_tests.night import DAY, Night, rows, write_csv
from batch_pipeline_tests.security.left_behind import command, open_to_others


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def made(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    monkeypatch: pytest.MonkeyPatch,
    state: Path,
) -> Night:
    """A workload, in a state folder that nobody has opened yet."""
    simulate(models={"claude-haiku-4-5": {"broken": 0.3}})
    made = night(golden=0)
    for path in state.rglob("*"):
        if path.is_file():
            path.unlink()
    for folder in sorted(state.rglob("*"), reverse=True):
        folder.rmdir()
    state.rmdir()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
    return made


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def loosen(folder: Path) -> None:
    """As a version without this care left it."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def test_a_run_leaves_nothing_that_others_may_read_and_opening_closes_what_an_older_one_left(
    made: Night, state: Path
) -> None:
    done = command("run", "questions", "--date", DAY, umask=0)

    assert done.code == 0, done.output
    assert open_to_others(state) == []
    names = {path.suffix for path in state.rglob("*") if path.is_file()}
    assert {".sqlite", ".duckdb", ".parquet", ".zst", ".html", ".yaml", ".lock"} <= names

    loosen(state)
    assert open_to_others(state)
    assert command("scorecard", "questions", "--date", DAY).code == 0
    assert open_to_others(state) == []


def test_a_simulator_keeps_its_state_private_too(made: Night, tmp_path: Path) -> None:
    """Its folder holds every prompt that was sent."""
    process = forked.start(
        *(BATCH_PIPELINE, "simulate", "--port", "0", "--state", str(tmp_path / "simulated")),
        umask=0,
    )
    try:
        url = process.stdout.readline().split(" at ")[1].split()[0]
        done = command("run", "questions", "--date", DAY, ANTHROPIC_BASE_URL=url)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()

    assert done.code == 0, done.output
    assert any((tmp_path / "simulated").iterdir())
    assert open_to_others(tmp_path / "simulated") == []


def test_the_code_server_needs_nobodys_help(tmp_path: Path) -> None:
    """Started by a person's own shell, it keeps to itself what its runs write."""
    told = subprocess.run(
        [sys.executable, "-c", "import batch_pipeline.definitions, os; print(oct(os.umask(0)))"],
        check=True,
        umask=0o022,
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == "0o77"


def test_exported_files_have_the_persons_own_rights(
    made: Night, tmp_path: Path, state: Path
) -> None:
    assert command("run", "questions", "--date", DAY).code == 0
    for what, name, umask, expected in (
        ("export", "rows.csv", 0o022, 0o644),
        ("dispositions", "rows.parquet", 0o002, 0o664),
    ):
        path = tmp_path / name
        done = command(what, "questions", "--date", DAY, "--to", str(path), umask=umask)
        assert done.code == 0, done.output
        assert mode(path) == expected
    assert open_to_others(state) == []


def test_a_new_workload_has_the_persons_own_rights(tmp_path: Path) -> None:
    workloads = tmp_path / "mine"
    workloads.mkdir(0o755)
    data = write_csv(tmp_path / "data.csv", rows(30))
    done = command(
        *("new", "mine", "--from", str(data), "--key", "id", "--text", "text", "--labels", "label"),
        BATCH_PIPELINE_WORKLOADS=str(workloads),
    )
    assert done.code == 0, done.output
    assert mode(workloads / "mine") == 0o755
    assert {mode(path) for path in (workloads / "mine").iterdir()} == {0o644}
    assert (workloads / "mine" / "golden.csv").is_file()


def test_links_in_the_state_are_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("public")
    elsewhere.chmod(0o644)
    state = tmp_path / "linked"
    state.mkdir(0o755)
    (state / "link").symlink_to(elsewhere)
    close_to_others(state)

    assert mode(state) == 0o700
    assert mode(elsewhere) == 0o644


def test_owners_may_still_run_what_they_could_run(tmp_path: Path) -> None:
    state = tmp_path / "with_script"
    state.mkdir(0o755)
    (state / "script").write_text("")
    (state / "script").chmod(0o755)
    close_to_others(state)

    assert mode(state / "script") == 0o700


def test_a_folder_that_everybody_shares_is_refused_and_left_alone(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(ConfigurationError, match="set BATCH_PIPELINE_STATE to a folder of its own"):
        close_to_others(shared)

    assert mode(shared) == 0o1777


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_another_account_that_is_open_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(0o755)
    os.chown(theirs, 12345, 12345)
    with pytest.raises(ConfigurationError, match="open to other accounts"):
        close_to_others(theirs)
    theirs.chmod(0o700)
    close_to_others(theirs)


def test_looking_for_a_state_that_is_not_there_makes_none(tmp_path: Path) -> None:
    close_to_others(tmp_path / "nowhere")

    assert not (tmp_path / "nowhere").exists()
