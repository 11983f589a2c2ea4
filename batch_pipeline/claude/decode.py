"""Result files, read line by line into Parquet: one row per request sent, whatever the API's lines are like."""

import json
import re
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_pipeline.rows import Place, arrow_file

RESULT_TYPES = ("succeeded", "errored", "canceled", "expired")
_TOKEN = re.compile(r"[0-9a-f]{12}")
# No answer comes near it; a longer line is no line.
MAX_LINE_BYTES = 1 << 26
# What is held in memory at once, whichever is reached first.
_BLOCK_LINES, _BLOCK_BYTES = 5_000, 1 << 24

# pyarrow ships no types.
arrow: Any = pa
compute: Any = pc
parquet: Any = pq

_SCHEMA = arrow.schema(
    [
        ("row", arrow.int64()),
        ("chunk_id", arrow.string()),
        ("tier", arrow.int32()),
        ("attempt", arrow.int32()),
        ("sending", arrow.int32()),
        ("result", arrow.string()),
        ("stop_reason", arrow.string()),
        ("error_type", arrow.string()),
        ("error_message", arrow.string()),
        ("answer", arrow.string()),
        ("model", arrow.string()),
        ("message_id", arrow.string()),
        ("input_tokens", arrow.int64()),
        ("cache_write_5m_tokens", arrow.int64()),
        ("cache_write_1h_tokens", arrow.int64()),
        ("cache_read_tokens", arrow.int64()),
        ("output_tokens", arrow.int64()),
        ("service_tier", arrow.string()),
        ("inference_geo", arrow.string()),
        ("shared", arrow.bool_()),
    ]
)
_SENDING = ("row", "tier", "attempt", "sending")
_CARRIER = "of"
_ANSWERED = [name for name in _SCHEMA.names if name not in ("chunk_id", "shared", *_SENDING)]
_TOKENS = [name for name in _SCHEMA.names if name.endswith("_tokens")]
_NOTHING = (None, None, None, None, None, None, 0, 0, 0, 0, 0, None, None)


@dataclass(frozen=True)
class Defects:
    """What does not add up between a batch's results and what was sent. All zero when complete."""

    unparseable: int = 0
    foreign: int = 0
    duplicate: int = 0
    absent: int = 0
    miscounted: int = 0  # sum of differences, by result type, from the batch's own counts

    def __bool__(self) -> bool:
        return any(asdict(self).values())

    @property
    def harm(self) -> int:
        """Rows whose answer is not there: of several downloads, the one with the least is kept."""
        return self.absent

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Defects":
        return cls(**json.loads(text))

    def __str__(self) -> str:
        words = {
            "unparseable": "unreadable lines",
            "foreign": "lines with a foreign custom_id",
            "duplicate": "duplicate lines",
            "absent": "rows absent",
            "miscounted": "lines off the batch's own counts",
        }
        return ", ".join(f"{n} {words[k]}" for k, n in asdict(self).items() if n) or "none"


@dataclass(frozen=True)
class Reading:
    """What a results file holds: requests by what became of them, and what does not add up."""

    results: dict[str, int]
    defects: Defects


def read_results(
    raw: Path, sent: Place, to: Path, *, token: str, chunk_id: str, counts: dict[str, int] | None
) -> Reading:
    """Parses a results file into the Parquet file `to`, one line per row of `sent`, in no order.

    A row without a line gets the result `absent`. A line that is not JSON costs itself only; bytes that
    are not UTF-8 become U+FFFD; of two lines for a row the first counts. A row that another one carries
    gets the same line again, `shared` and without tokens: they are paid once.

    Args:
        raw: JSON lines as downloaded.
        sent: Parquet of row, tier, attempt, sending; and `of`, the row that carries it, else null.
        to: the file to write.
        token: the chunk's; every custom_id must be `<token>-<row>`.
        chunk_id: stored with every row.
        counts: the batch's own numbers by result type, or None where it gave none.
    """
    with _Writer(sent, to, chunk_id) as writer:
        unparseable = foreign = duplicate = 0
        prefix = f"{token}-"
        for line in _lines(raw):
            try:
                value = None if line is None else _json(line)
            except ValueError:
                value = None
            if line is None or value is None:
                unparseable += 1
                continue
            at = writer.position(_row(value, prefix))
            if at is None:
                foreign += 1
            elif writer.taken[at]:
                duplicate += 1
            else:
                writer.add(at, _answered(value), len(line))
        absent = writer.fill("absent")
    miscounted = 0
    if counts is not None:
        miscounted = sum(abs(counts.get(k, 0) - writer.results[k]) for k in RESULT_TYPES)
    return Reading(
        dict(writer.results), Defects(unparseable, foreign, duplicate, absent, miscounted)
    )


