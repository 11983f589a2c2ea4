"""`python -c script arguments` in milliseconds: forked from a process that has imported everything and runs no thread.

What comes of it is a process of its own, with its arguments, environment, folder, limits, pipes, session, signals and
exit code, whose interpreter ends as any other does. Only the imports are done. Run as a module, this is the process
that the others are forked from: one per test session, which imports when it is first asked for something.
"""

import atexit
import gc
import json
import os
import pkgutil
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

BATCH_PIPELINE = "from batch_pipeline.cli import main; main()"

_ADDRESS = "TESTS_FORK_FROM"
# What does something when it is imported: the definitions change the umask, alembic runs the migrations.
_LEFT_OUT = (
    "batch_pipeline.definitions",
    "batch_pipeline.defs",
    "batch_pipeline.ledger.migrations",
)
# What the project and its packages import only when they use it, and takes long. One that is missing costs time alone.
_LATE = (
    "alembic.command",
    "anthropic.resources.messages",
    "anyio._backends._asyncio",
    "batch_pipeline_tests.faults.driving",
    "batch_pipeline_tests.faults.work",
    "dagster._core.execution.execute_in_process",
    "dagster._core.execution.plan.active",
    "dagster._core.executor.in_process",
    "dagster._core.instance.factory",
    "dagster._core.snap",
    "dagster._core.storage.noop_compute_log_manager",
    "dagster._core.storage.sqlite_storage",
    "dagster._core.workspace.context",
    "dagster._daemon.controller",
    "dagster._scheduler.scheduler",
    "dotenv",
    "h11",
    "httpcore2",
    "hypothesis.extra.pandas",
    "hypothesis.strategies",
    "mako.template",
    "opentelemetry.propagate",
    "pandas.io.formats.string",
    "pandera.backends.pandas.register",
    "pandera.strategies.pandas_strategies",
    "pyarrow.dataset",
    "rich.traceback",
    "sqlalchemy.dialects.mysql",
    "sqlalchemy.ext.compiler",
    "structlog",
    "tqdm.std",
    "truststore",
    "upath.implementations.local",
    "uvicorn.lifespan.off",
    "uvicorn.loops.uvloop",
    "uvicorn.protocols.http.auto",
    "uvloop",
    "watchdog.observers",
)


class Forked:
    """A process that was started: the part of `subprocess.Popen` that the tests use."""

    def __init__(self, stdout: int, stderr: int, status: int) -> None:
        self.stdout = os.fdopen(stdout, encoding="utf-8")
        self.stderr = os.fdopen(stderr, encoding="utf-8")
        self.returncode: int | None = None
        self._status = os.fdopen(status, encoding="ascii")
        self.pid = int(self._status.readline())

    def poll(self) -> int | None:
        with suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit code, negative for a signal. Raises subprocess.TimeoutExpired."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0)
            self.returncode = int(self._status.readline())
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """The rest of what it writes, until it has ended. Kills it and raises TimeoutError if that takes too long."""
        with ThreadPoolExecutor(2) as pool:
            output, errors = pool.submit(self.stdout.read), pool.submit(self.stderr.read)
            try:
                said = output.result(timeout), errors.result(timeout)
            except TimeoutError:
                self.kill()
                raise
        self.stdout.close()
        self.stderr.close()
        self.wait(timeout)
        return said

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def start(
    script: str,
    *arguments: str,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    umask: int | None = None,
    file_size: int | None = None,
) -> Forked:
    """Starts `python -c script arguments`.

    Args:
        environment: in place of this process's own.
        umask: likewise.
        file_size: bytes that it may write to one file.
    """
    environment = dict(os.environ if environment is None else environment)
    assert "ANTHROPIC_LOG" not in environment, "it is read when the SDK is imported: start anew"
    order = {
        "script": script,
        "arguments": arguments,
        "environment": environment,
        "cwd": str(cwd or Path.cwd()),
        "umask": umask,
        "file_size": file_size,
    }
    pipes = [os.pipe() for _ in range(3)]
    try:
        with socket.socket(socket.AF_UNIX) as order_to:
            order_to.connect(os.environ[_ADDRESS])
            socket.send_fds(order_to, [b"\n"], [write for _, write in pipes])
            order_to.sendall(json.dumps(order).encode())
    finally:
        for _, write in pipes:
            os.close(write)
    return Forked(*(read for read, _ in pipes))


