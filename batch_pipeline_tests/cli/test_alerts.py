"""`batch-pipeline alerts`, and what `run` tells at its end."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from batch_pipeline.cli import main
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.alerts.receivers import free_port, hook
from batch_pipeline_tests.night import DAY, Night


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


@pytest.fixture
def declare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., None]:
    def write(*channels: dict[str, object]) -> None:
        path = tmp_path / "alerts.yaml"
        path.write_text(yaml.safe_dump({"channels": list(channels)}))
        monkeypatch.setenv("BATCH_PIPELINE_ALERTS", str(path))

    return write


def test_without_anything_it_says_so_and_leaves_no_trace(tmp_path: Path) -> None:
    done = call("alerts")
    assert (done.exit_code, done.stdout) == (0, "No alert is open.\n")
    assert json.loads(call("alerts", "--json").stdout) == {"alerts": []}
    assert not (tmp_path / "state").exists()


def test_a_test_message_is_marked_and_says_what_came_of_it(declare: Callable[..., None]) -> None:
    with hook() as received:
        declare(
            {"name": "up", "type": "webhook", "url": received.url},
            {"name": "down", "type": "webhook", "url": f"http://127.0.0.1:{free_port()}/x"},
            {"name": "unset", "type": "slack", "url_env": "NOT_SET"},
        )
        one = call("alerts", "test", "up")
        assert (one.exit_code, one.stdout) == (0, "up: taken: 127.0.0.1 answered 200\n")
        [post] = received.posts
        assert (post.json["event"], post.json["severity"]) == ("test", "log")
        every = call("alerts", "test", "--json")
    assert every.exit_code == 4
    channels = {each["channel"]: each for each in json.loads(every.stdout)["channels"]}
    assert {name: each["taken"] for name, each in channels.items()} == {
        "log": True,
        "up": True,
        "down": False,
        "unset": False,
    }
    assert "needs the environment variable NOT_SET" in channels["unset"]["said"]


def test_wrong_use_is_a_sentence(declare: Callable[..., None]) -> None:
    declare()
    unknown = call("alerts", "test", "nobody")
    assert unknown.exit_code == 2
    assert "There is no channel 'nobody'" in unknown.stderr
    declare({"name": "a", "type": "pigeon"})
    broken = call("alerts", "test")
    assert broken.exit_code == 2
    assert "`type` must be one of log, webhook, slack, email" in broken.stderr


def test_run_tells_of_a_held_load_and_of_its_end_without_a_daemon(
    simulate: Callable[..., Simulator],
    night: Callable[..., Night],
    monkeypatch: pytest.MonkeyPatch,
    declare: Callable[..., None],
) -> None:
    simulate(rows=[{"contains": "number 1000", "fault": "wrong"}])
    made = night()
    monkeypatch.setenv("BATCH_PIPELINE_WORKLOADS", str(made.folder.parent))
    port = free_port()
    declare({"name": "pager", "type": "webhook", "url": f"http://127.0.0.1:{port}/x"})
    done = call("run", "questions", "--date", DAY, "--json")
    # A receiver that is down changes nothing but a line on standard error.
    assert done.exit_code == 3, done.stderr
    assert json.loads(done.stdout)["gate"]["promote"] is False
    assert "alerts: channel pager was not reached, it is tried again: 127.0.0.1" in done.stderr

    listed = call("alerts").stdout
    assert f"PAGE open 0 min  questions {DAY} is held by its gate" in listed
    assert "pager: opened, to be told from" in listed
    assert "(tried once; last: 127.0.0.1 could not be reached" in listed
    [alert] = json.loads(call("alerts", "--json").stdout)["alerts"]
    assert {d["channel"]: d["state"] for d in alert["deliveries"]} == {
        "log": "sent",
        "pager": "pending",
    }

    assert call("promote", "questions", "--reason", "labels in dispute").exit_code == 0
    # Nor does a file that is wrong; what it names is told when that is mended.
    declare({"name": "pager", "type": "pigeon"})
    again = call("run", "questions", "--date", DAY)
    assert again.exit_code == 0
    assert "`type` must be one of log, webhook, slack, email" in again.stderr
    assert call("alerts").stdout == "No alert is open.\n"
    past = call("alerts", "--all").stdout
    assert "PAGE lasted 0 min" in past
    assert "log: resolved, told at" in past
