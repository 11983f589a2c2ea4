"""Objects are whole or not there, asked for no more often than needed, and waited for while the store is not well."""

import os
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.rows import ObjectPath, arrow_file, object_store, replacing
from batch_pipeline.rows.folder import present
from batch_pipeline.rows.hurry import in_a_hurry
from batch_pipeline.rows.place import bytes_below, remove_below, version_of
from batch_pipeline.rows.query import querying, row_bytes
from batch_pipeline.rows.store_errors import StoreError
from batch_pipeline_tests.object_store import SECRET_KEY
from batch_pipeline_tests.store_proxy import Asked, StoreProxy

LARGE = 11 << 20


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is large is as small as S3 allows."""
    monkeypatch.setattr(object_store, "_SMALL", 1 << 20)
    monkeypatch.setattr(object_store, "_PART", 5 << 20)


def put(place: ObjectPath, content: bytes) -> None:
    with replacing(place) as temporary:
        temporary.write_bytes(content)


def counted(proxy: StoreProxy) -> Counter[str]:
    found = Counter(asked.what for asked in proxy.asked)
    proxy.asked.clear()
    return found


# Whole, or not there


def test_an_object_holds_what_was_written_and_nothing_is_left_on_this_host(
    root: ObjectPath, tmp_path: Path
) -> None:
    put(root / "sent" / "a.parquet", b"content")
    assert (root / "sent" / "a.parquet").read_bytes() == b"content"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_an_error_leaves_what_was_there_before(root: ObjectPath, tmp_path: Path) -> None:
    put(root / "plan.json", b"old")
    with pytest.raises(KeyError), replacing(root / "plan.json") as temporary:
        temporary.write_bytes(b"half")
        raise KeyError
    assert (root / "plan.json").read_bytes() == b"old"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.usefixtures("small_parts")
def test_a_large_object_goes_up_in_parts_and_is_read_in_parts(
    root: ObjectPath, proxy: StoreProxy
) -> None:
    content = os.urandom(LARGE)
    put(root / "source.parquet", content)
    asked = counted(proxy)
    assert (asked["PUT"], asked["POST"]) == (3, 2)  # three parts, between begin and end
    with (root / "source.parquet").open() as file:
        file.seek(LARGE - 1000)
        assert file.read() == content[-1000:]
        file.seek(5)
        assert file.read(10) == content[5:15]
    assert (root / "source.parquet").read_bytes() == content


@pytest.mark.usefixtures("small_parts")
def test_of_an_upload_that_fails_nothing_is_there(root: ObjectPath, proxy: StoreProxy) -> None:
    proxy.refusal = lambda asked: (
        (403, "AccessDenied") if asked.what == "PUT" and counted_parts(proxy) > 1 else None
    )
    with pytest.raises(ConfigurationError):
        put(root / "source.parquet", os.urandom(LARGE))
    # What was begun is taken back, so that nobody pays for parts of nothing.
    assert "DELETE" in counted(proxy)
    assert not (root / "source.parquet").is_file()


def counted_parts(proxy: StoreProxy) -> int:
    return sum(asked.what == "PUT" for asked in proxy.asked)


def test_what_a_killed_process_left_on_this_host_goes_with_the_next_write(
    root: ObjectPath, tmp_path: Path
) -> None:
    script = (
        "import os, signal; from batch_pipeline.rows import *; from batch_pipeline.settings import Settings\n"
        "with replacing(shared(Settings.from_environment()) / 'x') as t:\n"
        "    t.write_bytes(b'rows'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    import subprocess
    import sys

    subprocess.run([sys.executable, "-c", script], check=False)
    uploads = tmp_path / "state" / "tmp" / "uploads"
    assert len(list(uploads.iterdir())) == 1
    assert not (root / "x").is_file()
    put(root / "y", b"")
    assert list(uploads.iterdir()) == []


# As paths are


def test_names_are_as_those_of_paths(root: ObjectPath) -> None:
    place = root / "raw" / "ab.jsonl.zst"
    for name in ("name", "stem", "suffix"):
        assert getattr(place, name) == getattr(Path("raw/ab.jsonl.zst"), name)
    assert place.parent == root / "raw"
    assert str(place) == f"{root}/raw/ab.jsonl.zst"


def test_what_is_missing_is_missing(root: ObjectPath) -> None:
    place = root / "sent" / "a.parquet"
    assert not place.is_file()
    assert not place.parent.exists()
    assert list(place.parent.glob("*")) == []
    assert version_of(place) is None
    assert bytes_below(root) == 0
    with pytest.raises(FileNotFoundError):
        place.open()
    with pytest.raises(FileNotFoundError):
        place.unlink()
    place.unlink(missing_ok=True)
    remove_below(root)


def test_a_folder_is_listed_without_what_lies_deeper_or_beside(root: ObjectPath) -> None:
    for name in ("sent/b.parquet", "sent/a.parquet", "sent/.x.parquet", "sent/deep/c.parquet"):
        put(root / name, b"123")
    put(root / "sent2" / "a.parquet", b"123")
    listed = [place.name for place in (root / "sent").glob("[!.]*.parquet")]
    assert listed == ["a.parquet", "b.parquet"]
    assert bytes_below(root / "sent") == 12


def test_all_below_is_removed_and_nothing_beside(root: ObjectPath) -> None:
    for name in ("g1/a", "g1/deep/b", "g10/a"):
        put(root / name, b"")
    remove_below(root / "g1")
    assert [place.url for place in (root / "g10").glob("*")] == [f"{root}/g10/a"]
    assert not (root / "g1").exists()


def test_a_name_may_hold_what_patterns_and_addresses_give_a_meaning(root: ObjectPath) -> None:
    place = root / "a[1]*? #%41é.parquet"
    pq.write_table(pa.table({"n": [1]}), held := pa.BufferOutputStream())
    put(place, held.getvalue().to_pybytes())
    assert place.is_file()
    assert [each.url for each in root.glob("*.parquet")] == [place.url]
    with querying(Path(root.store._scratch)) as connection:
        assert connection.execute("FROM read_parquet(?)", [str(place)]).fetchall() == [(1,)]


# Read by DuckDB and Arrow


def test_duckdb_and_arrow_read_objects(root: ObjectPath, tmp_path: Path) -> None:
    places = [root / "sent" / f"{n}.parquet" for n in range(20)]
    with querying(tmp_path / "scratch") as connection:
        for n, place in enumerate(places):
            with replacing(place) as temporary:
                connection.execute(
                    f"COPY (SELECT {n} AS chunk, range AS row FROM range(1000)) TO '{temporary}' (FORMAT parquet)"
                )
        found = connection.sql(
            "SELECT count(*), count(DISTINCT chunk), sum(row) FROM read_parquet($files, union_by_name = true)",
            params={"files": present(places)},
        )
        assert found.fetchall() == [(20_000, 20, 20 * 999 * 500)]
    assert pq.read_table(arrow_file(places[3])).num_rows == 1000
    assert row_bytes(places[3]) > 0


def test_an_object_is_fetched_once_however_often_it_is_read(
    hosts: Callable[[str], ObjectPath], proxy: StoreProxy, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"n": list(range(1000))}), held := pa.BufferOutputStream())
    writer = hosts("one")
    put(writer / "a.parquet", held.getvalue().to_pybytes())
    reader = hosts("two")
    counted(proxy)
    with querying(tmp_path / "scratch") as connection:
        for _ in range(5):
            connection.execute("SELECT sum(n) FROM read_parquet(?)", [f"{reader}/a.parquet"])
    assert counted(proxy)["GET"] == 1
    # Whoever wrote it has it already.
    assert (writer / "a.parquet").read_bytes()
    assert counted(proxy)["GET"] == 0


def test_what_another_host_writes_is_seen_at_once(hosts: Callable[[str], ObjectPath]) -> None:
    one, two = hosts("one") / "plan.json", hosts("two") / "plan.json"
    assert not one.is_file()
    put(two, b"first")
    before = version_of(one)
    assert one.read_bytes() == b"first"
    put(two, b"other")
    assert one.read_bytes() == b"other"
    assert version_of(one) != before
    two.unlink()
    assert not one.is_file()


def test_the_files_of_a_folder_are_asked_for_by_one_listing(
    root: ObjectPath, proxy: StoreProxy
) -> None:
    for n in range(0, 6, 2):
        put(root / "sent" / f"{n}.parquet", b"")
    counted(proxy)
    found = present(root / "sent" / f"{n}.parquet" for n in range(6))
    assert found == [f"{root}/sent/{n}.parquet" for n in (0, 2, 4)]
    assert counted(proxy) == {"LIST": 1}


def test_a_damaged_object_is_named(root: ObjectPath, tmp_path: Path) -> None:
    place = root / "rows" / "questions" / "2026-11-20" / "g1" / "source.parquet"
    put(place, b"this is no Parquet file at all")
    for each in (place, place.parent / "promoted.parquet"):
        with (
            pytest.raises(PipelineError, match="damaged or missing") as raised,
            querying(tmp_path / "scratch") as connection,
        ):
            connection.execute("FROM read_parquet(?)", [str(each)])
        assert str(raised.value).startswith(str(each))


# While it is not well


def busy_for(times: int, *, status: int = 503, code: str = "SlowDown") -> Callable[[Asked], object]:
    left = iter(range(times))
    return lambda _: (status, code) if next(left, None) is not None else None


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (500, "InternalError")])
def test_a_store_that_is_not_well_for_a_while_is_asked_again(
    root: ObjectPath, proxy: StoreProxy, tmp_path: Path, status: int, code: str
) -> None:
    root.store._patience = 30.0
    calls: list[Callable[[], object]] = [
        lambda: put(root / "a.parquet", b"content"),
        (root / "a.parquet").read_bytes,
        lambda: present([root / "a.parquet"]),
        lambda: (root / "a.parquet").unlink(missing_ok=True),
        lambda: remove_below(root),
    ]
    for call in calls:
        proxy.refusal = busy_for(2, status=status, code=code)  # type: ignore[assignment]
        call()


@pytest.mark.usefixtures("small_parts")
def test_a_part_that_was_not_handed_out_is_asked_for_again(
    root: ObjectPath, proxy: StoreProxy
) -> None:
    root.store._patience = 30.0
    content = os.urandom(LARGE)
    put(root / "source.parquet", content)
    with (root / "source.parquet").open() as file:
        assert file.read(1000) == content[:1000]
        proxy.refusal = busy_for(2)  # type: ignore[assignment]
        assert file.read() == content[1000:]


def test_one_that_stays_unwell_is_said_to_be_so_and_nothing_is_lost(
    root: ObjectPath, proxy: StoreProxy, tmp_path: Path
) -> None:
    put(root / "plan.json", b"old")
    proxy.refusal = lambda _: (503, "SlowDown")
    with pytest.raises(StoreError, match=r"SlowDown, HTTP 503.*call again") as raised:
        put(root / "plan.json", b"new")
    assert str(root) in str(raised.value)
    with pytest.raises(StoreError), querying(tmp_path / "scratch") as connection:
        connection.execute("FROM read_parquet(?)", [f"{root}/a.parquet"])
    proxy.refusal = lambda _: None
    assert (root / "plan.json").read_bytes() == b"old"


def test_who_is_in_a_hurry_is_not_kept(root: ObjectPath, proxy: StoreProxy) -> None:
    root.store._patience = 3600.0
    proxy.refusal = lambda _: (503, "SlowDown")
    with in_a_hurry(0.1), pytest.raises(StoreError):
        (root / "plan.json").read_bytes()


def test_a_store_that_is_not_there_is_said_to_be_so(
    bucket: str, hosts: Callable[[str], ObjectPath], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    with pytest.raises(StoreError, match="could not be used for"):
        hosts("elsewhere").store.check()


# What a person must mend


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "AccessDenied"), (403, "SignatureDoesNotMatch"), (400, "ExpiredToken")],
)
def test_refused_credentials_are_said_at_once_and_hold_no_secret(
    root: ObjectPath, proxy: StoreProxy, tmp_path: Path, status: int, code: str
) -> None:
    proxy.refusal = lambda _: (status, code)
    for call in (
        root.store.check,
        lambda: put(root / "a", b""),
        lambda: list(root.glob("*")),
    ):
        with pytest.raises(ConfigurationError, match="refuses access") as raised:
            call()
        assert SECRET_KEY not in str(raised.value)
        assert "AWS_PROFILE" in str(raised.value)
        assert len(proxy.asked) == 1
        proxy.asked.clear()
    # A HEAD has no body that could say why.
    with (
        pytest.raises(ConfigurationError, match=r"refuses .*credentials"),
        querying(tmp_path / "scratch") as connection,
    ):
        connection.execute("FROM read_parquet(?)", [f"{root}/a.parquet"])


def test_without_credentials_nothing_is_asked(
    hosts: Callable[[str], ObjectPath], proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    with pytest.raises(ConfigurationError, match="refuses access"):
        hosts("bare").store.check()


def test_a_bucket_that_is_not_there_is_said(
    proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch, hosts: Callable[[str], ObjectPath]
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_ROWS", "s3://no-such-bucket-here/rows")
    with pytest.raises(ConfigurationError, match="no such bucket"):
        hosts("state").store.check()


def test_a_store_that_is_well_passes_the_check_and_keeps_nothing_of_it(root: ObjectPath) -> None:
    root.store.check()
    assert root.store.below(str(root)) == {}


def test_a_connection_that_was_open_before_reads_objects_too(
    root: ObjectPath, tmp_path: Path
) -> None:
    pq.write_table(pa.table({"n": [7]}), held := pa.BufferOutputStream())
    put(root / "a.parquet", held.getvalue().to_pybytes())
    with querying(tmp_path / "scratch", ordered=False) as connection:
        assert connection.execute("FROM read_parquet(?)", [f"{root}/a.parquet"]).fetchall() == [
            (7,)
        ]
