"""golden_score and promoted_rows: the gate is asked where the rows are written, and about those rows."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest

from batch_pipeline.errors import PipelineError
from batch_pipeline.rows.query import quoted
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.next_step import Action, next_step
from batch_pipeline.stages.promote import GateClosedError, promote
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.stages.source import read_source
from batch_pipeline.warehouse import warehouse, warehouse_path
from batch_pipeline_tests.night import DAY, HAIKU, Night, rows, write_csv
from batch_pipeline_tests.stages.watching import Final, finals, rows_of

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

# A golden set of five of which two are answered wrongly.
BAD_GOLDEN = [
    {"contains": f"number {n} of", "fault": "wrong", "times": 1} for n in (100_000, 100_001)
]


def query(night: Night, sql: str) -> list[Any]:
    with warehouse(night.context.settings.state) as connection:
        return connection.execute(sql).fetchall()


def table(night: Night) -> list[Any]:
    return query(night, f"SELECT * FROM promoted.{night.context.workload.name} ORDER BY id")


def resend(night: Night, by: str = "run 2") -> None:
    read_source(night.context, resend=True, requested_by=by)


def edit(path: Path, sql: str) -> None:
    """Rewrites a Parquet file; `sql` reads the table `old`."""
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE old AS FROM read_parquet(?)", [str(path)])
        connection.execute(
            f"COPY ({sql}) TO {quoted(str(path))} (FORMAT parquet)".replace('"', "'")
        )


# The gate


def test_a_closed_gate_refuses_however_promotion_was_launched(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(rows=BAD_GOLDEN)
    n = night()
    n.settle()
    with pytest.raises(GateClosedError, match=r"held: golden score 3 of 5.*override_reason"):
        promote(n.context)
    assert not warehouse_path(n.context.settings.state).exists()
    grade(n.context)
    with pytest.raises(GateClosedError):
        promote(n.context)
    assert query(n, "SELECT table_name FROM duckdb_tables() WHERE schema_name = 'promoted'") == []
    assert next_step(n.ledger, "questions", DAY).action is Action.HELD


@pytest.mark.parametrize("reason", ["", "  \n"])
def test_an_override_needs_a_reason(simulate: Simulate, night: MakeNight, reason: str) -> None:
    simulate(rows=BAD_GOLDEN)
    n = night()
    n.settle()
    with pytest.raises(GateClosedError):
        promote(n.context, override_reason=reason)


def test_an_override_is_recorded_with_who_gave_it_and_shows_ever_after(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(rows=BAD_GOLDEN)
    n = night()
    n.settle()
    done = promote(n.context, override_reason="two labels are in dispute", requested_by="kim")
    assert done.promotion.rows == 12
    gate = measure_load(n.context).gate
    assert gate is not None
    recorded = n.ledger.override("questions", DAY, gate.fingerprint)
    assert recorded is not None
    assert (recorded.reason, recorded.requested_by) == ("two labels are in dispute", "kim")
    assert gate.reasons[0] == "override: two labels are in dispute"
    assert promote(n.context).promotion.written == 0
    assert query(n, "SELECT override_reason FROM promoted._promotions") == [
        ("two labels are in dispute",)
    ]


def test_an_override_opens_the_gate_for_those_rows_only(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(rows=[{**rule, "times": 2} for rule in BAD_GOLDEN])
    n = night()
    n.settle()
    promote(n.context, override_reason="fine this once")
    resend(n)
    n.settle()
    with pytest.raises(GateClosedError):
        promote(n.context)


def test_an_old_pass_does_not_let_new_rows_through(simulate: Simulate, night: MakeNight) -> None:
    simulate(calls=[], rows=[{"contains": "number 1000", "fault": "wrong", "times": 8}])
    n = night(gates={"golden_drop_points": 100})
    n.settle()
    n.publish()
    lenient = measure_load(n.context).gate
    strict = night()
    with pytest.raises(GateClosedError):
        promote(strict.context)
    assert lenient is not None
    assert lenient.promote


@pytest.mark.parametrize(
    ("file", "sql"),
    [
        (
            "dispositions",
            "SELECT * FROM old WHERE row <> (SELECT min(row) FROM old WHERE NOT golden)",
        ),
        (
            "dispositions",
            "SELECT * REPLACE (nullif(disposition, 'validated') AS disposition) FROM old",
        ),
        (
            "dispositions",
            "SELECT * REPLACE (CASE WHEN golden THEN key ELSE 'r00001' END AS key) FROM old",
        ),
    ],
    ids=["a row is missing", "a row has no disposition", "a key stands for all"],
)
def test_a_leak_cannot_be_overridden(
    simulate: Simulate, night: MakeNight, file: str, sql: str
) -> None:
    simulate()
    n = night()
    n.settle()
    edit(getattr(n.context.folder(n.context.record()), file), sql)
    with pytest.raises(PipelineError, match=r"a leak|no disposition"):
        promote(n.context, override_reason="never mind")
    assert not warehouse_path(n.context.settings.state).exists()


def test_answers_that_are_lost_stop_the_promotion_before_it_touches_the_table(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    n = night(limits={"max_requests": 9})
    n.settle()
    n.publish()
    before = table(n)
    folder = n.context.folder(n.context.record())
    next(Path(str(folder.root)).glob("results/*")).unlink()
    with pytest.raises(PipelineError, match=r"hold the answers of.*Nothing was promoted"):
        promote(n.context, override_reason="never mind")
    assert table(n) == before


@pytest.mark.parametrize("stage", [grade, promote])
def test_a_load_with_open_rows_is_neither_graded_nor_promoted(
    simulate: Simulate, night: MakeNight, stage: Callable[..., Any]
) -> None:
    simulate(turnaround_seconds=60)
    n = night()
    n.submit()
    with pytest.raises(PipelineError, match="12 of 12 source rows have no disposition yet"):
        stage(n.context)


def test_a_load_that_was_never_begun_says_so(night: MakeNight) -> None:
    n = night()
    with pytest.raises(PipelineError, match="no source rows yet"):
        promote(n.context)


# What is written


def test_what_is_promoted_is_the_validated_rows_with_their_provenance(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(
        rows=[
            {"contains": "number 1 of", "model": HAIKU, "fault": "not_json"},
            {"contains": "number 2 of", "fault": "refusal"},
        ]
    )
    n = night(count=4)
    n.settle()
    done = n.publish()
    record = n.context.record()
    tiers = {c.chunk_id: c.tier for c in n.ledger.chunks(record)}
    of_tier = {tiers[b.chunk_id]: b.batch_id for b in n.ledger.batches(record)}
    assert [name for name, _ in done.columns] == [
        "id",
        "label",
        "_tier",
        "_model",
        "_batch_id",
        "_load",
    ]
    assert table(n) == [
        ("r00000", "billing", 0, "claude-haiku-4-5-20251001", of_tier[0], DAY),
        ("r00001", "bug", 1, "claude-sonnet-4-6", of_tier[1], DAY),
        ("r00003", "billing", 0, "claude-haiku-4-5-20251001", of_tier[0], DAY),
    ]
    assert next_step(n.ledger, "questions", DAY).action is Action.PROMOTED


def test_promoting_twice_changes_nothing(simulate: Simulate, night: MakeNight) -> None:
    simulate()
    n = night()
    n.settle()
    assert (n.publish().promotion.written, n.context.record().promoted_rows) == (12, 12)
    before, history = table(n), query(n, "FROM promoted._promotions")
    promoted = n.context.folder(n.context.record()).promoted
    content = rows_of(promoted)
    again = promote(n.context).promotion
    assert (again.rows, again.written, again.removed, again.superseded) == (12, 0, 0, 0)
    assert (table(n), query(n, "FROM promoted._promotions")) == (before, history)
    assert rows_of(promoted) == content


def test_a_corrected_load_replaces_its_rows_and_removes_those_no_longer_valid(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(
        rows=[
            {"contains": "number 3 of", "fault": "wrong", "times": 1},
            {"contains": "number 7 of", "fault": "wrong", "times": 1},
            {"contains": "number 7 of", "fault": "not_json"},
        ]
    )
    n = night()
    n.settle()
    n.publish()
    assert len(table(n)) == 12
    assert table(n)[3][1] != "billing"
    resend(n)
    n.settle()
    done = n.publish().promotion
    assert (done.rows, done.removed) == (11, 1)
    assert finals(n)["r00007"] == Final("human_review", "not_json", 1, 2)
    assert [(row[0], row[1]) for row in table(n)] == [
        (row["id"], row["label"]) for row in rows(12) if row["id"] != "r00007"
    ]
    batch_ids = {b.batch_id for b in n.ledger.batches(n.context.record())}
    assert {row[4] for row in table(n)} <= batch_ids


def test_sending_again_on_purpose_starts_one_generation_per_run(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    n = night(count=2, golden=0)
    n.settle()
    n.publish()
    for by in ("run 2", "run 2", "run 3"):
        resend(n, by)
        n.settle()
    assert n.context.record().generation == 3


def test_a_key_belongs_to_the_newest_load_that_answers_it(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    days = {}
    for day, sources in (("2026-11-19", rows(4)), ("2026-11-18", rows(6)), ("2026-11-20", rows(2))):
        n = days[day] = night(day=day, golden=0, source=sources)
        n.settle()
        done = n.publish().promotion
        assert done.rows == len(sources)
        assert done.superseded == (4 if day == "2026-11-18" else 0)
    assert [(row[0], row[5]) for row in table(days["2026-11-20"])] == [
        ("r00000", "2026-11-20"),
        ("r00001", "2026-11-20"),
        ("r00002", "2026-11-19"),
        ("r00003", "2026-11-19"),
        ("r00004", "2026-11-18"),
        ("r00005", "2026-11-18"),
    ]
    # Promoting the older one again takes nothing back.
    before = table(days["2026-11-20"])
    promote(days["2026-11-18"].context)
    assert table(days["2026-11-20"]) == before


def test_grading_again_replaces_the_measures_of_the_load(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(rows=[{"contains": "number 3 of", "fault": "not_json", "times": 2}])
    n = night()
    n.settle()
    n.publish()
    first = query(n, "SELECT measure, value FROM metrics.measures ORDER BY 1")
    grade(n.context)
    assert query(n, "SELECT measure, value FROM metrics.measures ORDER BY 1") == first
    assert query(n, "SELECT validity FROM metrics.scorecards") == [(11 / 12,)]
    resend(n)
    n.settle()
    n.publish()
    assert query(n, "SELECT validity FROM metrics.scorecards") == [(1.0,)]
    assert query(n, "SELECT count(*) = count(DISTINCT measure) FROM metrics.measures") == [(True,)]
    assert len(query(n, "FROM metrics.golden_outcomes")) == 5
    assert len(query(n, "FROM metrics.gates")) == 2


def test_a_held_load_stays_held_until_it_is_sent_again(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(rows=BAD_GOLDEN)
    n = night()
    n.settle()
    with pytest.raises(GateClosedError):
        n.publish()
    n.collect()
    n.submit()
    assert next_step(n.ledger, "questions", DAY).action is Action.HELD
    write_csv(n.folder / "source.csv", rows(7))
    resend(n)
    assert next_step(n.ledger, "questions", DAY).action is Action.SUBMIT
    n.settle()
    assert n.publish().promotion.rows == 7
