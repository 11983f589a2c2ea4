"""Starts and stops the simulator: in a thread for tests and the demo, in the foreground for people."""

from __future__ import annotations

import fcntl
import signal
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Self

import uvicorn
from starlette.types import Scope

from .app import build_app
from .batches import Batches
from .errors import SimulatorError
from .scenario import Scenario
from .store import Store

HOST = "127.0.0.1"
_START_SECONDS = 30


class Simulator:
    """A simulated Message Batches API on a port of this machine.

    Use it as a context manager, or call `start` and `stop`; between them `base_url` answers.
    """

    def __init__(
        self,
        scenario: Scenario | Path | None = None,
        state_dir: Path | None = None,
        port: int = 0,
    ) -> None:
        """Read the scenario; nothing is started yet.

        Args:
            scenario: how it behaves; a path is read as a scenario file; None is all defaults.
            state_dir: where batches are kept from one start to the next; None: nowhere.
            port: 0 takes a free one.

        Raises:
            ScenarioError: the scenario file cannot be used.
        """
        self.scenario = (
            Scenario.from_file(scenario) if isinstance(scenario, Path) else scenario or Scenario()
        )
        self._state_dir = state_dir
        self._port = port
        self._thread: threading.Thread | None = None
        self._running: _Running | None = None

    @property
    def base_url(self) -> str:
        """What a client takes as its base URL. Raises SimulatorError if not started."""
        if self._running is None:
            raise SimulatorError("The simulator is not running: call start() first.")
        return self._running.base_url

    @property
    def telling_url(self) -> str:
        """The same at an address that says what answers, for callers that show their base URL."""
        return f"{self.base_url}/simulator"

    def start(self) -> Self:
        """Serve in a thread; returns when calls are answered.

        Raises:
            SimulatorError: the port or the state folder is taken, or the answer key is unusable.
        """
        if self._running is not None:
            raise SimulatorError("The simulator is already running.")
        running = _Running(self.scenario, self._state_dir, self._port)
        self._thread = threading.Thread(target=running.serve, name="simulator", daemon=True)
        self._thread.start()
        self._running = running
        end = time.monotonic() + _START_SECONDS
        while not running.server.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                self.stop()
                raise SimulatorError("The simulator's server did not start.")
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Stop serving. Batches stay if they have a state folder. Does nothing if not running."""
        running, self._running = self._running, None
        if running is not None and self._thread is not None:
            running.server.should_exit = True
            self._thread.join()
            running.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def serve(
    port: int,
    scenario: Scenario | Path | None = None,
    state_dir: Path | None = None,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve in the foreground until SIGINT or SIGTERM, then return.

    Args:
        port: 0 takes a free one.
        scenario: as for `Simulator`.
        state_dir: as for `Simulator`.
        on_ready: called once with the base URL when calls are answered.

    Raises:
        SimulatorError: as for `Simulator`.
    """
    chosen = Scenario.from_file(scenario) if isinstance(scenario, Path) else scenario or Scenario()
    running = _Running(chosen, state_dir, port)
    running.server.on_started = on_ready
    running.server.base_url = running.base_url
    try:
        running.serve()
    finally:
        running.close()


class _Server(uvicorn.Server):
    """uvicorn's server, which ends quietly on a signal and says when it is there."""

    on_started: Callable[[str], None] | None = None
    base_url = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started and self.on_started is not None:
            self.on_started(self.base_url)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        signals = (signal.SIGINT, signal.SIGTERM)
        before = {sig: signal.signal(sig, self.handle_exit) for sig in signals}
        try:
            yield
        finally:
            for sig, handler in before.items():
                signal.signal(sig, handler)


class _Running:
    """Everything that is open while a simulator runs."""

    def __init__(self, scenario: Scenario, state_dir: Path | None, port: int) -> None:
        self._temporary = None
        self._lock: IO[str] | None = None
        self._socket = _listen(port)
        self._store: Store | None = None
        self._batches: Batches | None = None
        try:
            if state_dir is None:
                self._temporary = tempfile.TemporaryDirectory(prefix="simulator-")
                folder = Path(self._temporary.name)
            else:
                folder = state_dir
                self._lock = _claim(state_dir)
            self._store = Store(folder, durable=state_dir is not None)
            self._batches = Batches(scenario, self._store)
        except BaseException:
            self._socket.close()
            self.close()
            raise
        self.base_url = f"http://{HOST}:{self._socket.getsockname()[1]}"
        app = build_app(scenario, self._store, self._batches, self)
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ws="none",
            timeout_keep_alive=30,
            timeout_graceful_shutdown=1,
        )
        self.server = _Server(config)

    def serve(self) -> None:
        self.server.run(sockets=[self._socket])

    def close(self) -> None:
        if self._batches is not None:
            self._batches.close()
        if self._store is not None:
            self._store.close()
        if self._lock is not None:
            self._lock.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def hang_up(self, scope: Scope) -> None:
        for connection in list(self.server.server_state.connections):
            client = getattr(connection, "client", None)
            if client is not None and client == scope.get("client"):
                connection.transport.close()

    def stopping(self) -> bool:
        return self.server.should_exit


def _listen(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((HOST, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise SimulatorError(
            f"Port {port} cannot be used ({error.strerror}): give another, or 0 for a free one."
        ) from None
    return listener


def _claim(folder: Path) -> IO[str]:
    """Hold the state folder for this process, until the file is closed or the process ends."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / "lock").open("w")
    except OSError as error:
        raise SimulatorError(
            f"{folder}: cannot keep the simulator's state here: {error.strerror}."
        ) from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise SimulatorError(
            f"{folder}: another simulator uses this state folder: stop it, or give another folder."
        ) from None
    return file
