"""What HTTP needs below the API: bodies of any size, silence, files cut short, broken connections."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from .api_errors import ApiError
from .scenario import CallRule

_BLOCK = 1 << 18
_GLANCE_SECONDS = 0.05


class Host(Protocol):
    """The server that the application runs in."""

    def hang_up(self, scope: Scope) -> None:
        """Close the connection that a request came on."""

    def stopping(self) -> bool:
        """Whether the server is about to end."""


class Dropped(Response):
    """No answer: the connection is closed."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        await _close(scope, receive, self._host)


class BrokenOff(StreamingResponse):
    """An answer whose connection is closed before its end."""

    def __init__(self, content: AsyncIterator[bytes], host: Host) -> None:
        super().__init__(content)
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        start = {"type": "http.response.start", "status": 200, "headers": self.raw_headers}
        await send(start)
        async for block in self.body_iterator:
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await _close(scope, receive, self._host)


async def _close(scope: Scope, receive: Receive, host: Host) -> None:
    host.hang_up(scope)
    # The server takes a missing answer for a crash unless it has seen the connection go first.
    while (await receive())["type"] != "http.disconnect":
        pass


async def receive_body(request: Request, most: int) -> bytes:
    """The whole body. Raises ApiError if it is encoded or has more than `most` bytes."""
    return b"".join([block async for block in _blocks_of(request, most)])


async def save_body(request: Request, path: Path, most: int) -> str:
    """Write the body to a file and return its sha256. Raises ApiError as `receive_body`."""
    sha256 = hashlib.sha256()
    with path.open("wb") as file:
        async for block in _blocks_of(request, most):
            sha256.update(block)
            file.write(block)
    return sha256.hexdigest()


async def _blocks_of(request: Request, most: int) -> AsyncIterator[bytes]:
    """A body that is too large is read to its end all the same: a client that is still sending does
    not read the answer.
    """
    if request.headers.get("content-encoding", "identity") != "identity":
        raise ApiError(
            400, "Unsupported content encoding", error_code="request_body_encoding_unsupported"
        )
    size = 0
    async for block in request.stream():
        size += len(block)
        if size <= most:
            yield block
    if size > most:
        raise ApiError(413, "Request exceeds the maximum size")


async def keep_silent(request: Request, seconds: float, host: Host) -> bool:
    """Wait, with the body read before. False if the client has gone, or the server goes, meanwhile."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if host.stopping() or await request.is_disconnected():
            return False
        await asyncio.sleep(min(left, _GLANCE_SECONDS))
    return not await request.is_disconnected()


async def file_blocks(path: Path, size: int) -> AsyncIterator[bytes]:
    """The first `size` bytes of a file."""
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(_BLOCK, size))):
            size -= len(block)
            yield block


def cut_at(path: Path, rule: CallRule) -> int:
    """Where a results file that is to be cut short ends, in bytes."""
    size = path.stat().st_size
    upto = int(size * rule.keep)
    with path.open("rb") as file:
        if upto:
            file.seek(upto - 1)
            file.readline()  # to the next line boundary
        boundary = file.tell()
        if rule.at == "line":
            return boundary
        if boundary == size:
            file.seek(0)
            boundary = 0
        return boundary + len(file.readline()) // 2
