"""A published night, made once for all tests that read it. None may change it."""

from collections.abc import Iterator

import pytest

from batch_pipeline_tests.stages.stormy import Published, published_night


@pytest.fixture(scope="package")
def published(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Published]:
    with published_night(tmp_path_factory.mktemp("published")) as made:
        yield made
