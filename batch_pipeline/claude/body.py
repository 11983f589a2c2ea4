"""The requests of a body that was written to disk, one by one, without decoding it or reading it whole."""

import mmap
from collections.abc import Iterator
from pathlib import Path

_HEAD, _TAIL = b'{"requests":[', b"]}"
_PARAMS = b'","params":'


class DamagedBodyError(Exception):
    """A body file is not as it was written."""


def body_requests(body: Path, token: str) -> Iterator[tuple[str, bytes]]:
    """Yields each request's custom_id and its params, byte for byte as they stand in the file.

    Where a request begins shows by its unescaped `{"custom_id":"<token>-`: within a string its quotes would
    be escaped, and the token is the chunk's alone.

    Args:
        body: as `BodyFile` writes it.
        token: the chunk's, with which every custom_id begins.

    Raises DamagedBodyError.
    """
    beginning = b'{"custom_id":"' + token.encode() + b"-"
    try:
        file = body.open("rb")
    except FileNotFoundError:
        raise DamagedBodyError from None
    with file:
        if not body.stat().st_size:
            raise DamagedBodyError
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            end = len(data) - len(_TAIL)
            if data[: len(_HEAD)] != _HEAD or data[end:] != _TAIL:
                raise DamagedBodyError
            start = len(_HEAD)
            while start < end:
                following = data.find(b"," + beginning, start + 1)
                stop = end if following < 0 else following
                yield _parts(data[start:stop], beginning)
                start = stop + 1


def _parts(request: bytes, beginning: bytes) -> tuple[str, bytes]:
    custom_id, params, rest = request.partition(_PARAMS)
    if not (custom_id.startswith(beginning) and params and rest.endswith(b"}}")):
        raise DamagedBodyError
    return custom_id.removeprefix(b'{"custom_id":"').decode("ascii", "replace"), rest[:-1]
