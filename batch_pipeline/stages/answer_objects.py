"""Synchronous answers in an object store, where nothing can be appended: an object for each, named by what it says.

answers/<chunk>.jsonl/
    <custom_id>.started          a request is about to be sent
    <custom_id>.<type>.json      its result, in the form of a batch's results; <type> is the result's
    <custom_id>.many.jsonl       results that were made here, many at once, as lines

Each is in the store when the call returns, so a host that is lost takes none with it. One listing tells what is
answered and what was under way. Two requests to the store are made for each row: a thousandth of a cent.
"""

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from batch_pipeline.rows import ObjectPath
from batch_pipeline.stages.answer_lines import RESULT, custom_id_of, result_line, type_of

_STARTED, _ANSWER, _MANY = ".started", ".json", ".many.jsonl"
_READ_AT_ONCE = 500


class AnswerObjects:
    """As AnswersFile, below a URL. Its calls raise what the store's raise."""

    def __init__(self, place: ObjectPath) -> None:
        self.answered: set[str] = set()
        self.under_way: set[str] = set()
        self.results: Counter[str] = Counter()
        self._place = place
        self._lock, self._may_start = threading.Lock(), True
        for url in place.store.below(place.url):
            name = url.rpartition("/")[2]
            if name.endswith(_MANY):
                for line in place.store.read_all([url])[0].splitlines():
                    self._note(custom_id_of(line), type_of(line))
            elif name.endswith(_ANSWER):
                custom_id, _, kind = name.removesuffix(_ANSWER).partition(".")
                self._note(custom_id, kind)
            elif name.endswith(_STARTED):
                self.under_way.add(name.removesuffix(_STARTED))
        self.under_way -= self.answered

    def start(self, custom_id: str) -> bool:
        """Notes that a request is about to be sent; False where it must not be."""
        with self._lock:
            if not self._may_start:
                return False
            self.under_way.add(custom_id)
        try:
            self._write(custom_id + _STARTED, b"{}")
        except BaseException:
            # It is not sent.
            with self._lock:
                self.under_way.discard(custom_id)
            raise
        return True

    def start_no_more(self) -> None:
        """From here on `under_way` only shrinks."""
        with self._lock:
            self._may_start = False

    def not_taken(self, custom_id: str) -> None:
        """It was not answered and will not be paid; it may be started again."""
        (self._place / (custom_id + _STARTED)).unlink(missing_ok=True)
        with self._lock:
            self.under_way.discard(custom_id)

    def add(self, custom_id: str, result: bytes) -> None:
        """`result` is JSON on one line that begins with its type."""
        line = result_line(custom_id, result)
        kind = type_of(line)
        self._write(f"{custom_id}.{kind}{_ANSWER}", line)
        with self._lock:
            self._note(custom_id, kind)

    def add_all(self, custom_ids: Sequence[str], result: bytes) -> None:
        """The same result for each of them."""
        if not custom_ids:
            return
        lines = [result_line(each, result) for each in custom_ids]
        self._write(custom_ids[0] + _MANY, b"".join(lines))
        with self._lock:
            for each in custom_ids:
                self._note(each, type_of(lines[0]))

    def sync(self) -> None:
        """All is in the store already."""

    def __enter__(self) -> "AnswerObjects":
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""

    def _write(self, name: str, content: bytes) -> None:
        self._place.store.write(f"{self._place.url}/{name}", content)

    def _note(self, custom_id: str, kind: str) -> None:
        self.under_way.discard(custom_id)
        if custom_id not in self.answered:
            self.answered.add(custom_id)
            self.results[kind] += 1


def write_object_results(place: ObjectPath, to: Path) -> bool:
    """As `write_results`."""
    urls = list(place.store.below(place.url))
    with to.open("wb") as target:
        for content in _contents(place, [url for url in urls if not url.endswith(_STARTED)]):
            target.writelines(
                line for line in content.splitlines(keepends=True) if line.startswith(RESULT)
            )
    return bool(urls)


def _contents(place: ObjectPath, urls: list[str]) -> Iterator[bytes]:
    for start in range(0, len(urls), _READ_AT_ONCE):
        yield from place.store.read_all(urls[start : start + _READ_AT_ONCE])
