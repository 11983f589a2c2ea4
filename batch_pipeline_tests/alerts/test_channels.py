"""What each receiver gets, and what nobody else may see."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline_tests.alerts.conftest import Desk, condition
from batch_pipeline_tests.alerts.receivers import (
    Hook,
    Mailbox,
    certificate,
    free_port,
    hook,
    mail_server,
)

SECRET = "hush-hush"


@pytest.fixture
def received() -> Iterator[Hook]:
    with hook() as started:
        yield started


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certificate(tmp_path_factory.mktemp("certificates"))


def mail(box: Mailbox, **changes: Any) -> dict[str, Any]:
    return {
        "name": "mail",
        "type": "email",
        "host": "127.0.0.1",
        "port": box.port,
        "security": "none",
        "from": "pipeline@example.com",
        "to": ["oncall@example.com"],
        **changes,
    }


def error_of(desk: Desk, channel: str) -> str:
    [delivery] = [d for d in desk.deliveries() if d.channel == channel]
    assert delivery.state == "pending"
    return str(delivery.error)


def everything_kept(desk: Desk) -> bytes:
    """All files of the state folder, end to end."""
    files = [path for path in desk.settings.state.rglob("*") if path.is_file()]
    assert any(path.name == "ledger.sqlite" for path in files)
    return b"".join(path.read_bytes() for path in files)


def test_a_webhook_has_headers_with_secrets_from_the_environment(
    desk: Desk, received: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPS_TOKEN", SECRET)
    headers = {"Authorization": "Bearer ${OPS_TOKEN}", "X-Team": "data"}
    desk.declare({"name": "ops", "type": "webhook", "url": received.url, "headers": headers})
    desk.look(condition())
    desk.tell()
    [post] = received.posts
    assert post.headers["authorization"] == f"Bearer {SECRET}"
    assert post.headers["x-team"] == "data"
    assert post.headers["content-type"] == "application/json"


def test_slack_is_told_in_its_own_words_and_no_text_can_call_everybody(
    desk: Desk, received: Hook, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLACK_URL", received.url)
    desk.declare(
        {"name": "slack", "type": "slack", "url_env": "SLACK_URL"},
        link="https://dagster.example.com",
    )
    desk.look(condition(sentence="5 < 6 & <!channel> said so"))
    desk.tell()
    [post] = received.posts
    assert post.json == {
        "text": ":rotating_light: *[page] w 2026-11-20 is held*\n"
        "5 &lt; 6 &amp; &lt;!channel&gt; said so\n"
        "<https://dagster.example.com/assets/w/golden_score|Open in Dagster>",
        "unfurl_links": False,
    }


def test_a_mail_goes_over_starttls_after_a_login_and_its_end_answers_it(
    desk: Desk, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", SECRET)
    with mail_server(certificates) as box:
        login = {"user": "pipeline", "password_env": "MAIL_PASSWORD"}
        desk.declare(mail(box, security="starttls", ca_file=str(certificates[0]), **login))
        for found in ([condition()], []):
            desk.look(*found)
            desk.tell()
    assert box.logins[0] == (b"pipeline", SECRET.encode())
    assert box.recipients[0] == ["oncall@example.com"]
    opened, resolved = box.mails
    assert opened["Subject"] == "[page] w 2026-11-20 is held"
    assert opened["Message-ID"].endswith("@example.com>")
    assert opened["Auto-Submitted"] == "auto-generated"
    assert "The load is held: coverage." in opened.get_content()
    assert resolved["Subject"] == "[resolved] w 2026-11-20 is held"
    assert resolved["In-Reply-To"] == opened["Message-ID"] != resolved["Message-ID"]


def test_a_mail_goes_over_tls_from_the_first_byte(
    desk: Desk, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", SECRET)
    with mail_server(certificates, starttls=False) as box:
        login = {"user": "pipeline", "password_env": "MAIL_PASSWORD"}
        desk.declare(mail(box, security="tls", ca_file=str(certificates[0]), **login))
        desk.look(condition())
        desk.tell()
    assert len(box.mails) == 1


def test_a_certificate_that_nobody_vouches_for_gets_no_password(
    desk: Desk, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", SECRET)
    with mail_server(certificates) as box:
        login = {"user": "pipeline", "password_env": "MAIL_PASSWORD"}
        desk.declare(mail(box, security="starttls", **login))
        desk.look(condition())
        desk.tell()
    assert (box.logins, box.mails) == ([], [])
    assert error_of(desk, "mail") == ("127.0.0.1 could not be reached (SSLCertVerificationError).")


def test_a_server_without_starttls_gets_no_mail(desk: Desk) -> None:
    with mail_server(None) as box:
        desk.declare(mail(box, security="starttls"))
        desk.look(condition())
        desk.tell()
    assert box.mails == []
    assert "SMTPNotSupportedError" in error_of(desk, "mail")


def test_a_wrong_password_is_said_without_the_password(
    desk: Desk, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "not-the-password")
    with mail_server(certificates) as box:
        login = {"user": "pipeline", "password_env": "MAIL_PASSWORD"}
        desk.declare(mail(box, security="starttls", ca_file=str(certificates[0]), **login))
        desk.look(condition())
        desk.tell()
    assert error_of(desk, "mail") == "127.0.0.1 answered 535 (SMTPAuthenticationError)."


def test_a_text_with_line_ends_becomes_no_header(desk: Desk) -> None:
    with mail_server(None) as box:
        desk.declare(mail(box))
        desk.look(condition(title="held\r\nBcc: thief@example.com", sentence="a\r\n.\r\nb"))
        desk.tell()
    [got] = box.mails
    assert got["Bcc"] is None
    assert got["Subject"] == r"[page] held\r\nBcc: thief@example.com"
    assert r"a\r\n.\r\nb" in got.get_content()
    assert box.recipients == [["oncall@example.com"]]


def test_a_recipient_that_is_refused_for_now_is_tried_again_and_the_others_are_not(
    desk: Desk,
) -> None:
    with mail_server(None) as box:
        box.refused_once.add("second@example.com")
        desk.declare(mail(box, to=["oncall@example.com", "second@example.com"]))
        desk.look(condition())
        desk.tell()
        assert box.recipients == [["oncall@example.com"]]
        desk.wait(minutes=1)
        desk.tell()
    assert box.recipients == [["oncall@example.com"], ["second@example.com"]]
    assert {d.state for d in desk.deliveries()} == {"sent"}


def test_an_error_that_nobody_foresaw_is_kept_by_its_name_and_the_other_channels_are_told(
    desk: Desk,
) -> None:
    with hook() as received:
        broken = {
            "name": "a",
            "type": "email",
            "host": "smtp..bad",
            "from": "p@example.com",
            "to": ["o@example.com"],
        }
        desk.declare(broken, {"name": "hook", "type": "webhook", "url": received.url})
        desk.look(condition())
        desk.tell()
        assert len(received.posts) == 1
    assert error_of(desk, "a") == "it raised UnicodeError."


def test_the_log_has_a_line_of_json_for_each_message_and_is_its_owners_alone(desk: Desk) -> None:
    for found in ([condition()], []):
        desk.look(*found)
        desk.tell()
    log = desk.settings.state / "alerts.log"
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(line["event"], line["title"]) for line in lines] == [
        ("opened", "w 2026-11-20 is held"),
        ("resolved", "w 2026-11-20 is held"),
    ]
    assert log.stat().st_mode & 0o077 == 0


def test_a_redirect_is_not_followed_and_said_without_the_address(desk: Desk) -> None:
    with hook() as elsewhere:
        moved = (307, {"location": elsewhere.url})
        with hook(lambda _n: moved) as received:
            headers = {"X-Team": "data"}
            desk.declare(
                {"name": "ops", "type": "webhook", "url": received.url, "headers": headers}
            )
            desk.look(condition())
            desk.tell()
            assert len(received.posts) == 1
        assert elsewhere.posts == []
    assert "a redirect, which is not followed" in error_of(desk, "ops")


def test_no_secret_is_in_a_log_or_below_the_state_folder_whatever_the_receiver_does(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    statuses = [200, 307, 400, 401, 429, 500]
    with hook(lambda n: (statuses[n - 1], {"location": "/x", "retry-after": "x"})) as received:
        monkeypatch.setenv("SLACK_URL", received.url)
        monkeypatch.setenv("OPS_TOKEN", SECRET)
        for n, _ in enumerate(statuses):
            # A channel of its own for each, since one that fails is left alone.
            headers = {"Authorization": "Bearer ${OPS_TOKEN}"}
            kind = {"type": "slack"} if n % 2 else {"type": "webhook", "headers": headers}
            desk.declare({"name": f"c{n}", "url_env": "SLACK_URL", **kind})
            desk.look(condition(f"k{n}"))
            desk.tell()
        assert len(received.posts) >= len(statuses)
    monkeypatch.setenv("SLACK_URL", f"http://127.0.0.1:{free_port()}/{SECRET}")
    desk.declare({"name": "down", "type": "slack", "url_env": "SLACK_URL"})
    desk.look(condition("down"))
    desk.tell()
    monkeypatch.setenv("SLACK_URL", f"http://127.0.0.1:99999/{SECRET}")
    desk.declare({"name": "bad", "type": "slack", "url_env": "SLACK_URL"})
    desk.look(condition("bad"))
    desk.tell()
    assert SECRET not in caplog.text
    assert SECRET.encode() not in everything_kept(desk)


def test_a_variable_that_is_missing_silences_its_own_channel_only(
    desk: Desk, received: Hook
) -> None:
    desk.declare(
        {"name": "a_slack", "type": "slack", "url_env": "NOT_SET"},
        {"name": "ops", "type": "webhook", "url": received.url},
    )
    desk.look(condition())
    desk.tell()
    assert len(received.posts) == 1
    assert error_of(desk, "a_slack") == (
        f"{desk.folder}/alerts.yaml, line 4: channel 'a_slack' needs the environment variable NOT_SET, which "
        "is not set; set it where the sensor and `batch-pipeline` run."
    )
