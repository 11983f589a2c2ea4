from collections.abc import Callable

from batch_pipeline.rows.query import querying
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.estimate import estimate_workload
from batch_pipeline.stages.estimate_models import Asked
from batch_pipeline.stages.past_answers import _next, _share, own_answers
from batch_pipeline_tests.night import Night, rows


def test_the_next_load_lies_within_what_the_earlier_ones_differed_by() -> None:
    found = _next([100.0, 110.0, 90.0, 105.0, 95.0])
    assert found.mean == 100.0
    # s = 7.906, t(4) = 2.776, √(1 + 1/5) = 1.095
    assert abs(found.high - 124.05) < 0.1
    assert abs(found.low - 75.95) < 0.1


def test_one_load_leaves_room_for_half_as_much_again() -> None:
    assert _next([100.0]).high == 150.0


def test_no_row_that_climbed_is_no_proof_that_none_will() -> None:
    found = _share(0, 100)
    assert found is not None
    assert found.mean == 0.0
    assert 0.03 < found.high < 0.04
    assert _share(0, 0) is None


def test_long_rows_that_a_pilot_left_out_are_in_what_its_load_is_taken_to_hold(
    simulate: Callable[..., Simulator], night: Callable[..., Night]
) -> None:
    """Of 400 rows three hold nearly all the tokens, and the pilot has asked 20."""
    simulate()
    source = rows(400)
    for position in (77, 201, 333):
        source[position]["text"] += " words" * 50_000
    made = night(source=source, golden=0, pilot={"rows": 20})
    made.submit()
    made.wait()
    made.collect()
    with querying(made.context.scratch) as connection:
        asked = own_answers(connection, made.context, made.context.record())
    # The simulator counts four characters as a token; the usual guess is three and a half bytes.
    hold = sum(len(row["text"]) for row in source) / 4 / len(source)
    assert asked.input is not None
    assert asked.input.low <= asked.input.mean <= asked.input.high
    assert hold * 0.8 < asked.input.mean < hold * 1.3
    assert hold < asked.input.high
    found = estimate_workload(
        made.context.workload,
        made.context.load,
        made.context.settings,
        Asked(),
        api=None,
        models=[],
    )
    assert "is under way, and its answers so far have cost $" in found.notes[0]
