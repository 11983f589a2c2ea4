"""One small night, killed at one of its boundaries, and resumed: does it end as if nothing had happened?

    python -m batch_pipeline_tests.faults.crash_anywhere [stages|run] [product|dagster] [postgres] [NUMBER ...]

sweeps every boundary (or those numbers) through the stages or through `batch-pipeline run`, and says what each
came to; with `postgres` the ledger is there.
"""

import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import click

from batch_pipeline_tests import forked
from batch_pipeline_tests.faults.boundaries import DAGSTER, PRODUCT, Boundary, read_log
from batch_pipeline_tests.faults.outside import Left, Result, accepted, billed_twice, result
from batch_pipeline_tests.faults.place import Place, opened, rows, write_workload
from batch_pipeline_tests.faults.work import Ended, run
from batch_pipeline_tests.night import DAY, HAIKU
from batch_pipeline_tests.postgres import running

WORKLOAD = "questions"
KEY = (WORKLOAD, DAY)
STAGES = "batch_pipeline_tests.faults.driving:stages"
RUN = "batch_pipeline_tests.faults.driving:run"
_MAX_WAIT = 60

_KNOWN = rows("A customer", 6, "r{n:03}")
# One asks what another asks, so that the two share an answer.
_ROWS = [*_KNOWN, {**_KNOWN[3], "id": "again"}]
_GOLDEN = rows("A golden customer", 2, "g{n:03}")
_GATES = {"min_validity": 0, "golden_drop_points": 100, "max_cost_usd": 5}
# Two waves, the second in two chunks: rows climb, and are sent again. Decided by the row alone, so that a night
# that was interrupted has the same answers.
_SCENARIO: dict[str, Any] = {
    "seed": 1,
    "rows": [
        {"contains": "question 1.", "model": HAIKU, "fault": "unknown_label"},
        {"contains": "customer asks question 2.", "times": 1, "fault": "expired"},
        {"contains": "customer asks question 4.", "times": 1, "fault": "server_error"},
        {"contains": "question 5.", "fault": "invalid_request"},
    ],
}


@dataclass(frozen=True)
class Crash:
    """A night that was killed, perhaps twice, and what it came to. `wrong` is empty where all is well."""

    deaths: tuple[Boundary, ...]
    wrong: list[str]

    def __str__(self) -> str:
        died = ", then ".join(f"{b.owner} {b.number} ({b.kind}: {b.label})" for b in self.deaths)
        return f"killed at {died or 'nothing'}: {'; '.join(self.wrong) or 'as if nothing had happened'}"


