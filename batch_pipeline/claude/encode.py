"""Request bodies, byte by byte: what a batch's HTTP body will be, written to a file as rows come.

Everything that is the same in every request of a tier is encoded once and spliced in.
"""

import hashlib
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import orjson

_HEAD = b'{"requests":['
_TAIL = b"]}"
ENVELOPE_BYTES = len(_HEAD) + len(_TAIL)

_START = b'{"custom_id":"'
_SLOT = "\x00slot\x00"

_SYSTEM_SLOT = "\x00system\x00"


class RequestTemplate:
    """All of a tier's requests but for their custom_id, their user message and, where it varies, the system text."""

    def __init__(
        self,
        *,
        model: str,
        max_tokens: int,
        system: str | None,
        cache: str,
        answer_schema: dict[str, Any],
        effort: str | None = None,
        thinking: dict[str, Any] | None = None,
        inference_geo: str | None = None,
        varying_system: bool = False,
    ) -> None:
        """`cache` is none, 5m or 1h; `answer_schema` obeys the API's schema language.

        Where the system text varies it is given with each request, and `system` is left out.
        """
        output_config: dict[str, Any] = {"format": {"type": "json_schema", "schema": answer_schema}}
        if effort is not None:
            output_config["effort"] = effort
        params: dict[str, Any] = {"model": model, "max_tokens": max_tokens}
        if thinking is not None:
            params["thinking"] = thinking
        params["output_config"] = output_config
        if inference_geo is not None:
            params["inference_geo"] = inference_geo
        control = None if cache == "none" else {"type": "ephemeral", "ttl": cache}
        if system is not None or varying_system:
            params["system"] = [_text_block(_SYSTEM_SLOT if varying_system else system, control)]
        params["messages"] = [{"role": "user", "content": _SLOT}]
        before, after = orjson.dumps(params).split(orjson.dumps(_SLOT))
        before, self._between = b'","params":' + before, b""
        if varying_system:
            before, self._between = before.split(orjson.dumps(_SYSTEM_SLOT))
        self._varying_system = varying_system
        self._before, self._after = before, after + b"}"
        self._control = control
        self._head: tuple[str, bytes] = ("", b"")

    @property
    def constant_bytes(self) -> int:
        """The size of a request without its custom_id and what varies."""
        return len(_START) + len(self._before) + len(self._after)

    def varying(self, user: str, *, head: str = "", system: str | None = None) -> bytes:
        """The part of a request that differs from row to row, as JSON.

        Args:
            user: the user message, or what follows its `head`.
            head: what it begins with in all rows; asked to be cached, so it is a block of its own.
            system: the system text, where it varies.
        """
        # The API refuses blocks without text.
        if head.strip() and user.strip():
            content = (
                b"[" + self._encoded_head(head) + b"," + orjson.dumps(_text_block(user)) + b"]"
            )
        else:
            content = orjson.dumps(head + user)
        if self._varying_system:
            return orjson.dumps(system or "") + self._between + content
        return content

    def request(
        self, custom_id: str, user: str, *, head: str = "", system: str | None = None
    ) -> bytes:
        """One element of the body's `requests`; arguments as of `varying`."""
        return self.request_of(custom_id, self.varying(user, head=head, system=system))

    def request_of(self, custom_id: str, varying: bytes) -> bytes:
        """One element of the body's `requests`, of what `varying` gave."""
        return b"".join((_START, custom_id.encode(), self._before, varying, self._after))

    def requests(self, token: str, rows: Iterable[int], varying: Iterable[bytes]) -> bytes:
        """Elements of the body's `requests`, a comma between each two: of each row, with `<token>-<row>`."""
        start = _START + token.encode() + b"-"
        numbers = [b"%d" % row for row in rows]
        # One join copies each byte once, without a bytes object per request.
        pieces = zip(numbers, repeat(self._before), varying, repeat(self._after + b"," + start))
        joined = b"".join(chain((start,), chain.from_iterable(pieces)))
        return joined[: -len(start) - 1]

    def _encoded_head(self, head: str) -> bytes:
        if self._head[0] != head:
            self._head = (head, orjson.dumps(_text_block(head, self._control)))
        return self._head[1]


def _text_block(text: str | None, control: dict[str, str] | None = None) -> dict[str, Any]:
    block: dict[str, Any] = {"type": "text", "text": text}
    if control is not None:
        block["cache_control"] = control
    return block


class BodyFile:
    """A request body being written. `requests`, `bytes` and `sha256` describe what it holds.

    Digest and write are a thread's of their own: neither needs the interpreter, which encodes the next part.
    """

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb", buffering=0)
        self._digest = hashlib.sha256()
        self._writer = ThreadPoolExecutor(1, "body")
        self._written: Future[None] | None = None
        self.requests = 0
        self.bytes = 0

    def __enter__(self) -> "BodyFile":
        self._write(_HEAD)
        return self

    def add(self, joined: bytes, requests: int = 1) -> None:
        """Adds so many requests, commas between them. Raises OSError, also of an earlier call."""
        if self.requests:
            self._write(b",")
        self._write(joined)
        self.requests += requests

    def room(self, most_bytes: int) -> int:
        """How many bytes more would make the whole body `most_bytes` long."""
        return most_bytes - self.bytes - (1 if self.requests else 0) - len(_TAIL)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._write(_TAIL)
                self._wait()
        finally:
            self._writer.shutdown()
            self._file.close()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        # One part is written while the next is made, and no third is held in memory.
        self._wait()
        self._written = self._writer.submit(self._append, data)
        self.bytes += len(data)

    def _append(self, data: bytes) -> None:
        self._digest.update(data)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    def _wait(self) -> None:
        if self._written is not None:
            self._written.result()
