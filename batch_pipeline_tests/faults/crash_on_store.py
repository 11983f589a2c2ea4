"""One small night whose rows lie in an object store: its host is killed around a write, another one ends it.

    python -m batch_pipeline_tests.faults.crash_on_store [NUMBER ...]

sweeps every write to the store, or those numbers: even ones are killed when the store has it and nobody heard of
it, odd ones before the store does. The other host has the ledger and the store, and nothing else of the first.
"""

import os
import shutil
import signal
import sys
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import duckdb
import fsspec  # type: ignore[import-untyped]

from batch_pipeline_tests import forked
from batch_pipeline_tests.faults.outside import Left, accepted
from batch_pipeline_tests.faults.place import Place, opened, rows, write_workload
from batch_pipeline_tests.faults.work import Ended, start
from batch_pipeline_tests.night import DAY, HAIKU
from batch_pipeline_tests.object_store import ObjectStore, running
from batch_pipeline_tests.store_proxy import Asked, StoreProxy, in_front_of

STAGES = "batch_pipeline_tests.faults.driving:stages"
_WRITES = ("PUT", "POST", "DELETE")
_ROWS = rows("A customer", 5, "r{n:03}")
_GOLDEN = rows("A golden customer", 2, "g{n:03}")
# Decided by the row alone, so that a night that was interrupted has the same answers: two waves.
_SCENARIO: dict[str, Any] = {
    "seed": 1,
    "rows": [
        {"contains": "question 1.", "model": HAIKU, "fault": "unknown_label"},
        {"contains": "customer asks question 2.", "times": 1, "fault": "expired"},
    ],
}


@dataclass(frozen=True)
class Came:
    """What a night came to: the promoted rows, the dispositions, the requests that the API accepted."""

    promoted: list[tuple[Any, ...]]
    dispositions: list[tuple[Any, ...]]
    asked: list[str]


class StoreCrashes:
    """Nights on one store, each in a place of its own."""

    def __init__(self, folder: Path, store: ObjectStore, bucket: str) -> None:
        self._folder, self._store, self._bucket = folder, store, bucket
        with self._night() as (place, proxy, environment):
            ended = self._host(place, "first", environment)
            assert ended.code == 0, ended.output
            self.writes = [asked for asked in proxy.asked if _is_write(asked)]
            self.reference = self._came(place, environment)

    def crash(self, number: int) -> list[str]:
        """Kills the host at the write of this number, counted from 1; what is wrong in the end."""
        with self._night() as (place, proxy, environment):
            ended = self._host(place, "first", environment, (proxy, number))
            if ended.code != -signal.SIGKILL:
                return [f"not killed: exit {ended.code}"]
            _move_the_ledger(place.state, place.folder / "second")
            environment["BATCH_PIPELINE_STATE"] = str(place.folder / "second")
            ended = self._host(place, "second", environment)
            if ended.code != 0:
                return [f"exit {ended.code}: {ended.output[-1500:]}"]
            came, should = asdict(self._came(place, environment)), asdict(self.reference)
            wrong = [
                f"{name}: {came[name]} and not {should[name]}"
                for name in should
                if came[name] != should[name]
            ]
            ours = {batch["batch_id"] for batch in Left(place.folder / "second").batches}
            if ours != {batch.batch_id for batch in accepted(place.api)}:
                wrong.append("the ledger and the API have other batches")
            return wrong

    def _host(
        self,
        place: Place,
        name: str,
        environment: dict[str, str],
        fatal: tuple[StoreProxy, int] | None = None,
    ) -> Ended:
        started = start(place.work(STAGES, ["questions", DAY, 60], name, environment))
        if fatal is not None:
            _kill_at(*fatal, started.process.pid)
        return started.wait()

    def _came(self, place: Place, environment: dict[str, str]) -> Came:
        files = fsspec.filesystem(
            "s3",
            key=environment["AWS_ACCESS_KEY_ID"],
            secret=environment["AWS_SECRET_ACCESS_KEY"],
            endpoint_url=self._store.address,
            use_listings_cache=False,
        )
        load = f"{environment['BATCH_PIPELINE_ROWS']}/rows/questions/{DAY}/g1"

        def read(name: str, columns: str) -> list[tuple[Any, ...]]:
            local = place.folder / name
            files.get_file(f"{load}/{name}", str(local))
            return duckdb.execute(f"SELECT {columns} FROM '{local}' ORDER BY ALL").fetchall()

        asked = sorted(text for batch in accepted(place.api) for text in batch.texts)
        return Came(
            read("promoted.parquet", "id, label, _tier, _model"),
            read("dispositions.parquet", "key, disposition, reason, tier"),
            asked,
        )

    @contextmanager
    def _night(self) -> Iterator[tuple[Place, StoreProxy, dict[str, str]]]:
        folder = self._folder / uuid.uuid4().hex
        with (
            opened(folder, [*_ROWS, *_GOLDEN], _SCENARIO) as place,
            in_front_of(self._store.address) as proxy,
        ):
            gates = {"min_validity": 0, "golden_drop_points": 100}
            write_workload(folder, "questions", {DAY: _ROWS}, _GOLDEN, gates=gates)
            yield (
                place,
                proxy,
                {
                    **self._store.environment(),
                    "AWS_ENDPOINT_URL": proxy.address,
                    "BATCH_PIPELINE_ROWS": f"{self._bucket}/{folder.name}",
                },
            )
        shutil.rmtree(folder)


