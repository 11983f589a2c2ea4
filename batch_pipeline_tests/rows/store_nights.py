"""Nights whose rows lie in an object store, and what they left there."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from batch_pipeline.ledger import Ledger
from batch_pipeline.rows import ObjectPath, Place, shared
from batch_pipeline.rows.query import querying
from batch_pipeline.stages.context import LoadContext
from batch_pipeline_tests.night import Night

# What the hosts of a team have in common beside the rows; here as links to one host's files.
_COMMON = ("ledger.sqlite", "warehouse.duckdb")


def root_of(night: Night) -> ObjectPath:
    root = shared(night.context.settings)
    assert isinstance(root, ObjectPath)
    return root


def names(night: Night) -> set[str]:
    """Of all objects that the project has, without what is drawn anew for each batch."""
    root = root_of(night)
    chunks = [chunk.chunk_id for chunk in night.ledger.chunks(night.context.record())]
    found = set()
    for url in root.store.below(str(root)):
        name = url.removeprefix(f"{root}/")
        for chunk in chunks:
            name = name.replace(chunk, "CHUNK")
        found.add(name)
    return found


def local_files(night: Night) -> set[str]:
    state = night.context.settings.state
    return {str(path.relative_to(state)) for path in state.rglob("*") if path.is_file()}


def read(night: Night, place: Place, columns: str = "*") -> list[tuple[Any, ...]]:
    """The rows of a Parquet file, in order."""
    with querying(night.context.scratch) as connection:
        found = connection.execute(
            f"SELECT {columns} FROM read_parquet(?) ORDER BY ALL", [str(place)]
        )
        return found.fetchall()


def promoted(night: Night) -> list[tuple[Any, ...]]:
    return read(
        night, night.context.folder(night.context.record()).promoted, "id, label, _tier, _model"
    )


def dispositions(night: Night) -> list[tuple[Any, ...]]:
    folder = night.context.folder(night.context.record())
    return read(night, folder.dispositions, "key, golden, disposition, reason, tier, attempts")


def on_another_host(night: Night, state: Path) -> Night:
    """The same load from a host with a state folder of its own: nothing of the first one's but what is shared."""
    settings = night.context.settings
    state.mkdir(mode=0o700)
    for name in _COMMON:
        (state / name).symlink_to(settings.state / name)
    os.environ["BATCH_PIPELINE_STATE"] = str(state)
    other = replace(settings, state=state)
    return Night(LoadContext(night.context.workload, night.context.load, other, Ledger.of(other)))
