"""A line of JSON per message, in a file that any log shipper reads, and in this process's log."""

import fcntl
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path

from batch_pipeline.alerts.message import Channel, Message, UndeliveredError

logger = logging.getLogger("batch_pipeline.alerts")
# A program that set up no logging has the file; its standard error is for its own sentences.
logger.addHandler(logging.NullHandler())

# A repetition is looked for this far back; more than is written between a kill and the next attempt.
_TAIL_BYTES = 1_000_000


class Log(Channel):
    """Appends; a line that a killed process left behind is not written again."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def send(self, message: Message, *, again: bool) -> str:
        line = json.dumps({"at": _now(), **message.to_json()}, ensure_ascii=False)
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "a+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                size = file.seek(0, os.SEEK_END)
                file.seek(max(size - _TAIL_BYTES, 0))
                tail = file.read()
                if again and f'"delivery_id": "{message.delivery_id}"'.encode() in tail:
                    return "was in the log already"
                # A line that was cut off must not swallow this one.
                file.write(b"\n" if tail and not tail.endswith(b"\n") else b"")
                file.write(f"{line}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise UndeliveredError(f"{self._path} cannot be written: {error.strerror}.") from None
        level = logging.WARNING if message.severity == "page" else logging.INFO
        logger.log(level, "%s: %s", message.headline, message.sentence)
        return f"written to {self._path}"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
