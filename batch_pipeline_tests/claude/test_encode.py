"""Request bodies: the JSON that the API expects, and a true account of its size and content."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_pipeline.claude.encode import ENVELOPE_BYTES, BodyFile, RequestTemplate

SCHEMA = {"type": "object", "properties": {}, "additionalProperties": False}
TEXT = st.text(st.characters(codec="utf-8"))


def template(**changes: Any) -> RequestTemplate:
    options: dict[str, Any] = {
        "model": "m",
        "max_tokens": 9,
        "system": None,
        "cache": "none",
        "answer_schema": SCHEMA,
        **changes,
    }
    return RequestTemplate(**options)


def write(path: Path, requests: list[bytes]) -> BodyFile:
    with BodyFile(path) as body:
        for request in requests:
            whole = body.bytes + bool(body.requests) + len(request) + len(b"]}")
            assert body.room(whole) == len(request)
            body.add(request)
    return body


@given(user=TEXT, system=TEXT)
def test_any_text_comes_through_as_it_is(user: str, system: str) -> None:
    request = json.loads(template(system=system).request("t-1", user))
    assert request["custom_id"] == "t-1"
    assert request["params"]["messages"] == [{"role": "user", "content": user}]
    assert request["params"]["system"] == [{"type": "text", "text": system}]


@given(texts=st.lists(TEXT, max_size=5))
def test_the_body_knows_its_size_and_digest(tmp_path_factory: Any, texts: list[str]) -> None:
    path: Path = tmp_path_factory.mktemp("body") / "body.json"
    made = template()
    body = write(path, [made.request(f"t-{n}", text) for n, text in enumerate(texts)])
    content = path.read_bytes()
    assert (body.requests, body.bytes) == (len(texts), len(content))
    assert body.sha256 == hashlib.sha256(content).hexdigest()
    assert len(json.loads(content)["requests"]) == len(texts)
    assert len(content) >= ENVELOPE_BYTES


@given(rows=st.lists(st.tuples(st.integers(0, 10**9), TEXT), min_size=1, max_size=5))
def test_requests_joined_are_those_made_one_by_one(rows: list[tuple[int, str]]) -> None:
    made = template(system="s")
    one_by_one = b",".join(made.request(f"token-{row}", text) for row, text in rows)
    varying = [made.varying(text) for _, text in rows]
    assert made.requests("token", [row for row, _ in rows], varying) == one_by_one
    digits = sum(len(f"token-{row}") for row, _ in rows)
    each = made.constant_bytes * len(rows) + digits + sum(map(len, varying))
    assert len(one_by_one) == each + len(rows) - 1


def test_a_disk_that_is_full_is_heard_of(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full here")
    with pytest.raises(OSError, match="No space left"), BodyFile(full) as body:
        body.add(b"{}")


def test_the_bytes_are_those_of_compact_json(tmp_path: Path) -> None:
    path = tmp_path / "body.json"
    made = template(system="Straße “x”", cache="5m")
    write(path, [made.request("t-0", "ä\n\u2028"), made.request("t-1", "\U0001f600")])
    content = path.read_bytes()
    compact = json.dumps(json.loads(content), ensure_ascii=False, separators=(",", ":"))
    assert content == compact.encode()


def test_an_optional_parameter_is_sent_only_when_declared() -> None:
    bare = json.loads(template().request("t-0", "x"))["params"]
    assert set(bare) == {"model", "max_tokens", "output_config", "messages"}
    assert set(bare["output_config"]) == {"format"}
    full = json.loads(
        template(system="s", cache="1h", effort="low", thinking={"type": "adaptive"}).request(
            "t", "x"
        )
    )["params"]
    assert full["thinking"] == {"type": "adaptive"}
    assert full["output_config"]["effort"] == "low"
    assert full["system"][0]["cache_control"] == {"type": "ephemeral", "ttl": "1h"}


def test_no_sampling_parameter_is_ever_sent() -> None:
    sent = template(effort="high").request("t-0", "x")
    assert not any(name in sent for name in (b"temperature", b"top_p", b"top_k", b"stream"))


def test_system_text_that_looks_like_a_slot_is_only_text() -> None:
    for system in ('{"content":"x"}', "\x00slot", "{{ user }}", '"messages":[]'):
        params = json.loads(template(system=system).request("t", "user text"))["params"]
        assert params["system"][0]["text"] == system
        assert params["messages"][0]["content"] == "user text"


@given(head=TEXT, user=TEXT)
def test_a_shared_beginning_is_a_block_of_its_own(head: str, user: str) -> None:
    made = json.loads(template(cache="1h").request("t-1", user, head=head))
    content = made["params"]["messages"][0]["content"]
    if isinstance(content, str):
        assert content == head + user
        assert not (head.strip() and user.strip())
        return
    assert content == [
        {"type": "text", "text": head, "cache_control": {"type": "ephemeral", "ttl": "1h"}},
        {"type": "text", "text": user},
    ]
    # Empty blocks are refused by the API.
    assert head.strip() and user.strip()


@given(system=TEXT, user=TEXT)
def test_a_system_text_that_varies_is_given_with_each_request(system: str, user: str) -> None:
    made = json.loads(template(varying_system=True).request("t-1", user, system=system))
    assert made["params"]["system"] == [{"type": "text", "text": system}]
    assert made["params"]["messages"] == [{"role": "user", "content": user}]


def test_where_the_model_runs_is_asked_for() -> None:
    made = json.loads(template(inference_geo="us").request("t-1", "a"))
    assert made["params"]["inference_geo"] == "us"
