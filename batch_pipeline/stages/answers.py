"""The file in which a synchronous chunk's answers are kept as they come, so that none is paid for twice.

One JSON object per line, each written at once: `{"started":…}` before a request is sent, `{"not_taken":…}` when
the API had no room for it, and its result in the form of a batch's results. A request that was started and has
neither was under way when the process ended. In an object store they are objects instead (`answer_objects`).
"""

import os
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from batch_pipeline.rows import Place
from batch_pipeline.stages.answer_lines import RESULT, result_line, type_of
from batch_pipeline.stages.answer_objects import AnswerObjects, write_object_results

_STARTED, _NOT_TAKEN = b'{"started":"', b'{"not_taken":"'
# A power cut costs the answers of so many seconds at most.
_SYNC_SECONDS = 1.0


class AnswersFile:
    """A chunk's answers: what is there already, and what is added, by any thread.

    Attributes:
        answered: the custom_ids that have a result.
        under_way: those that were sent, and of which nothing is known yet.
        results: how many results there are by type.
    """

    def __init__(self, path: Path) -> None:
        """Opens the file, or creates it; half a line at its end, which a crash left, is cut off."""
        self.answered: set[str] = set()
        self.under_way: set[str] = set()
        self.results: Counter[str] = Counter()
        self._lock, self._may_start = threading.Lock(), True
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = 0
        for line in _whole_lines(path):
            whole += len(line)
            self._note(line)
        # Unbuffered: what was written outlives this process.
        self._file = path.open("ab", buffering=0)
        self._file.truncate(whole)
        self._synced_at = time.monotonic()

    def start(self, custom_id: str) -> bool:
        """Notes that a request is about to be sent; False where it must not be."""
        with self._lock:
            if not self._may_start:
                return False
            self._write(_STARTED + custom_id.encode() + b'"}\n')
        return True

    def start_no_more(self) -> None:
        """From here on `under_way` only shrinks."""
        with self._lock:
            self._may_start = False

    def not_taken(self, custom_id: str) -> None:
        """It was not answered and will not be paid; it may be started again."""
        self._append(_NOT_TAKEN + custom_id.encode() + b'"}\n')

    def add(self, custom_id: str, result: bytes) -> None:
        """`result` is JSON on one line that begins with its type."""
        self._append(result_line(custom_id, result))

    def add_all(self, custom_ids: Sequence[str], result: bytes) -> None:
        """The same result for each of them."""
        for each in custom_ids:
            self.add(each, result)

    def sync(self) -> None:
        """Puts on disk what was written."""
        os.fsync(self._file.fileno())
        self._synced_at = time.monotonic()

    def __enter__(self) -> "AnswersFile":
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._file.close()

    def _append(self, line: bytes) -> None:
        with self._lock:
            self._write(line)
        if time.monotonic() - self._synced_at >= _SYNC_SECONDS:
            self.sync()

    def _write(self, line: bytes) -> None:
        rest = memoryview(line)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._note(line)

    def _note(self, line: bytes) -> None:
        kind, _, text = line.partition(b':"')
        custom_id = text.partition(b'"')[0].decode("ascii", "replace")
        kind += b':"'
        if kind == RESULT:
            self.under_way.discard(custom_id)
            self.answered.add(custom_id)
            self.results[type_of(line)] += 1
        elif kind == _STARTED:
            self.under_way.add(custom_id)
        elif kind == _NOT_TAKEN:
            self.under_way.discard(custom_id)


Answers = AnswersFile | AnswerObjects


def open_answers(place: Place) -> Answers:
    """A chunk's answers: a file of this host, or objects that every host finds."""
    return AnswersFile(place) if isinstance(place, Path) else AnswerObjects(place)


def remove_answers(place: Place) -> None:
    """Removes them, if there are any."""
    if isinstance(place, Path):
        place.unlink(missing_ok=True)
    else:
        place.store.remove_below(place.url)


def write_results(answers: Place, to: Path) -> bool:
    """Writes the results alone to `to`, as the API hands out a batch's; False where there is no such file."""
    if not isinstance(answers, Path):
        return write_object_results(answers, to)
    try:
        source = answers.open("rb")
    except FileNotFoundError:
        return False
    with source, to.open("wb") as target:
        target.writelines(line for line in source if line.startswith(RESULT))
    return True


def _whole_lines(path: Path) -> Iterator[bytes]:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        yield from (line for line in file if line.endswith(b"\n"))
