"""Real receivers on loopback: an HTTP server, a mail server with TLS, and certificates for it."""

import json
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult


@dataclass
class Post:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Answer = tuple[int, dict[str, str]]


@dataclass
class Hook:
    """What a webhook's server got, and how it answers; `answer` is given the number of posts so far."""

    port: int
    answer: Callable[[int], Answer] = lambda _n: (200, {})
    posts: list[Post] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/services/T00/hush-hush"

    @property
    def told(self) -> list[tuple[str, str]]:
        """(event, title) of each message."""
        return [(post.json["event"], post.json["title"]) for post in self.posts]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def hook(answer: Callable[[int], Answer] = lambda _n: (200, {}), port: int = 0) -> Iterator[Hook]:
    """A server that keeps every POST."""
    kept: Hook

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"] or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            kept.posts.append(Post(self.path, headers, body))
            status, further = kept.answer(len(kept.posts))
            self.send_response(status)
            for name, value in {**further, "content-length": "2"}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"ok")

        def do_GET(self) -> None:
            kept.posts.append(Post(self.path, {}, b"{}"))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    class Server(ThreadingHTTPServer):
        def handle_error(self, request: Any, client_address: Any) -> None:
            """A client that was killed is none of the server's errors."""

    with Server(("127.0.0.1", port), Handler) as server:
        kept = Hook(server.server_port, answer)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield kept
        finally:
            server.shutdown()
            thread.join()


def certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost, signed by itself, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    chain, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(chain)]
    subprocess.run(command, check=True, capture_output=True)
    return chain, key


@dataclass
class Mailbox:
    """What a mail server got."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    refused_once: set[str] = field(default_factory=set)

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: Any
    ) -> str:
        if address in self.refused_once:
            self.refused_once.remove(address)
            return "450 come back later"
        envelope.rcpt_tos.append(address)
        return "250 known"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        self.mails.append(message_from_bytes(envelope.content, policy=default))
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 taken"

    def authenticate(
        self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        self.logins.append((data.login, data.password))
        return AuthResult(success=data.password == b"hush-hush", handled=False)


@contextmanager
def mail_server(
    certificates: tuple[Path, Path] | None, *, starttls: bool = True
) -> Iterator[Mailbox]:
    """STARTTLS with a login, TLS from the first byte with a login, or neither."""
    box = Mailbox()
    options: dict[str, Any] = {"hostname": "127.0.0.1", "port": free_port()}
    if certificates is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificates)
        options |= {"authenticator": box.authenticate, "auth_required": True}
        if starttls:
            options |= {"tls_context": context, "require_starttls": True}
        else:
            # The whole connection is protected, which the server itself cannot see.
            options |= {"ssl_context": context, "auth_require_tls": False}
    controller = Controller(box, **options)
    controller.start()
    box.port = controller.port
    try:
        yield box
    finally:
        controller.stop()
