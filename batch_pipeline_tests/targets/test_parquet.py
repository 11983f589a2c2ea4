"""Promotion into a folder of Parquet files: a file per load, whole or not there, read without our code."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import duckdb
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.targets.parquet import HISTORY, ParquetTarget
from batch_pipeline.warehouse import NotPromotedHereError, Promotion, Rollback
from batch_pipeline_tests.object_store import ObjectStore
from batch_pipeline_tests.targets.promoting import FIELDS, Desk, Model
from batch_pipeline_tests.targets.test_postgres import STEPS

Place = Callable[[], str]


@pytest.fixture(params=["disk", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    """Names an empty folder, on a disk and in an object store."""
    count = iter(range(1000))
    if request.param == "disk":
        return lambda: str(tmp_path / f"out{next(count)} [a]'*" / "deep")
    store: ObjectStore = request.getfixturevalue("object_store")
    for name, value in store.environment().items():
        monkeypatch.setenv(name, value)
    bucket = store.bucket(f"promoted-{abs(hash(request.node.nodeid))}")
    return lambda: f"{bucket}/out{next(count)}/deep"


@pytest.fixture
def desk(place: Place, tmp_path: Path) -> Desk:
    return Desk(ParquetTarget(place()), tmp_path)


READER = (
    "SELECT * FROM read_parquet('{folder}/*.parquet', union_by_name = true) "
    "QUALIFY row_number() OVER (PARTITION BY id ORDER BY _load DESC) = 1 ORDER BY id"
)


def folder_of(desk: Desk) -> Path:
    """What a reader finds, as files on a disk."""
    assert isinstance(desk.target, ParquetTarget)
    place = desk.target.place
    if "://" not in place:
        return Path(place)
    import s3fs  # type: ignore[import-untyped]

    copy = Path(mkdtemp(dir=desk.folder))
    remote = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    top = place.removeprefix("s3://")
    for key in remote.find(top):
        file = copy / key.removeprefix(f"{top}/")
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(remote.cat_file(key))
    return copy


def read(desk: Desk, columns: str = "id, label, _load") -> list[Any]:
    """As a reader that knows nothing of us would, by the documented query."""
    folder = folder_of(desk)
    if not list(folder.glob("*.parquet")):
        return []
    escaped = str(folder).replace("[", "[[]").replace("*", "[*]", 1).replace("'", "''")
    with duckdb.connect() as connection:
        return connection.execute(
            f"SELECT {columns} FROM ({READER.replace('{folder}', escaped)})"
        ).fetchall()


def test_a_load_is_one_file_which_tells_its_history(desk: Desk) -> None:
    assert desk.promote("2026-01-01", [("a", "x"), ("b", "y")], fingerprint="one") == Promotion(
        desk.target.name, 2, 2, 0, 0
    )
    desk.promote(
        "2026-01-01", [("a", "z")], fingerprint="two", override_reason="it's 'urgent' \\ {x}"
    )
    (file,) = [path for path in folder_of(desk).rglob("*") if path.is_file()]
    assert file.name == "2026-01-01.parquet"
    history = json.loads(pq.read_metadata(file).metadata[HISTORY.encode()])
    assert [
        (line["workload"], line["load"], line["fingerprint"], line["rows"], line["override_reason"])
        for line in history
    ] == [
        ("questions", "2026-01-01", "one", 2, None),
        ("questions", "2026-01-01", "two", 1, "it's 'urgent' \\ {x}"),
    ]


def test_a_promotion_counts_what_it_wrote_removed_and_left_to_newer_loads(desk: Desk) -> None:
    desk.promote("2026-01-02", [("a", "x"), ("b", "x"), ("c", "x")])
    desk.promote("2026-01-03", [("a", "y")])
    done = desk.promote("2026-01-02", [("a", "z"), ("b", "x"), ("d", "x")])
    assert (done.rows, done.written, done.removed, done.superseded) == (3, 2, 1, 1)
    assert read(desk) == [
        ("a", "y", "2026-01-03"),
        ("b", "x", "2026-01-02"),
        ("d", "x", "2026-01-02"),
    ]


def test_promoting_again_writes_nothing(desk: Desk) -> None:
    desk.promote("2026-01-01", [("a", "x"), ("b", None)])
    before = (folder_of(desk) / "2026-01-01.parquet").read_bytes()
    done = desk.promote("2026-01-01", [("a", "x"), ("b", None)])
    assert (done.written, done.removed) == (0, 0)
    assert (folder_of(desk) / "2026-01-01.parquet").read_bytes() == before


def test_columns_that_come_and_go_are_null_elsewhere(desk: Desk) -> None:
    desk.promote("2026-01-01", [("a", "x"), ("b", "x")])
    desk.promote("2026-01-02", [("b", "y", 0.5)], f"{FIELDS}, score DOUBLE")
    assert read(desk, "id, label, score") == [("a", "x", None), ("b", "y", 0.5)]
    assert desk.promote("2026-01-01", [("a", "x", None)], f"{FIELDS}, score DOUBLE").removed == 1


@pytest.mark.parametrize("fields", ["id VARCHAR, label INTEGER", "id BIGINT, label VARCHAR"])
def test_a_field_of_another_type_is_refused_and_changes_nothing(desk: Desk, fields: str) -> None:
    desk.promote("2026-01-01", [("a", "x")])
    with pytest.raises(ConfigurationError, match="and the load now has"):
        desk.promote("2026-01-02", [(1, 2)], fields)
    with pytest.raises(ConfigurationError, match="and the load now has"):
        desk.check(dict(part.split() for part in fields.split(", ")))
    assert read(desk) == [("a", "x", "2026-01-01")]


def test_a_folder_belongs_to_one_workload(desk: Desk) -> None:
    desk.promote("2026-01-01", [("a", "x")])
    for refused in (
        lambda: desk.check({"id": "VARCHAR"}, workload="others"),
        lambda: desk.promote("2026-01-02", [("a", "x")], workload="others"),
    ):
        with pytest.raises(ConfigurationError, match="the workload questions promoted it"):
            refused()


def test_a_look_leaves_nothing(desk: Desk) -> None:
    desk.check({"id": "VARCHAR", "label": "VARCHAR"})
    assert not folder_of(desk).exists() or not list(folder_of(desk).iterdir())


def test_a_rollback_removes_the_file_and_says_why(desk: Desk) -> None:
    desk.promote("2026-01-01", [("a", "1"), ("b", "1")])
    desk.promote("2026-01-02", [("a", "2"), ("b", "2"), ("c", "2")])
    desk.promote("2026-01-03", [("b", "3")])
    done = desk.roll_back("2026-01-02", reason="wrong\nprompt", by="ada")
    assert done == Rollback(desk.target.name, rows=3, removed=1, restored=1, kept=1)
    assert read(desk) == [("a", "1", "2026-01-01"), ("b", "3", "2026-01-03")]
    (note,) = (folder_of(desk) / "_rolled_back").iterdir()
    told = json.loads(note.read_text("utf-8"))
    assert (told["by"], told["reason"]) == ("ada", "wrong\nprompt")
    assert told["promotions"][0]["load"] == "2026-01-02"
    assert desk.roll_back("2026-01-02") is None
    with pytest.raises(NotPromotedHereError, match=r"promote\.path"):
        desk.roll_back("2026-01-09")


def test_a_file_that_is_none_of_ours_is_not_replaced(tmp_path: Path) -> None:
    desk = Desk(ParquetTarget(str(tmp_path / "out")), tmp_path)
    (tmp_path / "out").mkdir()
    file = tmp_path / "out" / "2026-01-01.parquet"
    duckdb.execute(f"COPY (SELECT 1 AS id) TO '{file}' (FORMAT parquet)")
    with pytest.raises(ConfigurationError, match="was not promoted by us"):
        desk.promote("2026-01-01", [("a", "x")])
    file.write_bytes(b"broken")
    with pytest.raises(PipelineError, match="no Parquet file, or a damaged one"):
        desk.check({"id": "VARCHAR"})
    assert file.read_bytes() == b"broken"


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_sent(
    tmp_path: Path, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in object_store.environment().items():
        monkeypatch.setenv(name, value)
    (tmp_path / "file").write_text("")
    desk = Desk(ParquetTarget(str(tmp_path / "file" / "out")), tmp_path)
    with pytest.raises(ConfigurationError, match=r"promote\.path: .* cannot be written"):
        desk.check({"id": "VARCHAR"})
    desk = Desk(ParquetTarget("s3://no-such-bucket/out"), tmp_path)
    with pytest.raises(ConfigurationError, match=r"promote\.path: there is no such bucket"):
        desk.check({"id": "VARCHAR"})


@settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(steps=STEPS)
def test_any_promotions_and_rollbacks_leave_what_the_loads_say(
    place: Place, tmp_path: Path, steps: list[Any]
) -> None:
    """A step without answers rolls its load back."""
    model, desk = Model(), Desk(ParquetTarget(place()), tmp_path)
    for load, answers in steps:
        if answers is None:
            expected, done = model.roll_back(load), desk.roll_back_if_known(load)
            assert (done and (done.rows, done.removed, done.restored, done.kept)) == (
                expected and (expected.rows, expected.removed, expected.restored, expected.kept)
            )
        else:
            model.promote(load, answers)
            desk.promote(load, list(answers.items()))
    assert read(desk) == model.table
