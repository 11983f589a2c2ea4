"""A process that dies in the middle of a promotion: the table holds the old rows or the new, never some of both."""

from collections.abc import Callable
from pathlib import Path

from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.promote import promote
from batch_pipeline.stages.source import read_source
from batch_pipeline.warehouse import warehouse
from batch_pipeline_tests.faults.boundaries import PRODUCT, read_log
from batch_pipeline_tests.faults.place import Place
from batch_pipeline_tests.faults.work import Work, run
from batch_pipeline_tests.night import Night


def test_a_promotion_is_whole_or_has_not_happened_wherever_it_is_killed(
    simulate: Callable[..., Simulator], night: Callable[..., Night], tmp_path: Path
) -> None:
    simulator = simulate(rows=[{"contains": "number 3 of", "fault": "wrong", "times": 1}])
    made = night()

    def table() -> list[tuple[str, str]]:
        with warehouse(made.context.settings.state) as connection:
            return connection.execute(
                "SELECT id, label FROM promoted.questions ORDER BY id"
            ).fetchall()

    def work(fatal: int) -> Work:
        place = Place(tmp_path, simulator.base_url)
        call = "batch_pipeline_tests.faults.driving:promotion"
        arguments = ["questions", made.context.load]
        return place.work(call, arguments, str(fatal), fatal=(PRODUCT, fatal))

    made.settle()
    made.publish()
    old = table()
    read_source(made.context, resend=True, requested_by="run 2")
    made.settle()
    # One boundary further each time, until the new rows are there.
    found: list[list[tuple[str, str]]] = []
    while not found or found[-1] == old:
        number = len(found) + 1
        assert run(work(number)).killed
        found.append(table())
    dead = read_log(tmp_path / "processes" / str(number) / "boundaries")[-1]
    *before, new = found
    assert len(before) > 5
    assert (dead.kind, dead.label) == ("duckdb committed", "COMMIT")
    assert len(new) == len(old) == 12
    promote(made.context)
    assert table() == new
    assert made.context.record().promoted_rows == 12
