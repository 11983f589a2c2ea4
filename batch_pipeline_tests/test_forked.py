"""A forked process is what a new interpreter would be, but for the time that its imports take."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline_tests import forked

ABOUT_ITSELF = """
import os, signal, sys, threading
print(sys.argv)
print(os.getcwd())
print(sorted((name, value) for name, value in os.environ.items() if name != "LC_CTYPE"))
print([signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGCHLD, signal.SIGHUP)])
print(threading.active_count(), len(os.listdir("/proc/self/task")))
print(oct(os.umask(0)), sys.stdin.read(), __name__)
"""


def anew(script: str, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    done: subprocess.CompletedProcess[str] = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        **options,
    )
    return done


def test_it_sees_of_itself_what_a_new_interpreter_sees(tmp_path: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "ONLY": "this"}
    one = forked.run(ABOUT_ITSELF, "a", "b c", environment=environment, cwd=tmp_path, umask=0o027)
    other = anew(ABOUT_ITSELF, "a", "b c", env=environment, cwd=tmp_path, umask=0o027)
    assert one.stdout == other.stdout
    assert (one.returncode, one.stderr) == (0, "")


@pytest.mark.parametrize(
    "script",
    [
        "print('done')",
        "import sys; sys.exit(3)",
        "import sys; sys.exit('a sentence')",
        "import os; os._exit(4)",
        "raise KeyboardInterrupt",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM); signal.pause()",
        "import atexit; atexit.register(print, 'at the end')",
        "import threading, time; threading.Thread(target=lambda: (time.sleep(0.1), print('last'))).start()",
    ],
)
def test_it_ends_as_a_new_interpreter_ends(script: str) -> None:
    one, other = forked.run(script), anew(script)
    assert (one.returncode, one.stdout) == (other.returncode, other.stdout)


def test_an_error_is_shown_and_is_exit_1() -> None:
    done = forked.run("1 / 0")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ZeroDivisionError: division by zero"


def test_it_has_a_session_of_its_own_and_takes_signals_by_its_id() -> None:
    process = forked.start("import os, time; print(os.getsid(0), flush=True); time.sleep(60)")
    assert process.stdout.readline() == f"{process.pid}\n"
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait() == -signal.SIGINT
    assert not Path(f"/proc/{process.pid}").exists()


def test_what_it_may_write_to_a_file_can_be_limited(tmp_path: Path) -> None:
    script = "import pathlib, sys; pathlib.Path(sys.argv[1]).write_bytes(b'x' * 5000)"
    assert "File too large" in forked.run(script, str(tmp_path / "f"), file_size=100).stderr


def test_no_two_draw_the_same_numbers() -> None:
    script = (
        "import random, uuid, tempfile; print(random.random(), uuid.uuid4(), tempfile.mktemp())"
    )
    assert forked.run(script).stdout != forked.run(script).stdout


def test_a_setting_that_is_read_by_an_import_is_refused() -> None:
    with pytest.raises(AssertionError, match="start anew"):
        forked.start("", environment={"ANTHROPIC_LOG": "debug"})