def run(script: str, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    """Runs it to its end. Takes `start`'s options."""
    process = start(script, *arguments, **options)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(arguments, process.wait(), output, errors)


@contextmanager
def available() -> Iterator[None]:
    """Makes `start` possible, here and in this process's children, as long as it is open."""
    with tempfile.TemporaryDirectory() as folder:
        address = f"{folder}/socket"
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(address)
        listening.listen(64)
        # What is set when modules are imported must be what a fresh process would see.
        clean = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("ANTHROPIC_", "BATCH_PIPELINE_", "DAGSTER_"))
        }
        server = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listening.fileno())],
            # Its threads would be lost in a fork.
            env={**clean, "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
        )
        listening.close()
        os.environ[_ADDRESS] = address
        try:
            yield
        finally:
            del os.environ[_ADDRESS]
            assert server.stdin
            server.stdin.close()
            server.wait()


def _serve(listening: socket.socket) -> dict[str, Any] | None:
    """Forks a process per order. Returns in that process with its order, and here with None at the end of input."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warm = False
    while True:
        ready, _, _ = select.select([listening, sys.stdin], [], [])
        if listening not in ready:
            _reap()
            return None
        connection, _ = listening.accept()
        if not warm:
            _import_everything()
            warm = True
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 1, 3)
            with connection.makefile("rb") as file:
                order = file.read()
        if os.fork() == 0:
            stdout, stderr, status = descriptors
            if _started(status):
                _become(stdout, stderr)
                return dict(json.loads(order))
        for descriptor in descriptors:
            os.close(descriptor)
        _reap()


def _reap() -> None:
    """Lets those go that have waited for a process to its end."""
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _started(status: int) -> bool:
    """Forks again. True in the process itself; its parent tells its id and its exit code, and ends."""
    child = os.fork()
    if child == 0:
        return True
    # Only the process itself may keep its pipes open.
    os.closerange(0, status)
    os.closerange(status + 1, 1024)
    os.write(status, f"{child}\n".encode())
    _, ended = os.waitpid(child, 0)
    with suppress(BrokenPipeError):
        os.write(status, f"{os.waitstatus_to_exitcode(ended)}\n".encode())
    os._exit(0)


def _become(stdout: int, stderr: int) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    os.closerange(3, 1024)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(  # noqa: SIM115
        2, "w", encoding="utf-8", errors="backslashreplace", buffering=1, closefd=False
    )


def _execute(order: dict[str, Any]) -> None:
    os.environ.clear()
    os.environ.update(order["environment"])
    os.chdir(order["cwd"])
    if order["umask"] is not None:
        os.umask(order["umask"])
    if order["file_size"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (order["file_size"], order["file_size"]))
    sys.argv = ["-c", *order["arguments"]]
    sys.path[0] = ""
    sys.modules["__main__"] = types.ModuleType("__main__")
    exec(compile(order["script"], "<string>", "exec"), vars(sys.modules["__main__"]))


def _import_everything() -> None:
    import batch_pipeline
    from batch_pipeline_tests.dagsters_storage import quicken

    mask = os.umask(0o077)
    os.umask(mask)
    ours = [
        module.name
        for module in pkgutil.walk_packages(batch_pipeline.__path__, "batch_pipeline.")
        if not module.name.startswith(_LEFT_OUT)
    ]
    for name in ours:
        import_module(name)
    for name in _LATE:
        with suppress(ImportError):
            import_module(name)
    assert os.umask(mask) == mask, "a module that was imported has changed the umask"
    quicken()
    threads = {path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")}
    # The allocator's starts itself anew after a fork; any other would be lost.
    lost = threads - {Path("/proc/self/comm").read_text().strip(), "jemalloc_bg_thd"}
    assert not lost, f"threads that a fork would lose: {lost}"
    # The collector would write to pages, and so copy them, that the processes share.
    gc.collect()
    gc.freeze()


def _end(order: dict[str, Any]) -> NoReturn:
    """Does what was ordered and ends as an interpreter does; but for tearing down its modules, which nobody sees."""
    code = 0
    try:
        _execute(order)
    except SystemExit as end:
        if isinstance(end.code, str):
            sys.stderr.write(f"{end.code}\n")
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:  # noqa: BLE001 - an interpreter ends at any
        sys.excepthook(*sys.exc_info())
        code = 1
        if isinstance(error, KeyboardInterrupt):
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.kill(os.getpid(), signal.SIGINT)
    vars(threading)["_shutdown"]()
    vars(atexit)["_run_exitfuncs"]()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    ordered = _serve(socket.socket(fileno=int(sys.argv[1])))
    if ordered is not None:
        _end(ordered)
    os._exit(0)