def token_of(custom_id: str) -> str | None:
    """The chunk's token in a custom_id of ours; None for one that is not."""
    token, _, row = custom_id.partition("-")
    ours = _TOKEN.fullmatch(token) and row.isascii() and row.isdigit()
    return token if ours else None


def mark_gone(sent: Place, to: Path, *, chunk_id: str) -> Reading:
    """Writes `to` for a batch whose results the API no longer has: every row is `gone`."""
    with _Writer(sent, to, chunk_id) as writer:
        writer.fill("gone")
    return Reading(dict(writer.results), Defects())


class _Writer:
    """Writes a line for each request of `sent`, by its position there, each once; its passengers follow it."""

    def __init__(self, sent: Place, to: Path, chunk_id: str) -> None:
        table = parquet.read_table(arrow_file(sent))
        self._passengers = None
        if _CARRIER in table.column_names:
            carried = compute.is_valid(table[_CARRIER])
            self._passengers = _Passengers(table.filter(carried))
            table = table.filter(compute.invert(carried))
        self._sent = [array("q", table[name].to_pylist()) for name in _SENDING]
        self._at = {row: at for at, row in enumerate(self._sent[0])}
        self._chunk_id = chunk_id
        self._file = parquet.ParquetWriter(to, _SCHEMA, compression="zstd")
        self._positions: list[int] = []
        self._lines: list[tuple[Any, ...]] = []
        self._bytes = 0
        self.taken = bytearray(len(self._at))
        self.results: Counter[str] = Counter()

    def __enter__(self) -> "_Writer":
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._file.close()

    def position(self, row: int | None) -> int | None:
        return None if row is None else self._at.get(row)

    def add(self, at: int, line: tuple[Any, ...], size: int) -> None:
        self.taken[at] = 1
        self.results[line[0]] += 1
        self._positions.append(at)
        self._lines.append(line)
        self._bytes += size
        if len(self._lines) >= _BLOCK_LINES or self._bytes >= _BLOCK_BYTES:
            self._flush()

    def fill(self, result: str) -> int:
        """Writes the rows that had no line, and returns how many they are."""
        missing = [at for at, taken in enumerate(self.taken) if not taken]
        for at in missing:
            self.add(at, (result, *_NOTHING), 0)
        return len(missing)

    def _flush(self) -> None:
        if not self._lines:
            return
        columns: dict[str, Any] = {
            name: [values[at] for at in self._positions]
            for name, values in zip(_SENDING, self._sent, strict=True)
        }
        columns["chunk_id"] = [self._chunk_id] * len(self._lines)
        columns["shared"] = [False] * len(self._lines)
        columns |= zip(_ANSWERED, zip(*self._lines, strict=True), strict=True)
        arrays = [arrow.array(columns[each.name], each.type) for each in _SCHEMA]
        block = arrow.Table.from_arrays(arrays, schema=_SCHEMA)
        self._file.write_table(block)
        if self._passengers is not None:
            for copies in self._passengers.lines(block):
                self._file.write_table(copies)
        self._positions, self._lines, self._bytes = [], [], 0


