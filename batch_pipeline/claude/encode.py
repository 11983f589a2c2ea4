"""Request bodies, byte by byte: what a batch's HTTP body will be, written to a file as rows come.

Everything that is the same in every request of a tier is encoded once and spliced in.
"""

import hashlib
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import orjson

_HEAD = b'{"requests":['
_TAIL = b"]}"
ENVELOPE_BYTES = len(_HEAD) + len(_TAIL)

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
        self._system: tuple[bytes, bytes] | None = None
        self._before = b'","params":' + before
        if varying_system:
            start, end = self._before.split(orjson.dumps(_SYSTEM_SLOT))
            self._system = (start, end)
        self._after = after + b"}"
        self._control = control
        self._head: tuple[str, bytes] = ("", b"")

    def request(
        self, custom_id: str, user: str, *, head: str = "", system: str | None = None
    ) -> bytes:
        """One element of the body's `requests`.

        Args:
            custom_id: of the row.
            user: the user message, or what follows its `head`.
            head: what it begins with in all rows; asked to be cached, so it is a block of its own.
            system: the system text, where it varies.
        """
        before = self._before
        if self._system is not None:
            before = self._system[0] + orjson.dumps(system or "") + self._system[1]
        # The API refuses blocks without text.
        if head.strip() and user.strip():
            content = (
                b"[" + self._encoded_head(head) + b"," + orjson.dumps(_text_block(user)) + b"]"
            )
        else:
            content = orjson.dumps(head + user)
        return b"".join((b'{"custom_id":"', custom_id.encode(), before, content, self._after))

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
    """A request body being written. `requests`, `bytes` and `sha256` describe what it holds."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb", buffering=1 << 20)
        self._digest = hashlib.sha256()
        self.requests = 0
        self.bytes = 0

    def __enter__(self) -> "BodyFile":
        self._write(_HEAD)
        return self

    def add(self, request: bytes) -> None:
        self._write(b"," + request if self.requests else request)
        self.requests += 1

    def bytes_with(self, request: bytes) -> int:
        """The size of the whole body if `request` were added to it."""
        return self.bytes + len(request) + (1 if self.requests else 0) + len(_TAIL)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            self._write(_TAIL)
        self._file.close()

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._digest.update(data)
        self.bytes += len(data)
