"""A server between a process and the S3 server: it counts what is asked, and answers in its place when told to."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

_ERROR = (
    '<?xml version="1.0"?><Error><Code>{code}</Code><Message>as the test says</Message></Error>'
)
_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


@dataclass(frozen=True)
class Asked:
    """One request: `what` is GET, HEAD, PUT, POST, DELETE, or LIST; `key` without the bucket."""

    what: str
    key: str


class _Quiet(ThreadingHTTPServer):
    """Processes that are killed hang up on it, and that is no news."""

    def handle_error(self, *_: object) -> None:
        """Says nothing."""


class StoreProxy:
    """`asked` is what came in so far. `refusal` says for a request with which (status, code) to answer, or None.

    `after` is called when the store has done what was asked, before anybody hears of it.
    """

    def __init__(self, behind: str) -> None:
        self.asked: list[Asked] = []
        self.refusal: Callable[[Asked], tuple[int, str] | None] = lambda _: None
        self.after: Callable[[Asked], None] = lambda _: None
        parts = urlsplit(behind)
        target = (str(parts.hostname), int(parts.port or 80))
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length)
                asked = _asked(self.command, self.path)
                proxy.asked.append(asked)
                refused = proxy.refusal(asked)
                if refused is not None:
                    status, code = refused
                    content = b"" if self.command == "HEAD" else _ERROR.format(code=code).encode()
                    self._send(status, [("content-type", "application/xml")], content, len(content))
                    return
                connection = HTTPConnection(*target)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    response = connection.getresponse()
                    content = response.read()
                finally:
                    connection.close()
                proxy.after(asked)
                size = len(content)
                if self.command == "HEAD":
                    size = int(response.headers.get("content-length") or 0)
                self._send(response.status, response.getheaders(), content, size)

            def _send(
                self, status: int, headers: list[tuple[str, str]], content: bytes, size: int
            ) -> None:
                self.send_response(status)
                for name, value in headers:
                    if name.lower() not in _HOP_BY_HOP:
                        self.send_header(name, value)
                self.send_header("content-length", str(size))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            setattr(Handler, f"do_{method}", Handler.answer)
        self._server = _Quiet(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextmanager
def in_front_of(behind: str) -> Iterator[StoreProxy]:
    proxy = StoreProxy(behind)
    try:
        yield proxy
    finally:
        proxy.stop()


def _asked(method: str, path: str) -> Asked:
    parts = urlsplit(path)
    _, _, key = parts.path.lstrip("/").partition("/")
    listing = method == "GET" and "list-type" in parts.query
    return Asked("LIST" if listing else method, key)
