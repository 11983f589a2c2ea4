"""Files of rows are whole or not there."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from batch_pipeline.processes import alive
from batch_pipeline.rows import replacing


def test_a_file_appears_under_its_name_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    with replacing(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_leaves_what_was_there_before(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyError), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_before_anything_was_written_is_the_one_that_is_raised(tmp_path: Path) -> None:
    with pytest.raises(KeyError), replacing(tmp_path / "file"):
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_when_the_file_is_written_again(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        pass
    dead, alive = (tmp_path / f".file.{pid}.tmp" for pid in (gone.pid, os.getppid()))
    other = tmp_path / f".file2.{gone.pid}.tmp"
    for leftover in (dead, alive, other):
        leftover.touch()
    with replacing(tmp_path / "file") as temporary:
        temporary.touch()
    assert sorted(tmp_path.iterdir()) == sorted([alive, other, tmp_path / "file"])


def test_what_a_process_left_that_died_and_was_not_waited_for_is_removed(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    while alive(dead.pid):
        time.sleep(0.01)
    # Its parent, this process, has not asked for its exit code: it still has its number.
    os.kill(dead.pid, 0)
    leftover = tmp_path / f".rows.parquet.{dead.pid}.tmp"
    leftover.touch()
    with replacing(tmp_path / "rows.parquet") as temporary:
        temporary.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]
    dead.wait()
