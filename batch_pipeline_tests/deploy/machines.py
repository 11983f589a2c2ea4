"""Machines of a private network: each a namespace of its own, with its address, its host name and its processes.

They need root and Linux. Elsewhere each is an address of loopback and a group of processes, which is less: then all
have one host name, and a machine that is lost leaves its connections closed instead of silent.
"""

import os
import signal
import socket
import subprocess
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

_NAMED = 'hostname "$0" && exec "$@"'


class Machine:
    """Something that has an address and can be lost with all that runs on it."""

    def __init__(self, name: str, address: str) -> None:
        self.name, self.address = name, address
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, command: Sequence[str], environment: Mapping[str, str], log: Path) -> None:
        with log.open("ab") as file:
            self._processes.append(
                subprocess.Popen(
                    [*self._entering(), *command],
                    env=dict(environment),
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            )

    def lose(self) -> None:
        """As when its power fails: nothing that ran there says goodbye."""
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()

    def _entering(self) -> list[str]:
        return []


class _Namespace(Machine):
    def __init__(self, name: str, address: str, bridge: str, number: int) -> None:
        super().__init__(name, address)
        self._space, self._plug = f"{bridge}-{number}", f"{bridge}v{number}"
        _ip("netns", "add", self._space)
        _ip("link", "add", self._plug, "type", "veth", "peer", "name", "eth0", "netns", self._space)
        # One address, one network card: who takes a lost machine's place is found at once.
        card = ":".join(f"{part:02x}" for part in (0x02, 0x42, *map(int, address.split("."))))
        for words in (
            ("link", "set", "lo", "up"),
            ("link", "set", "eth0", "address", card),
            ("address", "add", f"{address}/24", "dev", "eth0"),
            ("link", "set", "eth0", "up"),
        ):
            _ip("-n", self._space, *words)
        _ip("link", "set", self._plug, "master", bridge, "up")

    def lose(self) -> None:
        # The plug first, so that no connection is closed in the sight of its other end.
        with suppress(subprocess.CalledProcessError):
            _ip("link", "set", self._plug, "down")
        super().lose()

    def remove(self) -> None:
        self.lose()
        with suppress(subprocess.CalledProcessError):
            _ip("netns", "del", self._space)

    def _entering(self) -> list[str]:
        # The namespace of processes ends, with all of them, when the one that made it is killed.
        own = ["unshare", "--uts", "--pid", "--fork", "--kill-child=KILL", "--mount-proc"]
        return ["ip", "netns", "exec", self._space, *own, "sh", "-c", _NAMED, self.name]


class Network:
    """Where machines are made. `here` is the address of the test's own process on it."""

    def __init__(self, here: str, stack: ExitStack, bridge: str | None) -> None:
        self.here = here
        self.apart = bridge is not None
        self._bridge, self._stack, self._numbers = bridge, stack, count()

    def address(self, last: int) -> str:
        return ".".join((*self.here.split(".")[:3], str(last)))

    def machine(self, name: str, last: int) -> Machine:
        """One whose address ends in `last`; a lost one's may be taken again."""
        address = self.address(last)
        if self._bridge is None:
            made = Machine(name, address)
            self._stack.callback(made.lose)
            return made
        space = _Namespace(name, address, self._bridge, next(self._numbers))
        self._stack.callback(space.remove)
        return space

    def passing_on(self, port: int) -> int:
        """A port of `here` at which machines reach one of loopback."""
        if self._bridge is None:
            return port
        listener = socket.create_server((self.here, 0))
        self._stack.callback(listener.close)
        threading.Thread(target=_serve, args=(listener, port), daemon=True).start()
        return int(listener.getsockname()[1])


@contextmanager
def network() -> Iterator[Network]:
    with ExitStack() as stack:
        bridge = f"bp{os.getpid()}"
        third = os.getpid() % 250 + 1
        try:
            _ip("link", "add", bridge, "type", "bridge")
        except (OSError, subprocess.CalledProcessError):
            warnings.warn(
                "No network namespaces here (they need root and iproute2): machines are groups of processes",
                stacklevel=3,
            )
            yield Network("127.0.0.1", stack, None)
            return
        stack.callback(_ip, "link", "del", bridge)
        here = f"10.213.{third}.1"
        _ip("address", "add", f"{here}/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        yield Network(here, stack, bridge)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _serve(listener: socket.socket, port: int) -> None:
    while True:
        try:
            there, _ = listener.accept()
        except OSError:
            return
        here = socket.create_connection(("127.0.0.1", port))
        for source, target in ((there, here), (here, there)):
            threading.Thread(target=_copy, args=(source, target), daemon=True).start()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
