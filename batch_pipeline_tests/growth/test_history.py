"""A year of history costs a night what a month does. Counted, not timed."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, event

from batch_pipeline.dag.build import build_definitions
from batch_pipeline.dag.naming import alert_sensor_name, sensor_name
from batch_pipeline.ledger import Ledger
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.broken_slices import broken, broken_tonight
from batch_pipeline.stages.trends import same_declaration, trends_of
from batch_pipeline.warehouse import history
from batch_pipeline_tests.growth.replay import Replay, replay_ledger
from batch_pipeline_tests.night import Night
from batch_pipeline_tests.report.made_history import History, make

FIRST, TONIGHT = "2025-10-01", "2026-11-20"


class Counted:
    """SQLite's own steps, in all connections that are opened meanwhile."""

    steps = 0

    def step(self) -> int:
        self.steps += 1
        return 0


@contextmanager
def counting() -> Iterator[Counted]:
    counted = Counted()

    def watch(connection: Any, _record: Any) -> None:
        connection.set_progress_handler(counted.step, 1)

    event.listen(Engine, "connect", watch)
    try:
        yield counted
    finally:
        event.remove(Engine, "connect", watch)


@pytest.fixture
def begun(simulate: Callable[..., Simulator], night: Callable[..., Night]) -> Night:
    """One load that is promoted, long ago, and tonight's, whose batches run."""
    workload = {"partitions": {"start": FIRST}}
    simulate()
    before = night(day=FIRST, **workload)
    before.settle()
    before.publish()
    simulate(turnaround_seconds=3600)
    tonight = night(day=TONIGHT, **workload)
    tonight.submit()
    return tonight


def grow(night: Night, until: int, known: int = 1) -> None:
    """The first load once more on each of the days after it, until there are so many."""
    first = date.fromisoformat(FIRST)
    with closing(sqlite3.connect(night.context.settings.state / "ledger.sqlite")) as ledger:
        for day in range(known, until):
            replay_ledger(ledger, Replay("questions", first, first + timedelta(days=day)))
        ledger.commit()


ASKED: dict[str, Callable[[Ledger], object]] = {
    "what is unfinished": lambda ledger: ledger.unfinished_loads("questions"),
    "what is held": lambda ledger: ledger.held_loads(["questions"]),
    "what was graded last": lambda ledger: ledger.newest_loads("questions", 10, graded=True),
    "what was begun last": lambda ledger: ledger.newest_load("questions"),
    "each workload's newest": lambda ledger: ledger.newest_of_each(),
    "the load before": lambda ledger: ledger.load_before("questions", TONIGHT),
    "what the API works on": lambda ledger: ledger.in_flight(),
    "loads in flight": lambda ledger: ledger.loads_in_flight(),
    "one load's batches": lambda ledger: ledger.batches(_load(ledger)),
    "the cost of one load": lambda ledger: ledger.committed_usd("questions", load=TONIGHT),
    "what is wrong": lambda ledger: ledger.open_alerts(["questions"]),
}


def _load(ledger: Ledger) -> Any:
    return ledger.load("questions", TONIGHT)


def steps_of(state: Path) -> dict[str, int]:
    found = {}
    for name, ask in ASKED.items():
        with counting() as counted:
            ledger = Ledger(state)
            opening = counted.steps
            ask(ledger)
        found[name] = counted.steps - opening
    return found


def test_the_ledger_answers_with_as_many_steps_after_a_year_as_after_a_month(begun: Night) -> None:
    state = begun.context.settings.state
    grow(begun, 30)
    month = steps_of(state)
    grow(begun, 365, known=30)
    assert steps_of(state) == month
    assert all(month.values())


@pytest.mark.parametrize("sensor", [sensor_name, alert_sensor_name])
def test_a_tick_takes_as_many_steps_after_a_year_as_after_a_month(
    begun: Night, sensor: Callable[[str], str]
) -> None:
    repository = build_definitions(begun.context.workload).get_repository_def()
    with dg.DagsterInstance.ephemeral() as instance:

        def tick(cursor: str | None) -> Any:
            made = dg.build_sensor_context(
                instance=instance, cursor=cursor, repository_def=repository
            )
            return repository.get_sensor_def(sensor("questions")).evaluate_tick(made)

        def steps(cursor: str | None) -> int:
            with counting() as counted:
                tick(cursor)
            return counted.steps

        cursor = tick(None).cursor
        grow(begun, 30)
        month = steps(cursor)
        grow(begun, 365, known=30)
        assert steps(cursor) == month > 0


@pytest.fixture(scope="module")
def year(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    """A year of graded nights whose validity sinks at the end, with slices of which one broke."""
    folder = tmp_path_factory.mktemp("year")
    slices = {"channel": ["mail", "chat", "web", "phone"]}
    made = History(
        nights=365,
        slices=slices,
        validity=lambda back: 0.994 - 0.002 * max(0, 12 - back),
        slice_rate=lambda name, back: 0.9 if (name, back) == ("web", 0) else 0.994,
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCH_PIPELINE_STATE", str(folder / "state"))
        yield make(folder, made, slices=[])


ALL = 10_000


def test_trends_of_the_last_nights_are_those_of_the_whole_year(year: Night) -> None:
    state, spec = year.context.settings.state, year.context.workload.spec
    of_all = history.nights(state, spec.name, year.context.load, most=ALL)
    last = history.nights(state, spec.name, year.context.load)
    assert (len(of_all), len(last)) == (365, history.NIGHTS)
    assert trends_of(last, spec) == trends_of(of_all, spec)
    assert any(trend.level != "ok" for trend in trends_of(last, spec))


def test_slices_of_the_last_nights_break_as_those_of_the_whole_year(year: Night) -> None:
    state, spec, load = (
        year.context.settings.state,
        year.context.workload.spec,
        year.context.load,
    )
    counted = history.slice_nights(state, spec.name, load, most=ALL)
    of_all = broken_tonight(
        [one for one in counted if one.load == load],
        counted,
        same_declaration(history.nights(state, spec.name, load, most=ALL)),
    )
    assert broken(state, spec.name, load) == of_all
    assert {one.slice for one in of_all} == {"web"}


def test_a_cancelled_night_takes_no_other_night_s_place(tmp_path: Path) -> None:
    rows = [
        {"workload": "w", "load": f"2026-01-{day:02}", "cancelled": day in (8, 9)}
        for day in range(1, 11)
    ]
    (tmp_path / "metrics").mkdir()
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "metrics" / "loads.parquet")
    assert history.since(tmp_path, "w", "2026-01-10", 3) == "2026-01-06"
    assert history.since(tmp_path, "w", "2026-01-10", 8) == history.since(tmp_path, "w", None, 99)


def test_the_copies_are_cut_so_that_a_few_nights_can_be_read_alone(year: Night) -> None:
    """Row groups that the reader's own filter would open, of all there are."""
    state, name = year.context.settings.state, year.context.workload.name
    first = history.since(state, name, year.context.load, history.NIGHTS)
    metadata = pq.ParquetFile(state / "metrics" / "measures.parquet").metadata
    loads = [
        metadata.row_group(i).column(_column(metadata, "load")).statistics.max
        for i in range(metadata.num_row_groups)
    ]
    opened = [last for last in loads if last >= first]
    # The first of them holds the first night of the window, among others.
    assert len(loads) > 1
    assert len(opened) <= len(loads) * history.NIGHTS / 365 + 2
    assert sorted(loads) == loads


def _column(metadata: Any, name: str) -> int:
    return next(i for i in range(metadata.num_columns) if metadata.schema.column(i).name == name)
