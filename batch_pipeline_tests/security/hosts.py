"""Two real servers on loopback: one that stands between the SDK and the simulator, and one that nobody may call."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2

Answer = tuple[int, dict[str, str], bytes]
# Given method, path and what the API answered; returns what is passed on.
Change = Callable[[str, str, Answer], Answer]

_PASSED = ("content-type", "request-id", "retry-after")


@contextmanager
def gateway(api: str, change: Change) -> Iterator[str]:
    """The address of a server that passes every call on to `api` and may change what comes back."""

    class Handler(BaseHTTPRequestHandler):
        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower()
                not in ("content-length", "transfer-encoding", "connection", "accept-encoding")
            }
            got = httpx2.request(self.command, api + self.path, headers=headers, content=body)
            kept = {name: got.headers[name] for name in _PASSED if name in got.headers}
            status, changed, content = change(
                self.command, self.path, (got.status_code, kept, got.content)
            )
            self.send_response(status)
            for name, value in {**changed, "content-length": str(len(content))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self) -> None:
            self._pass_on()

        def do_POST(self) -> None:
            self._pass_on()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


class Listener:
    """A port that accepts whatever comes and keeps it; `received` has one entry for each connection."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(5)
                self.received.append(b"")
                try:
                    self.received[-1] = connection.recv(65536)
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
                except OSError:
                    pass

    def __enter__(self) -> "Listener":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        # A connection of our own wakes the thread up.
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()