class _Passengers:
    """The rows of a chunk that another row of it carries. A million of them are four arrays."""

    def __init__(self, rows: Any) -> None:
        rows = rows.sort_by([(_CARRIER, "ascending"), ("row", "ascending")])
        self._rows = rows.select(list(_SENDING)).combine_chunks()
        self._of = rows[_CARRIER].to_numpy()

    def lines(self, block: Any) -> Iterator[Any]:
        """The lines of `block` once more for each passenger of their rows, a bounded number at a time."""
        of = block["row"].to_numpy()
        first = np.searchsorted(self._of, of, "left")
        many = np.searchsorted(self._of, of, "right") - first
        if not many.any():
            return
        lines = np.repeat(np.arange(len(of)), many)
        # Each carrier's passengers lie side by side: its first one's place, and on from there.
        places = np.arange(len(lines)) + np.repeat(first - (np.cumsum(many) - many), many)
        longest = compute.max(compute.binary_length(block["answer"])).as_py() or 0
        step = max(1, min(_BLOCK_LINES, _BLOCK_BYTES // (1 + longest)))
        for start in range(0, len(lines), step):
            copies = block.take(lines[start : start + step])
            rows = self._rows.take(places[start : start + step])
            nothing = arrow.repeat(arrow.scalar(0, arrow.int64()), len(copies))
            replaced = {name: rows[name] for name in _SENDING}
            replaced |= dict.fromkeys(_TOKENS, nothing)
            replaced["shared"] = arrow.repeat(arrow.scalar(True), len(copies))
            columns = [replaced.get(name, copies[name]) for name in _SCHEMA.names]
            yield arrow.table(columns, names=_SCHEMA.names).cast(_SCHEMA)


def _lines(raw: Path) -> Iterator[bytes | None]:
    """The lines that are not blank; None in place of one that is too long."""
    with raw.open("rb") as file:
        while line := file.readline(MAX_LINE_BYTES):
            if len(line) < MAX_LINE_BYTES or line.endswith(b"\n"):
                text = line.removeprefix(b"\xef\xbb\xbf").strip()
                if text:
                    yield text
                continue
            while (rest := file.readline(MAX_LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield None


def _json(line: bytes) -> Any:
    """Raises ValueError."""
    try:
        return orjson.loads(line)
    except ValueError:
        # Half a surrogate pair, or bytes that are not UTF-8, spoil a character and not an answer.
        text = line.decode(errors="replace")
        try:
            lenient = json.loads(text, parse_constant=_not_json)
        except RecursionError:
            raise ValueError from None
        return _whole(lenient)


def _not_json(name: str) -> Any:
    raise ValueError(name)


def _whole(value: Any) -> Any:
    """The value with half surrogate pairs replaced: no file can hold them."""
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list):
        return [_whole(each) for each in value]
    if isinstance(value, dict):
        return {_whole(name): _whole(each) for name, each in value.items()}
    return value


def _row(value: Any, prefix: str) -> int | None:
    """The row that a line is about, from its own custom_id; None for one that is not ours."""
    custom_id = value.get("custom_id") if isinstance(value, dict) else None
    if not isinstance(custom_id, str) or not custom_id.startswith(prefix):
        return None
    digits = custom_id[len(prefix) :]
    if not (digits.isascii() and digits.isdigit() and len(digits) < 19):
        return None
    return None if digits[0] == "0" and digits != "0" else int(digits)


def _answered(value: dict[str, Any]) -> tuple[Any, ...]:
    """The columns of `_ANSWERED`. Nothing is taken for granted: a line is what somebody else wrote."""
    result = _object(value.get("result"))
    message = _object(result.get("message"))
    error = _object(_object(result.get("error")).get("error"))
    usage = _object(message.get("usage"))
    written = _tokens(usage.get("cache_creation_input_tokens"))
    # Without the breakdown by lifetime a write is a 5-minute one, the API's default.
    hour = _tokens(_object(usage.get("cache_creation")).get("ephemeral_1h_input_tokens"))
    kind = result.get("type")
    return (
        kind if isinstance(kind, str) else "unknown",
        _text(message.get("stop_reason")),
        _text(error.get("type")),
        _text(error.get("message")),
        _answer(message.get("content")),
        _text(message.get("model")),
        _text(message.get("id")),
        _tokens(usage.get("input_tokens")),
        max(written - hour, 0),
        hour,
        _tokens(usage.get("cache_read_input_tokens")),
        _tokens(usage.get("output_tokens")),
        _text(usage.get("service_tier")),
        _text(usage.get("inference_geo")),
    )


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _tokens(value: Any) -> int:
    counts = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63
    return value if counts else 0


def _answer(content: Any) -> str | None:
    """The text blocks, joined; thinking and tools are not the answer."""
    if not isinstance(content, list):
        return None
    texts = [
        block.get("text")
        for block in content
        if isinstance(block, dict) and block.get("type") == "text"
    ]
    return "".join(text for text in texts if isinstance(text, str))
