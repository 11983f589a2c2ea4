"""Three loads through the whole pipeline, a slice broken on the last: caught that night, with nothing said before."""

import pytest

from batch_pipeline_tests.nights.drive_night import NightRun, run_nights
from batch_pipeline_tests.nights.plan import Plan, broken_slice
from batch_pipeline_tests.nights.tickets import BROKEN_CHANNEL
from batch_pipeline_tests.nights.verdict import judge

PLAN = Plan(4, (broken_slice(4, 4),), missing=frozenset({3}))


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[NightRun]:
    return list(run_nights(PLAN, tmp_path_factory.mktemp("nights"), rows=700, seed=1))


def test_a_broken_slice_is_caught_on_its_first_night(runs: list[NightRun]) -> None:
    (caught,) = judge(PLAN, runs).caught
    assert caught.night == 4
    assert caught.fired is not None
    assert caught.fired.page
    assert f"channel {BROKEN_CHANNEL}: validity" in caught.fired.sentence


def test_nothing_fails_before(runs: list[NightRun]) -> None:
    assert not any(run.fired for run in runs[:-1])


def test_every_night_but_the_missing_one_is_promoted_and_has_its_page(
    runs: list[NightRun],
) -> None:
    assert [run.night for run in runs] == [1, 2, 4]
    assert all(run.promoted and run.report.is_file() for run in runs)
