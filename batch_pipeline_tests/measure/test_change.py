"""A price or a hit rate that jumps is told from one that always moves."""

from batch_pipeline.measure.change import change


def test_a_jump_beyond_the_usual_is_unusual() -> None:
    found = change([1.0, 1.01, 0.99, 1.0, 1.0, 1.5], least=0.1)
    assert found is not None
    assert found.unusual
    assert found.usual == 1.0


def test_a_step_that_does_not_matter_is_not() -> None:
    found = change([1.0] * 10 + [1.05], least=0.1)
    assert found is not None
    assert not found.unusual


def test_what_always_moves_that_much_is_usual() -> None:
    found = change([1.0, 1.4, 0.7, 1.3, 0.8, 1.2, 1.5], least=0.1)
    assert found is not None
    assert not found.unusual


def test_four_nights_are_no_history() -> None:
    assert change([1.0, 1.0, 1.0, 1.0, 9.0], least=0.1) is None


def test_a_step_becomes_usual_after_half_a_month() -> None:
    values = [1.0] * 28 + [1.5] * 20
    unusual = [
        i for i in range(29, 49) if (found := change(values[:i], least=0.1)) and found.unusual
    ]
    assert unusual == list(range(29, 43))