def _is_write(asked: Asked) -> bool:
    # The check before a night leaves nothing, and its own key is drawn anew.
    return asked.what in _WRITES and "/probe/" not in asked.key


def _kill_at(proxy: StoreProxy, number: int, process: int) -> None:
    seen = [0]

    def kill_before(asked: Asked) -> None:
        if _is_write(asked):
            seen[0] += 1
            if seen[0] == number and number % 2:
                os.kill(process, signal.SIGKILL)

    def refusal(asked: Asked) -> tuple[int, str] | None:
        kill_before(asked)
        # A dead process's request is not carried out.
        return (503, "SlowDown") if seen[0] >= number and number % 2 else None

    def after(asked: Asked) -> None:
        if _is_write(asked) and seen[0] == number and not number % 2:
            os.kill(process, signal.SIGKILL)

    def stop_refusing() -> None:
        proxy.refusal = lambda _: None
        proxy.after = lambda _: None

    def refusal_of_one(asked: Asked) -> tuple[int, str] | None:
        refused = refusal(asked)
        if refused is not None:
            stop_refusing()
        return refused

    def after_one(asked: Asked) -> None:
        after(asked)
        if seen[0] == number and not number % 2:
            stop_refusing()

    proxy.refusal, proxy.after = refusal_of_one, after_one


def _move_the_ledger(state: Path, to: Path) -> None:
    """All that the next host has of the lost one's: a team's is in Postgres."""
    to.mkdir(mode=0o700)
    for path in state.glob("ledger.sqlite*"):
        shutil.copy(path, to / path.name)


@contextmanager
def crashes(folder: Path) -> Iterator[StoreCrashes]:
    with running() as store:
        yield StoreCrashes(folder, store, store.bucket(f"rows-{uuid.uuid4().hex}"))


def _main(arguments: list[str]) -> int:
    wrong = 0
    with tempfile.TemporaryDirectory() as folder, crashes(Path(folder)) as nights:
        numbers = [int(text) for text in arguments] or range(1, len(nights.writes) + 1)
        for number in numbers:
            found = nights.crash(number)
            wrong += bool(found)
            at = nights.writes[number - 1]
            click.echo(f"{number} {at.what} {at.key.rpartition('/')[2]}: {found or 'well'}")
    return int(wrong > 0)


if __name__ == "__main__":
    with forked.available():
        sys.exit(_main(sys.argv[1:]))
