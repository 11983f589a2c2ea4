from batch_pipeline.stages.past_answers import _next, _share


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
