"""The harness sees every write at the edge of a process, and stops seeing it when a hook is taken away."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from batch_pipeline_tests.faults.boundaries import DAGSTER, PRODUCT, Boundary, read_log
from batch_pipeline_tests.stages.watching import answering

# Writes of every kind, each by another way than the product's where there is one.
_SCRIPT = """
import os, shutil, sqlite3, sys, tempfile, urllib.request
from pathlib import Path
from batch_pipeline_tests.faults.boundaries import Boundaries

import duckdb, httpx2
from sqlalchemy import create_engine, text

folder, server, fatal = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
number = (fatal.partition(" ")[0], int(fatal.partition(" ")[2])) if fatal else None
Boundaries(folder / "log", folder / "dagster", number, folder / "state").install(*sys.argv[4:])
os.chdir(folder / "state")

Path("new").mkdir()
Path("new").mkdir(exist_ok=True)
Path("new/file.tmp").write_text("some")
Path("new/file.tmp").replace("new/file")
shutil.move("new/file", "new/moved")
os.link("new/moved", "new/linked")
os.truncate("new/linked", 1)
Path("new/linked").unlink()
Path("new/linked").unlink(missing_ok=True)
shutil.rmtree("new")

plain = sqlite3.connect("plain.sqlite")
plain.execute("CREATE TABLE a (x)")
plain.execute("INSERT INTO a VALUES ('secret')")
plain.execute("SELECT * FROM a").fetchall()
plain.commit()
engine = create_engine("sqlite:///engine.sqlite")
with engine.begin() as connection:
    connection.execute(text("CREATE TABLE b (x)"))
with engine.begin() as connection:
    connection.execute(text("INSERT INTO b VALUES (1)"))
    connection.execute(text("UPDATE b SET x = 2"))
sqlite3.Connection("past.sqlite").close()

with duckdb.connect("warehouse.duckdb") as warehouse:
    warehouse.execute("BEGIN").execute("CREATE TABLE c AS SELECT 'secret' AS x")
    warehouse.execute("FROM c").fetchall()
    warehouse.execute("COMMIT; INSERT INTO c VALUES ('more')")
duckdb.connect().execute("CREATE TABLE memory AS SELECT 1")

httpx2.get(f"{server}/one")
urllib.request.urlopen(f"{server}/two").read()
Path(folder / "dagster" / "event").write_text("Dagster's own")
"""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with answering("text/plain", b"yes") as address:
        yield address


@pytest.fixture(scope="module")
def everything(server: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the script has run with all hooks."""
    folder = tmp_path_factory.mktemp("boundaries") / "all"
    written(folder, server)
    return folder


def written(folder: Path, server: str, *hooks: str, fatal: str = "") -> list[Boundary]:
    """The boundaries of the script above, with only these hooks (default: all)."""
    (folder / "state").mkdir(parents=True)
    (folder / "dagster").mkdir()
    command = [sys.executable, "-c", _SCRIPT, str(folder), server, fatal, *hooks]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (-signal.SIGKILL if fatal else 0), done.stderr
    return read_log(folder / "log")


def seen(boundaries: list[Boundary], owner: str = PRODUCT) -> list[str]:
    return [f"{b.kind}: {b.label}" for b in boundaries if b.owner == owner]


FILES = [
    "os.mkdir: mkdir state/new",
    "open: open new/file.tmp",
    "os.rename: rename new/file",
    "os.rename: rename new/moved",
    "os.link: link new/linked",
    "os.truncate: truncate new/linked",
    "os.remove: remove new/linked",
    "os.remove: remove new/moved",
    "os.rmdir: rmdir state/new",
]
SQLITE = [
    "sqlite statement: CREATE TABLE a",
    "sqlite commit: commit INSERT INTO a",
    "sqlite committed: committed INSERT INTO a",
    "sqlite statement: CREATE TABLE b",
    "sqlite commit: commit UPDATE b SET",
    "sqlite committed: committed UPDATE b SET",
    "sqlite unwatched: connect",
]
DUCKDB = [
    "duckdb statement: CREATE TABLE c",
    "duckdb commit: COMMIT",
    "duckdb statement: INSERT INTO c",
    "duckdb committed: COMMIT",
    "duckdb committed: INSERT INTO c",
    "duckdb close: close",
    "duckdb closed: closed",
]
HTTP = ["http request: GET /one", "http answer: GET /one 200", "socket: connect to 127.0.0.1"]
KINDS = {"files": FILES, "sqlite": SQLITE, "duckdb": DUCKDB, "http": HTTP}


def test_every_write_is_a_boundary_and_nothing_else_is(everything: Path) -> None:
    boundaries = read_log(everything / "log")
    assert seen(boundaries) == [*FILES, *SQLITE, *DUCKDB, *HTTP]
    assert seen(boundaries, DAGSTER) == ["open: open dagster/event"]


@pytest.mark.parametrize("missing", KINDS)
def test_without_its_hook_a_write_would_be_missed(
    tmp_path: Path, server: str, missing: str
) -> None:
    hooks = [kind for kind in KINDS if kind != missing]
    boundaries = written(tmp_path / "some", server, *hooks)
    assert seen(boundaries) == [line for kind in hooks for line in KINDS[kind]]


def test_no_value_of_a_statement_is_logged(everything: Path) -> None:
    assert "secret" not in (everything / "log").read_text()


def test_the_process_dies_at_the_boundary_asked_for_before_it_happens(
    tmp_path: Path, server: str
) -> None:
    number = 1 + FILES.index("os.rename: rename new/file")
    boundaries = written(tmp_path / "dead", server, fatal=f"{PRODUCT} {number}")
    assert seen(boundaries) == FILES[:number]
    assert [path.name for path in (tmp_path / "dead" / "state" / "new").iterdir()] == ["file.tmp"]


@pytest.mark.parametrize(("offset", "rows"), [(1, 0), (2, 1)])
def test_a_commit_has_a_boundary_before_and_one_after(
    tmp_path: Path, server: str, offset: int, rows: int
) -> None:
    written(tmp_path / "dead", server, fatal=f"{PRODUCT} {len(FILES) + offset + 1}")
    with sqlite3.connect(tmp_path / "dead" / "state" / "plain.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM a").fetchone() == (rows,)


def test_boundaries_between_which_nothing_lasts_are_known_to_repeat(everything: Path) -> None:
    log = read_log(everything / "log")
    repeating = {f"{b.kind}: {b.label}" for b in log if b.repeats}
    # What stands in an open transaction is gone with it; an answer tells of something elsewhere.
    assert "duckdb commit: COMMIT" in repeating
    assert "http answer: GET /one 200" not in repeating
    assert "os.rename: rename new/file" not in repeating


def test_a_fork_is_another_process(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path\n"
        "from batch_pipeline_tests.faults.boundaries import Boundaries\n"
        "folder = Path(sys.argv[1])\n"
        "Boundaries(folder / 'log', folder / 'dagster', ('product', 1)).install('files')\n"
        "child = os.fork()\n"
        "(folder / str(child > 0)).mkdir() if child == 0 else os.waitpid(child, 0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)
    assert read_log(tmp_path / "log") == []
    assert (tmp_path / "False").is_dir()
    shutil.rmtree(tmp_path / "False")
    assert os.listdir(tmp_path) == ["log"]  # noqa: PTH208
