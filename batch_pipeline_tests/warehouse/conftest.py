"""The warehouse that a test is about: a DuckDB file, or a DuckLake in the second process of `test_ducklake.py`."""

import os
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest

from batch_pipeline.settings import Settings
from batch_pipeline.warehouse.place import Where
from batch_pipeline_tests.warehouse.lakes import LAKES, new_lake

_numbers = count()


@pytest.fixture
def new_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Where]:
    """Makes an empty one, as often as it is called."""

    def make() -> Settings | Path:
        state = tmp_path_factory.mktemp("warehouse")
        server = os.environ.get(LAKES)
        return new_lake(server, state, next(_numbers)) if server else state

    return make


@pytest.fixture
def where(new_warehouse: Callable[[], Where]) -> Where:
    return new_warehouse()
