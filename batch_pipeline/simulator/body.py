"""The body of a create call: found request by request, without decoding the whole of it.

A batch may have 256 MB. The clients write `{"requests":[{"custom_id":...},...]}`, so each request is
looked for by its beginning and decoded alone. Any other layout that JSON allows is decoded whole.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path
from typing import Any, Protocol

import orjson

from .api_errors import ApiError

CUSTOM_ID_PATTERN = "^[a-zA-Z0-9_-]{1,64}$"

_OPENING = b'{"requests":['
_BEGINNING = b'{"custom_id":'
_CLOSING = b"]}"
_CUSTOM_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}\Z")
_MAX_NESTED = 1_000  # beginnings inside one request, before the plain layout is given up


class Reader(Protocol):
    """Is shown the requests of a body."""

    def begin(self) -> None:
        """Forget what was shown: it begins (again)."""

    def take(self, request: dict[str, Any], offset: int, size: int) -> None:
        """The next request, and where it stands in the file, in bytes."""


def read_requests(path: Path, max_requests: int, reader: Reader) -> int:
    """Check the body of a create call and show each request. The file is rewritten in the plain
    layout if it had another, so that offsets always hold.

    Returns:
        The number of requests.

    Raises:
        ApiError: what the API would refuse at once.
    """
    checker = _Checker(reader)
    if path.stat().st_size == 0:
        raise ApiError(400, "The request body is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        plain = _read_plain(data, checker)
        if not plain:
            requests = _decode(data[:])
    if not plain:
        _check_count(len(requests), max_requests)
        _write_plain(path, requests)
        checker = _Checker(reader)
        offset = len(_OPENING)
        for request in requests:
            size = len(orjson.dumps(request))
            checker.take(request, offset, size)
            offset += size + 1
    _check_count(checker.count, max_requests)
    if checker.refusal is not None:
        raise checker.refusal
    return checker.count


class _Checker:
    """Counts the requests, keeps the first objection, and shows those before it."""

    def __init__(self, reader: Reader) -> None:
        reader.begin()
        self._reader = reader
        self._ids: set[str] = set()
        self.count = 0
        self.refusal: ApiError | None = None

    def take(self, request: object, offset: int, size: int) -> None:
        if self.refusal is None:
            message = self._objection(request)
            if message is not None:
                self.refusal = ApiError(400, f"requests.{self.count}{message}")
            else:
                self._reader.take(request, offset, size)  # type: ignore[arg-type]
        self.count += 1

    def _objection(self, request: object) -> str | None:
        if not isinstance(request, dict):
            return ": Input should be a valid dictionary"
        missing = next((name for name in ("custom_id", "params") if name not in request), None)
        if missing is not None:
            return f".{missing}: Field required"
        extra = next((name for name in request if name not in {"custom_id", "params"}), None)
        if extra is not None:
            return f".{extra[:80]}: Extra inputs are not permitted"
        custom_id = request["custom_id"]
        reason = _id_objection(custom_id)
        if reason is None and custom_id in self._ids:
            # That ids are unique is documented, what a duplicate gets is not.
            reason = "Value must be unique within the batch"
        if reason is not None:
            return f".custom_id: {reason}"
        if not isinstance(request["params"], dict):
            return ".params: Input should be a valid dictionary"
        self._ids.add(custom_id)
        return None


def _id_objection(custom_id: object) -> str | None:
    if not isinstance(custom_id, str):
        return "Input should be a valid string"
    if not custom_id:
        return "String should have at least 1 character"
    if len(custom_id) > 64:
        return "String should have at most 64 characters"
    if not _CUSTOM_ID.match(custom_id):
        return f"String should match pattern '{CUSTOM_ID_PATTERN}'"
    return None


def _check_count(count: int, most: int) -> None:
    if count == 0:
        raise ApiError(400, "requests: List should have at least 1 item after validation, not 0")
    if count > most:
        raise ApiError(
            400, f"requests: List should have at most {most} items after validation, not {count}"
        )


def _read_plain(data: mmap.mmap, checker: _Checker) -> bool:
    """False if the layout is not the plain one (or not JSON at all).

    An unescaped `{"custom_id":` begins an object wherever it stands in valid JSON, since in a string
    its quotes would be escaped. It may begin an object inside a request; then what lies before it is
    not a whole request yet.
    """
    end = len(data) - len(_CLOSING)
    start = len(_OPENING)
    first = data[: start + len(_BEGINNING)]
    if first != _OPENING + _BEGINNING or data[end:] != _CLOSING:
        return False
    while start < end:
        stop = start
        for _ in range(_MAX_NESTED):
            stop = data.find(_BEGINNING, stop + len(_BEGINNING))
            last = stop < 0 or stop >= end
            cut = end if last else stop - 1
            if not last and data[cut : cut + 1] != b",":
                continue
            try:
                request = orjson.loads(data[start:cut])
            except orjson.JSONDecodeError:
                if last:
                    return False
                continue
            break
        else:
            return False
        checker.take(request, start, cut - start)
        start = cut + 1
    return True


def _decode(data: bytes) -> list[Any]:
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, f"The request body is not valid JSON: {error.msg}") from None
    if not isinstance(body, dict):
        raise ApiError(400, "Input should be a valid dictionary or object to extract fields from")
    for name in body:
        if name != "requests":
            raise ApiError(400, f"{name[:80]}: Extra inputs are not permitted")
    if "requests" not in body:
        raise ApiError(400, "requests: Field required")
    if not isinstance(body["requests"], list):
        raise ApiError(400, "requests: Input should be a valid list")
    return body["requests"]


def _write_plain(path: Path, requests: list[Any]) -> None:
    with path.open("wb") as file:
        file.write(_OPENING)
        for i, request in enumerate(requests):
            if i:
                file.write(b",")
            file.write(orjson.dumps(request))
        file.write(_CLOSING)
