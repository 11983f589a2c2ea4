"""Golden rows: carried in every batch, told from the others by nobody, and counted apart."""

import json
from collections.abc import Callable
from typing import Any

from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.grade import grade
from batch_pipeline.stages.scorecard import measure_load
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline.warehouse import warehouse
from batch_pipeline_tests.night import HAIKU, Night
from batch_pipeline_tests.stages.watching import Watch, finals, rows_of, sendings

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]


def golden_places(night: Night) -> list[int]:
    source = night.context.folder(night.context.record()).source
    return [row for (row,) in rows_of(source, "_row", "_golden")]


def golden_in(requests: list[dict[str, Any]]) -> int:
    """How many of these requests ask about golden rows, which are numbered from 100,000."""
    return sum("number 1000" in r["params"]["messages"][0]["content"] for r in requests)


def test_every_batch_carries_its_share(simulate: Simulate, night: MakeNight) -> None:
    simulate(turnaround_seconds=60)
    n, watch = night(count=180, golden=20, limits={"max_requests": 40}), Watch()
    read_source(n.context)
    send_pending(n.context, watch)
    assert [len(requests) for requests in watch.requests] == [40] * 5
    shares = [golden_in(requests) for requests in watch.requests]
    assert sum(shares) == 20
    # A share of 4; where each one falls within its stretch is up to the date.
    assert all(3 <= share <= 5 for share in shares)


def test_nothing_in_a_request_gives_a_golden_row_away(simulate: Simulate, night: MakeNight) -> None:
    simulate(turnaround_seconds=60)
    n, watch = night(count=30, golden=10), Watch()
    read_source(n.context)
    send_pending(n.context, watch)
    [requests] = watch.requests
    [chunk] = n.ledger.chunks(n.context.record())
    assert b"expected" not in watch.bodies[0]
    assert b"golden" not in watch.bodies[0]
    assert [r["custom_id"] for r in requests] == [f"{chunk.token}-{row}" for row in range(40)]
    shapes = set()
    for request in requests:
        request["params"]["messages"][0]["content"] = request["custom_id"] = ""
        shapes.add(json.dumps(request))
    assert len(shapes) == 1


def test_the_expected_answers_are_kept_out_of_what_requests_are_made_of(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(turnaround_seconds=60)
    n = night()
    n.submit()
    folder = n.context.folder(n.context.record())
    names = rows_of(folder.source)[0]
    assert "expected_label" not in json.dumps(names, default=str)
    assert len(rows_of(folder.golden, "_row, expected_label")) == 5


def test_their_places_differ_by_day_and_are_the_same_for_the_same_day(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(turnaround_seconds=60)
    places = []
    for name, day in (("one", "2026-11-19"), ("two", "2026-11-20"), ("three", "2026-11-19")):
        n = night(name=name, day=day, count=400, golden=20)
        read_source(n.context)
        places.append(golden_places(n))
    assert places[0] == places[2]
    assert places[0] != places[1]
    # No spacing that could be learnt.
    assert len({b - a for a, b in zip(places[0], places[0][1:], strict=False)}) > 3


def test_a_golden_row_is_right_only_if_its_final_answer_matches(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate(
        rows=[
            {"contains": "number 100000 of", "fault": "wrong"},
            {"contains": "number 100001 of", "model": HAIKU, "fault": "not_json"},
            {"contains": "number 100002 of", "fault": "not_json"},
            {"contains": "number 100003 of", "fault": "invalid_request"},
            {"contains": "number 100004 of", "times": 1, "fault": "expired"},
        ]
    )
    n = night(count=3, golden=6)
    n.settle()
    grade(n.context)
    with warehouse(n.context.settings.state) as connection:
        graded = connection.execute(
            "SELECT key, tier, disposition, correct FROM metrics.golden_outcomes ORDER BY key"
        ).fetchall()
    assert graded == [
        ("r100000", 0, "validated", False),
        ("r100001", 1, "validated", True),
        ("r100002", 1, "human_review", False),
        ("r100003", 0, "quarantined", False),
        ("r100004", 0, "validated", True),
        ("r100005", 0, "validated", True),
    ]
    golden = measure_load(n.context).golden
    assert golden is not None
    assert (golden.correct, golden.n) == (3, 6)


def test_golden_rows_count_in_no_measure_of_production_rows_but_cost(
    simulate: Simulate, night: MakeNight
) -> None:
    faults = ("not_json", "refusal", "truncated", "invalid_request", "expired")
    simulate(
        rows=[
            {"contains": f"number {100_000 + n} of", "fault": fault}
            for n, fault in enumerate(faults)
        ]
    )
    n = night(count=10, golden=6)
    card = n.settle()
    assert card.dispositions == {"validated": 10, "quarantined": 0, "human_review": 0}
    assert card.reasons == []
    assert {name: (r.numerator, r.denominator) for name, r in card.rates.items()} == {
        "coverage": (10, 10),
        "validity": (10, 10),
        "validity_all_tiers": (10, 10),
        "escalation_rate": (0, 10),
        "truncation_rate": (0, 10),
        "refusal_rate": (0, 10),
        "errored_rate": (0, 10),
        "expired_rate": (0, 10),
    }
    assert sum(map(len, sendings(n).values())) == card.requests > 16
    assert set(finals(n, golden=True)) & set(finals(n)) == set()


def test_golden_rows_are_never_promoted(simulate: Simulate, night: MakeNight) -> None:
    simulate()
    n = night(count=10, golden=5)
    n.settle()
    n.publish()
    with warehouse(n.context.settings.state) as connection:
        keys = connection.execute("SELECT id FROM promoted.questions ORDER BY id").fetchall()
    assert keys == [(f"r{i:05}",) for i in range(10)]
