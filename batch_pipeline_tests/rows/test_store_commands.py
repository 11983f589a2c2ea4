"""Commands on rows in an object store; what a person reads where that refuses or is not there."""

import csv
import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batch_pipeline.cli import main
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import DAY, Night, account_of
from batch_pipeline_tests.object_store import SECRET_KEY
from batch_pipeline_tests.store_proxy import StoreProxy


@pytest.fixture
def simulator(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    monkeypatch: pytest.MonkeyPatch,
) -> Simulator:
    """With a workload that was not begun, declared before the place of its rows."""
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(night().folder.parent))
    return simulate()


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def run() -> Result:
    return call("run", "questions", "--date", DAY, "--json")


def test_a_load_is_run_shown_and_exported(
    simulator: Simulator, bucket: str, tmp_path: Path
) -> None:
    done = run()
    assert done.exit_code == 0, done.stderr
    card = json.loads(done.stdout)
    assert (card["promoted_rows"], card["gate"]["promote"]) == (12, True)
    shown = call("scorecard", "questions", "--date", DAY, "--json")
    assert json.loads(shown.stdout) == card
    for command, rows in (("export", 12), ("dispositions", 12)):
        target = tmp_path / f"{command}.csv"
        done = call(command, "questions", "--date", DAY, "--to", str(target))
        assert done.exit_code == 0, done.stderr
        with target.open() as file:
            assert len(list(csv.DictReader(file))) == rows
    purged = call("purge", "--older-than", "0d")
    assert purged.exit_code == 0, purged.stderr
    assert "bytes of rows removed" in purged.stdout
    again = call("scorecard", "questions", "--date", DAY, "--json")
    assert json.loads(again.stdout)["dispositions"] == card["dispositions"]


def refused(done: Result, simulator: Simulator) -> str:
    """The one sentence; nothing may have been sent."""
    assert done.exit_code == 2, (done.stdout, done.stderr)
    assert done.stdout == ""
    assert account_of(simulator)["arrived"].get("create", 0) == 0
    assert "Traceback" not in done.stderr
    assert SECRET_KEY not in done.stderr
    return done.stderr


def test_refused_credentials_are_said_before_anything_is_sent(
    simulator: Simulator, bucket: str, proxy: StoreProxy
) -> None:
    proxy.refusal = lambda _: (403, "InvalidAccessKeyId")
    said = refused(run(), simulator)
    assert f"{bucket} refuses access (InvalidAccessKeyId, HTTP 403)" in said
    assert len(proxy.asked) == 1


def test_a_bucket_that_is_not_there_is_said_before_anything_is_sent(
    simulator: Simulator, proxy: StoreProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_ROWS", "s3://no-such-bucket-at-all/rows")
    assert "there is no such bucket as that of s3://no-such-bucket-at-all/rows" in refused(
        run(), simulator
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://key:s3cret-word@bucket/rows", "holds a password"),
        ("s3:///rows", "names no bucket"),
        ("nothing://bucket/rows", "is no filesystem that fsspec knows"),
        ("gs://bucket/rows", "needs a package that is not installed"),
        ("file://elsewhere/rows", "names no folder of this host"),
    ],
)
def test_an_address_that_is_none_is_said_before_anything_is_sent(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, url: str, said: str
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_ROWS", url)
    found = refused(run(), simulator)
    assert said in found
    assert "s3cret-word" not in found


def test_a_store_that_does_not_answer_leaves_the_load_unfinished(
    simulator: Simulator, bucket: str, proxy: StoreProxy
) -> None:
    proxy.refusal = lambda _: (503, "SlowDown")
    done = run()
    assert done.exit_code == 4, done.stderr
    assert "SlowDown, HTTP 503" in done.stderr
    assert "call again" in done.stderr
    assert account_of(simulator)["arrived"].get("create", 0) == 0
    proxy.refusal = lambda _: None
    assert run().exit_code == 0


def test_a_store_that_accepts_and_says_nothing_is_not_waited_for_long(
    simulator: Simulator, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("batch_pipeline.rows.object_store._SILENT_SECONDS", 0.5)
    monkeypatch.setattr("batch_pipeline.rows.object_store._CHECK_SECONDS", 2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        done = run()
    assert done.exit_code == 4
    assert bucket in done.stderr.splitlines()[-1]
    assert account_of(simulator)["batches"] == []
