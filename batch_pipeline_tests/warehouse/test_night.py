"""A whole night on either warehouse: measured, promoted, shown and rolled back."""

from collections.abc import Callable

import pytest

from batch_pipeline.report import write_report
from batch_pipeline.report.index import index_path, write_index
from batch_pipeline.settings import Settings
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.context import LoadContext
from batch_pipeline.stages.rollback import rollback
from batch_pipeline.warehouse import warehouse, warehouse_path
from batch_pipeline.warehouse.history import nights
from batch_pipeline.warehouse.place import Where, lake_of
from batch_pipeline_tests.night import DAY, Night

NEXT_DAY = "2026-11-21"


def test_two_nights_are_measured_and_promoted_and_the_second_is_rolled_back(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    where: Where,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lake = lake_of(where)
    if lake is not None:
        monkeypatch.setenv("BATCH_PIPELINE_WAREHOUSE", lake.warehouse or "")
    simulate()
    made = night()
    later = Night(LoadContext.open(made.context.workload, NEXT_DAY, Settings.from_environment()))
    for each in (made, later):
        each.settle()
        write_report(each.context, each.publish().card)
    settings = later.context.settings
    assert [n.load for n in nights(settings, "questions")] == [DAY, NEXT_DAY]
    write_index(later.context)
    assert "promoted" in index_path(settings.state).read_text(encoding="utf-8")

    done = rollback(later.context, reason="the labels are wrong", by="ann").done

    assert done is not None
    assert (done.rows, done.restored) == (12, 12)
    assert [n.promote for n in nights(settings, "questions")] == [True, False]
    with warehouse(settings, read_only=True) as connection:
        owned = "SELECT _load, count(*) FROM promoted.questions GROUP BY ALL"
        assert connection.execute(owned).fetchall() == [(DAY, 12)]
    assert warehouse_path(settings.state).exists() == (lake is None)
