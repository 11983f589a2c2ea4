"""The simulator's folder: bodies, batch records, results and logs, each whole or absent at any moment.

- batches/<id>/body.json: the requests, in the plain layout of `body`
- batches/<id>/index.bin: per request its offset, its length, and 1 + the row rule that fired
- batches/<id>/record.json: what was accepted; cancellation; deletion
- batches/<id>/results.jsonl, billed.bin, outcome.json: written together, the outcome last
- incoming/: bodies on their way
- rules.json, calls.log, messages.jsonl: counts of row rules, calls, single messages billed
"""

from __future__ import annotations

import os
import secrets
import shutil
from array import array
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import orjson

from .errors import SimulatorError

Stopped = Literal["canceled", "expired"]
Tokens = dict[str, dict[str, int]]
"""Billed tokens by category, by the model that the requests name."""


@dataclass(slots=True)
class Record:
    """One accepted batch. Times are Unix times, durations seconds."""

    id: str
    sequence: int
    requests: int
    bytes: int
    sha256: str
    created_at: float
    turnaround: float
    expires_after: float
    kept: float
    version: str
    betas: list[str]
    cancel_initiated_at: float | None = None
    cancel_seconds: float = 0.0
    deleted: bool = False

    @property
    def stopped(self) -> Stopped | None:
        """Why it ends before its requests are done, if so."""
        if self.cancel_initiated_at is not None:
            return "canceled"
        return "expired" if self.turnaround > self.expires_after else None

    @property
    def ends_at(self) -> float:
        if self.cancel_initiated_at is not None:
            return self.cancel_initiated_at + self.cancel_seconds
        return self.created_at + min(self.turnaround, self.expires_after)


@dataclass(slots=True)
class Outcome:
    """The end of a batch, in numbers."""

    stopped: Stopped | None
    counts: dict[str, int]
    tokens: Tokens = field(default_factory=dict)
    billed: int = 0
    from_key: int = 0


class Store:
    """Reads and writes the folder. `durable` waits for the disk at every step that must last."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self._folder = folder
        self._durable = durable
        self._batches = folder / "batches"
        self._incoming = folder / "incoming"
        try:
            self._batches.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(self._incoming, ignore_errors=True)
            self._incoming.mkdir()
            self._calls = (folder / "calls.log").open("ab", buffering=0)
        except OSError as error:
            raise SimulatorError(
                f"{folder}: cannot keep the simulator's state here: {error.strerror}."
            ) from None

    def close(self) -> None:
        self._calls.close()

    def load(self) -> Iterator[tuple[Record, Outcome | None]]:
        """All batches, oldest first."""
        records = [
            Record(**orjson.loads(path.read_bytes()))
            for path in self._batches.glob("*/record.json")
        ]
        for record in sorted(records, key=lambda r: r.sequence):
            outcome = self.path(record.id, "outcome.json")
            if outcome.exists():
                yield record, Outcome(**orjson.loads(outcome.read_bytes()))
            else:
                yield record, None

    def path(self, batch_id: str, name: str) -> Path:
        return self._batches / batch_id / name

    def new_folder(self) -> Path:
        """An empty folder for a batch on its way."""
        folder = self._incoming / secrets.token_hex(8)
        folder.mkdir()
        return folder

    def discard(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def accept(self, folder: Path, record: Record, index: array[int]) -> None:
        """Make the folder, which holds body.json, a batch. From here on it survives anything."""
        with (folder / "index.bin").open("wb") as file:
            index.tofile(file)
            self._flush(file)
        if self._durable:
            with (folder / "body.json").open("rb") as file:
                os.fsync(file.fileno())
        self._replace(folder / "record.json", asdict(record))
        folder.rename(self._batches / record.id)
        self._flush_folder(self._batches)

    def index(self, record: Record) -> array[int]:
        index = array("Q")
        with self.path(record.id, "index.bin").open("rb") as file:
            index.fromfile(file, 3 * record.requests)
        return index

    def save_record(self, record: Record) -> None:
        self._replace(self.path(record.id, "record.json"), asdict(record))

    def save_outcome(
        self, record: Record, outcome: Outcome, results: Path, billed: array[int]
    ) -> None:
        """Publish the results file, and what was billed, of a batch that has been worked through."""
        with self.path(record.id, "billed.bin").open("wb") as file:
            billed.tofile(file)
            self._flush(file)
        if self._durable:
            with results.open("rb") as file:
                os.fsync(file.fileno())
        results.replace(self.path(record.id, "results.jsonl"))
        self._replace(self.path(record.id, "outcome.json"), asdict(outcome))

    def drop_outcome(self, record: Record) -> None:
        self.path(record.id, "outcome.json").unlink(missing_ok=True)

    def drop_content(self, record: Record) -> None:
        """Delete a batch's rows and results; its record and its account stay."""
        for name in ("body.json", "index.bin", "results.jsonl"):
            self.path(record.id, name).unlink(missing_ok=True)

    def billed(self, record: Record) -> array[int]:
        """A 64-bit digest of the params of each billed request."""
        digests = array("Q")
        digests.frombytes(self.path(record.id, "billed.bin").read_bytes())
        return digests

    def log_call(self, kind: str, status: str) -> None:
        """`status` is empty when the call begins, then what it ended with."""
        self._calls.write(f"{kind} {status}\n".encode())

    def logged_calls(self) -> Iterator[tuple[str, str]]:
        with (self._folder / "calls.log").open(encoding="ascii") as file:
            for line in file:
                if line.endswith("\n"):
                    kind, _, status = line.rstrip("\n").partition(" ")
                    yield kind, status

    def save_rule_counts(self, counts: list[list[int]]) -> None:
        self._replace(self._folder / "rules.json", counts)

    def rule_counts(self) -> list[list[int]]:
        path = self._folder / "rules.json"
        counts: list[list[int]] = orjson.loads(path.read_bytes()) if path.exists() else []
        return counts

    def log_message(self, billed: dict[str, Any]) -> None:
        with (self._folder / "messages.jsonl").open("ab") as file:
            file.write(orjson.dumps(billed) + b"\n")

    def logged_messages(self) -> Iterator[dict[str, Any]]:
        path = self._folder / "messages.jsonl"
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):
                        yield orjson.loads(line)

    def _replace(self, path: Path, value: object) -> None:
        temporary = path.with_suffix(".tmp")
        with temporary.open("wb") as file:
            file.write(orjson.dumps(value))
            self._flush(file)
        temporary.replace(path)
        self._flush_folder(path.parent)

    def _flush(self, file: IO[bytes]) -> None:
        if self._durable:
            file.flush()
            os.fsync(file.fileno())

    def _flush_folder(self, folder: Path) -> None:
        if self._durable:
            handle = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
