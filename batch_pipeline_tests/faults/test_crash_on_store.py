"""A host that is killed around a write to the object store loses nothing, and another one pays nothing twice."""

from collections.abc import Iterator

import pytest

from batch_pipeline_tests.faults.crash_anywhere import sample
from batch_pipeline_tests.faults.crash_on_store import StoreCrashes, crashes

# Of some twenty; all of them: python -m batch_pipeline_tests.faults.crash_on_store.
_MOST = 5


@pytest.fixture(scope="module")
def nights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreCrashes]:
    with crashes(tmp_path_factory.mktemp("crashes")) as found:
        yield found


def test_another_host_ends_the_night_as_if_nothing_had_happened(nights: StoreCrashes) -> None:
    numbers = sample(list(range(1, len(nights.writes) + 1)), _MOST)
    assert {number % 2 for number in numbers} == {0, 1}
    assert {number: nights.crash(number) for number in numbers} == {
        number: [] for number in numbers
    }
