"""An object store for a test: an empty place in a bucket, and a server in front of it that can be told to fail."""

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from batch_pipeline.rows import ObjectPath, shared
from batch_pipeline.settings import Settings
from batch_pipeline_tests.object_store import ObjectStore
from batch_pipeline_tests.store_proxy import StoreProxy, in_front_of


@pytest.fixture
def proxy(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[StoreProxy]:
    """What this process asks of the store goes through it."""
    with in_front_of(object_store.address) as server:
        for name, value in object_store.environment().items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("AWS_ENDPOINT_URL", server.address)
        yield server


@pytest.fixture(scope="session")
def shared_bucket(object_store: ObjectStore) -> str:
    # To make one takes a second.
    return object_store.bucket(f"rows-{uuid.uuid4().hex}")


@pytest.fixture
def bucket(shared_bucket: str, proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch) -> str:
    """The configured address, with nothing below."""
    url = f"{shared_bucket}/{uuid.uuid4().hex}/rows"
    monkeypatch.setenv("BATCH_PIPELINE_ROWS", url)
    return url


@pytest.fixture
def hosts(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], ObjectPath]:
    """The shared root as a host sees it, by the host's name: each has a state folder and a memory of its own."""

    def root(name: str) -> ObjectPath:
        monkeypatch.setenv("BATCH_PIPELINE_STATE", str(tmp_path / name))
        found = shared(Settings.from_environment())
        assert isinstance(found, ObjectPath)
        return found

    return root


@pytest.fixture
def root(hosts: Callable[[str], ObjectPath]) -> ObjectPath:
    return hosts("state")
