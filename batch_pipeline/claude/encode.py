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


class RequestTemplate:
    """All of a tier's requests but for their custom_id and user message."""

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
    ) -> None:
        """`cache` is none, 5m or 1h; `answer_schema` obeys the API's schema language."""
        output_config: dict[str, Any] = {"format": {"type": "json_schema", "schema": answer_schema}}
        if effort is not None:
            output_config["effort"] = effort
        params: dict[str, Any] = {"model": model, "max_tokens": max_tokens}
        if thinking is not None:
            params["thinking"] = thinking
        params["output_config"] = output_config
        if inference_geo is not None:
            params["inference_geo"] = inference_geo
        if system is not None:
            block: dict[str, Any] = {"type": "text", "text": system}
            if cache != "none":
                block["cache_control"] = {"type": "ephemeral", "ttl": cache}
            params["system"] = [block]
        params["messages"] = [{"role": "user", "content": _SLOT}]
        before, after = orjson.dumps(params).split(orjson.dumps(_SLOT))
        self._before = b'","params":' + before
        self._after = after + b"}"

    def request(self, custom_id: str, user: str) -> bytes:
        """One element of the body's `requests`."""
        return b"".join(
            (
                b'{"custom_id":"',
                custom_id.encode(),
                self._before,
                orjson.dumps(user),
                self._after,
            )
        )


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
