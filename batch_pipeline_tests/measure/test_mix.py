"""The mix of labels is held against its own history, since fixed cut-offs depend on labels and rows."""

import numpy as np

from batch_pipeline.measure.mix import mix_of

SHARES = np.array([0.4, 0.3, 0.2, 0.1])
NAMES = ["billing", "bug", "how_to", "other"]


def drawn(seed: int, count: int, shares: np.ndarray = SHARES) -> list[dict[str, int]]:
    draw = np.random.default_rng(seed)
    return [
        dict(zip(NAMES, map(int, draw.multinomial(10_000, shares)), strict=True))
        for _ in range(count)
    ]


def test_an_unchanged_mix_is_usual_on_every_night() -> None:
    history = drawn(3, 90)
    for until in range(12, 91):
        found = mix_of(history[:until])
        assert found is not None
        assert not found.unusual


def test_a_label_that_gains_five_points_is_unusual_and_named_first() -> None:
    moved = drawn(4, 1, np.array([0.35, 0.3, 0.2, 0.15]))
    found = mix_of([*drawn(3, 30), *moved])
    assert found is not None
    assert found.unusual
    assert {label for label, _, _ in found.moved[:2]} == {"billing", "other"}


def test_a_label_that_was_never_seen_counts() -> None:
    strange = [{"billing": 4_000, "bug": 3_000, "how_to": 2_000, "brand new": 1_000}]
    found = mix_of([*drawn(3, 30), *strange])
    assert found is not None
    assert found.unusual
    assert "brand new" in {label for label, _, _ in found.moved}


def test_too_few_nights_are_not_judged() -> None:
    assert mix_of(drawn(3, 1)) is None
    found = mix_of([*drawn(3, 8), {"other": 10}])
    assert found is not None
    assert found.usual is None
    assert not found.unusual
