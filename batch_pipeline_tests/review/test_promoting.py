"""What people answered is promoted with the load, as theirs, through the same gate, and counts nowhere else."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batch_pipeline.errors import PipelineError
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.promote import GateClosedError, promote
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline_tests.night import Night
from batch_pipeline_tests.review.desk import FAULTS, Desk, settled

Fixing = Callable[..., dict[str, str]]
BATCH = "SELECT id, _batch_id FROM promoted.questions"


def batches(desk: Desk) -> dict[str, str]:
    from batch_pipeline.warehouse import warehouse

    with warehouse(desk.context.settings.state) as connection:
        return dict(connection.execute(BATCH).fetchall())


def test_accepted_and_fixed_rows_are_promoted_as_a_humans_and_dropped_ones_are_not(
    desk: Desk, fixing: Fixing
) -> None:
    before = desk.promoted()
    desk.decide(
        r00001=fixing(label="bug", urgency="2", why="null"),
        r00002={"decision": "drop"},
        r00005={"decision": "accept"},
    )
    desk.take_in()
    done = promote(desk.context).promotion
    assert (done.rows, done.written, done.removed) == (9, 2, 0)
    after = desk.promoted()
    assert {key: row for key, row in after.items() if key in before} == before
    assert after["r00001"] == ("bug", 2, None, None, "human")
    model = desk.rows()["r00005"]
    assert after["r00005"][0] == model["model_label"]
    assert after["r00005"][3:] == (None, "human")
    assert "r00002" not in after
    # The batch is that of the answer that the reviewer saw.
    record = desk.context.record()
    last = {b.batch_id for b in desk.context.ledger.batches(record)}
    assert {batches(desk)["r00001"], batches(desk)["r00005"]} <= last
    assert record.promoted_rows == 9


def test_coverage_and_dispositions_do_not_change_by_it(desk: Desk, fixing: Fixing) -> None:
    before = measure_load(desk.context)
    desk.decide(r00001=fixing(label="bug", urgency="2", why="x"), r00005={"decision": "accept"})
    desk.take_in()
    promote(desk.context)
    after = measure_load(desk.context)
    assert after.dispositions == before.dispositions
    assert after.rates == before.rates
    assert after.cost_per_good_row_usd == before.cost_per_good_row_usd
    assert (before.promoted_rows, after.promoted_rows) == (7, 9)


def test_a_decision_that_turns_to_drop_removes_what_was_promoted(
    desk: Desk, fixing: Fixing
) -> None:
    desk.decide(r00001=fixing(label="bug", urgency="2", why="x"))
    desk.take_in()
    promote(desk.context)
    assert not desk.take_in().changed
    desk.decide(r00001={"decision": "drop", "fixed_label": ""})
    intake = desk.take_in()
    assert (intake.rejected, intake.changed, intake.promoted_as_decided) == ([], 1, False)
    done = promote(desk.context).promotion
    assert (done.rows, done.removed) == (7, 1)
    assert "r00001" not in desk.promoted()
    assert desk.take_in().promoted_as_decided


def test_promoting_decisions_twice_changes_nothing(desk: Desk, fixing: Fixing) -> None:
    desk.decide(r00001=fixing(label="bug", urgency="2", why="x"))
    desk.take_in()
    promote(desk.context)
    before = desk.promoted()
    assert promote(desk.context).promotion.written == 0
    assert desk.promoted() == before


def test_other_decisions_are_another_thing_to_promote(desk: Desk, fixing: Fixing) -> None:
    def fingerprint() -> str:
        gate = measure_load(desk.context).gate
        assert gate is not None
        return gate.fingerprint

    seen = [fingerprint()]
    for label in ("bug", "billing"):
        desk.decide(r00001=fixing(label=label, urgency="2", why="x"))
        desk.take_in()
        seen.append(fingerprint())
    desk.decide(r00001={"decision": "drop"}, r00002={"decision": "drop"})
    desk.take_in()
    assert len(set(seen)) == 3
    assert fingerprint() == seen[0]
    assert max(map(len, seen)) <= 64


def test_answers_of_people_that_are_lost_stop_the_promotion(desk: Desk, fixing: Fixing) -> None:
    desk.decide(r00001=fixing(label="bug", urgency="2", why="x"))
    desk.take_in()
    promote(desk.context)
    before = desk.promoted()
    import duckdb

    path = desk.decisions
    duckdb.execute(
        f"COPY (SELECT * REPLACE (0 AS row) FROM read_parquet('{path}')) TO '{path}x' (FORMAT parquet)"
    )
    Path(f"{path}x").replace(str(path))
    with pytest.raises(PipelineError, match=r"7 rows are validated and 1 answered by people"):
        promote(desk.context)
    assert desk.promoted() == before


def test_a_closed_gate_holds_the_answers_of_people_too(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    tmp_path: Path,
    fixing: Fixing,
) -> None:
    simulate(rows=[*FAULTS, {"contains": "number 10000", "fault": "wrong"}])
    n = settled(night, tmp_path / "workloads")
    desk = Desk(n.context, tmp_path / "review.csv")
    desk.decide(r00001=fixing(label="bug", urgency="2", why="x"))
    assert desk.take_in().fixed == 1
    grade(n.context)
    with pytest.raises(GateClosedError):
        promote(n.context)
    # A person's way past the gate takes them along, and is for these very rows.
    promote(n.context, override_reason="the golden set is wrong")
    assert desk.promoted()["r00001"][0] == "bug"
    desk.decide(r00001=fixing(label="how_to"))
    desk.take_in()
    with pytest.raises(GateClosedError):
        promote(n.context)
    assert desk.promoted()["r00001"][0] == "bug"
