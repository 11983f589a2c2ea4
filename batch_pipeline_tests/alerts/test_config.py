"""alerts.yaml: what is refused, in words that say where."""

from pathlib import Path

import pytest

from batch_pipeline.alerts.config import read_config, usable_config
from batch_pipeline.alerts.spec import EmailChannel, LogChannel, SlackChannel, WebhookChannel
from batch_pipeline.errors import ConfigurationError
from batch_pipeline.settings import project_root

SECRET = "hush-hush"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- a", "line 1: the file: must be a mapping with `channels:`, a list"),
        ("channels: {a: b}", "line 1: channels: must be a list"),
        ("chanels: []", "line 1: chanels: there is no such key; known are link, channels"),
        (
            "channels:\n- {name: a, type: pigeon}",
            "line 2: channels.0: `type` must be one of log, webhook, slack, email",
        ),
        (
            "channels:\n- name: a\n  type: webhook\n  url: https://h/x\n  heders: {}",
            "line 5: channels.0.heders: there is no such key; known are name, severity, workloads, timeout",
        ),
        ("channels:\n- {type: slack, url_env: A}", "line 2: channels.0.name: is missing"),
        (
            "channels:\n- {name: ../a, type: slack, url_env: A}",
            "line 2: channels.0.name: must be letters, digits, - and _, at most 64",
        ),
        (
            "channels:\n- {name: a, type: slack, url_env: A}\n- {name: a, type: slack, url_env: A}",
            "two channels are called 'a'; rename one",
        ),
        ("channels:\n- {name: a, type: slack}", "give either `url` or `url_env`"),
        (
            f"channels:\n- {{name: a, type: slack, url_env: 'https://hooks/{SECRET}'}}",
            "line 2: channels.0.url_env: must be the name of an environment variable, not its value",
        ),
        (
            f"channels:\n- {{name: a, type: slack, url: 'https://hooks/{SECRET}'}}",
            "line 2: channels.0.url: a Slack address is a secret: use `url_env`, or ${VARIABLE} in it",
        ),
        (
            f"channels:\n- {{name: a, type: webhook, url: 'https://h', headers: {{X-Api-Key: {SECRET}}}}}",
            "X-Api-Key is a secret: write ${VARIABLE} and set that in the environment",
        ),
        (
            "channels:\n- {name: a, type: slack, url_env: A, timeout_seconds: 0}",
            "line 2: channels.0.timeout_seconds: must be greater than 0",
        ),
        (
            'channels:\n- {name: a, type: email, host: h, from: a@b, to: ["a@b\\nBcc: c@d"]}',
            "line 2: channels.0.to.0: must be a single mail address, such as oncall@example.com",
        ),
        (
            "channels:\n- {name: a, type: email, host: h, from: a@b, to: [a@b], user: u}",
            "`user` and `password_env` go together",
        ),
        (
            "channels:\n- {name: a, type: email, host: h, from: a@b, to: [a@b], user: u, password_env: P, security: none}",
            "a password is not sent without `security: starttls` or `tls`",
        ),
        ("channels:\n- {name: log, type: slack, url_env: A}", "only a channel of type log may be"),
    ],
)
def test_what_is_wrong_is_said_with_file_line_and_key(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        read_config(path, {})
    assert str(raised.value).startswith(f"{path}, line ")
    assert said in str(raised.value)
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (f"hooks.example.com/{SECRET}", "is not an https:// address"),
        (f"file:///{SECRET}", "is not an https:// address"),
        (f"https://h:port/{SECRET}", "is not an https:// address"),
        (
            f"http://hooks.example.com/{SECRET}",
            "is http://, where anybody on the way may read along",
        ),
    ],
)
def test_an_address_that_cannot_be_used_is_not_shown(
    tmp_path: Path, address: str, said: str
) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text("channels:\n- name: a\n  type: slack\n  url_env: A\n")
    config = read_config(path, {"A": address})
    with pytest.raises(ConfigurationError, match=said) as raised:
        config.address(config.channels[1])  # type: ignore[arg-type]
    assert f"{path}, line 4" in str(raised.value)
    assert SECRET not in str(raised.value)


def test_without_a_file_there_is_the_log() -> None:
    assert [channel.name for channel in read_config(None, {}).channels] == ["log"]


def test_a_file_that_is_named_and_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="which is not a file"):
        read_config(tmp_path / "nowhere.yaml", {})


def test_a_file_that_is_wrong_leaves_the_log(tmp_path: Path) -> None:
    path = tmp_path / "alerts.yaml"
    path.write_text("channels: 5")
    config = usable_config(path, {})
    assert [channel.name for channel in config.channels] == ["log"]
    assert "must be a list" in str(config.problem)


def test_every_key_is_documented_and_the_example_loads(tmp_path: Path) -> None:
    text = (project_root() / "docs" / "alerts.md").read_text()
    models = (LogChannel, WebhookChannel, SlackChannel, EmailChannel)
    keys = {
        field.alias or name for model in models for name, field in model.model_fields.items()
    } - {"type"}
    for key in keys:
        assert f"`{key}`" in text, key
    path = tmp_path / "alerts.yaml"
    path.write_text(text.partition("```yaml\n")[2].partition("```")[0])
    assert [channel.name for channel in read_config(path, {}).channels] == [
        "log",
        "oncall",
        "incidents",
        "team",
    ]
