"""Seeded draws: the same key gives the same numbers, in any order, process and year."""

from __future__ import annotations

import struct
from hashlib import blake2b

_EIGHT = struct.Struct("<8Q")
_SCALE = 2.0**-64


def digest(text: str) -> bytes:
    """16 bytes that stand for a text."""
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def draws(*key: int | str | bytes) -> tuple[float, ...]:
    """Eight independent numbers in [0, 1), decided by the key alone."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in key]
    return tuple([n * _SCALE for n in _EIGHT.unpack(blake2b(b"\x00".join(parts)).digest())])


def pick(draw: float, count: int) -> int:
    """An index below `count` (at least 1) from a draw in [0, 1)."""
    return min(int(draw * count), count - 1)
