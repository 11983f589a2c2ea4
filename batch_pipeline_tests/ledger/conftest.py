"""The ledger's tests run on every kind of database that it can be in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from batch_pipeline.ledger import Ledger


@pytest.fixture(params=["sqlite", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Ledger]:
    """Opens one and the same ledger, each time as another process would."""
    url = None
    if request.param == "postgres":
        url = request.getfixturevalue("postgres").url()
    return lambda wait=None: Ledger(tmp_path, wait, url)