class Crashes:
    """Nights that are killed, all by the same call."""

    def __init__(self, folder: Path, call: str, databases: Callable[[], str] | None = None) -> None:
        """`databases` makes the URL of an empty database for each night; without it the ledger is a file."""
        self._folder = folder
        self._databases = databases
        self._call = call
        self._numbers = count()
        with self._place() as place:
            ended = self._drive(place, "undisturbed")
            assert ended.code == 0, ended.output
            self.boundaries = read_log(place.folder / "processes" / "undisturbed" / "boundaries")
            self.files = [path for path in place.state.rglob("*") if path.is_file()]
            self.reference = self._result(place)

    def of(self, owner: str) -> list[int]:
        """The numbers of the boundaries that an undisturbed night has."""
        return [boundary.number for boundary in self.boundaries if boundary.owner == owner]

    def distinct(self, owner: str) -> list[int]:
        """As `of`, without those at which a death leaves the same as at the one before."""
        return [b.number for b in self.boundaries if b.owner == owner and not b.repeats]

    def crash(self, owner: str, *numbers: int) -> Crash:
        """Kills a night at these boundaries, the second counted anew in the process that resumes it."""
        with self._place() as place:
            deaths: list[Boundary] = []
            for number in numbers:
                name = f"killed{len(deaths)}"
                ended = self._drive(place, name, (owner, number))
                if not ended.killed:
                    # It had fewer boundaries: it has resumed what little there was.
                    break
                deaths.append(read_log(place.folder / "processes" / name / "boundaries")[-1])
            ended = self._drive(place, "resumed")
            wrong = [] if ended.code == 0 else [f"exit {ended.code}: {ended.output[-1500:]}"]
            if not wrong:
                wrong = self._wrong(place)
            return Crash(tuple(deaths), wrong)

    def _wrong(self, place: Place) -> list[str]:
        left, sent = Left(place.state, place.ledger), accepted(place.api)
        wrong = self.reference.differences(result(left, sent, KEY))
        ours, theirs = {b["batch_id"] for b in left.batches}, {b.batch_id for b in sent}
        if ours != theirs:
            wrong.append(f"the ledger has {len(ours)} batches, the API {len(theirs)}")
        wrong += billed_twice(left, sent)
        if leftovers := left.leftovers():
            wrong.append(f"left behind: {', '.join(leftovers)}")
        return wrong

    def _result(self, place: Place) -> Result:
        return result(Left(place.state, place.ledger), accepted(place.api), KEY)

    def _drive(self, place: Place, name: str, fatal: tuple[str, int] | None = None) -> Ended:
        work = place.work(self._call, [*KEY, _MAX_WAIT], name, fatal=fatal)
        return run(work if fatal else replace(work, watched=place.state))

    @contextmanager
    def _place(self) -> Iterator[Place]:
        folder = self._folder / str(next(self._numbers))
        ledger = self._databases() if self._databases else None
        with opened(folder, [*_KNOWN, *_GOLDEN], _SCENARIO, ledger) as place:
            # The pilot may be as bad as it likes: what is looked at is that it goes on.
            more: dict[str, Any] = {"pilot": {"rows": 2}, "gates": _GATES}
            write_workload(folder, WORKLOAD, {DAY: _ROWS}, _GOLDEN, limits={"attempts": 2}, **more)
            yield place
        shutil.rmtree(folder)


def sample(numbers: list[int], most: int) -> list[int]:
    """At most so many of them, evenly spread, the last one always."""
    if len(numbers) <= most:
        return numbers
    return sorted({numbers[-1 - round(i * (len(numbers) - 1) / (most - 1))] for i in range(most)})


def sweep(
    call: str,
    owner: str,
    numbers: Iterable[int],
    processes: int,
    databases: Callable[[], str] | None = None,
) -> Iterator[Crash]:
    """Crashes at all these boundaries, or at every one there is; several at a time."""
    chosen = list(numbers)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(processes) as pool:
        teams = list(
            pool.map(lambda n: Crashes(Path(folder) / str(n), call, databases), range(processes))
        )
        chosen = chosen or teams[0].of(owner)
        shares = [
            pool.submit(
                lambda t, mine: [t.crash(owner, k) for k in mine], team, chosen[n::processes]
            )
            for n, team in enumerate(teams)
        ]
        for share in shares:
            yield from share.result()


def report(
    call: str,
    owner: str,
    numbers: Iterable[int],
    processes: int,
    databases: Callable[[], str] | None = None,
) -> int:
    """Prints what a sweep came to; returns how many crashes did not end as if nothing had happened."""
    started = time.monotonic()
    crashes = list(sweep(call, owner, numbers, processes, databases))
    wrong = [crash for crash in crashes if crash.wrong]
    for crash in wrong:
        click.echo(str(crash))
    kinds = Counter(crash.deaths[0].kind for crash in crashes if crash.deaths)
    listed = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    click.echo(
        f"{len(crashes)} crashes of {call.partition(':')[2]} at boundaries of {owner} in "
        f"{time.monotonic() - started:.0f} s, {len(wrong)} ended wrong: {listed}"
    )
    return len(wrong)


def _main(arguments: list[str]) -> int:
    call = RUN if "run" in arguments else STAGES
    owner = DAGSTER if DAGSTER in arguments else PRODUCT
    numbers = [int(argument) for argument in arguments if argument.isdigit()]
    if "postgres" not in arguments:
        return int(report(call, owner, numbers, 2) > 0)
    with running() as server:
        return int(report(call, owner, numbers, 2, server.url) > 0)


if __name__ == "__main__":
    with forked.available():
        sys.exit(_main(sys.argv[1:]))
