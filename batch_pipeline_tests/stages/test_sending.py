"""batch_submission: every row is sent once, whatever happens on the way."""

import json
import re
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batch_pipeline.claude.client import BatchesApi
from batch_pipeline.errors import ConfigurationError, PipelineError
from batch_pipeline.ledger import ChunkState, Ledger
from batch_pipeline.ledger.records import Phase
from batch_pipeline.simulator import Simulator
from batch_pipeline.stages.next_step import Action
from batch_pipeline.stages.promote import GateClosedError
from batch_pipeline.stages.source import read_source
from batch_pipeline.stages.submit import send_pending
from batch_pipeline_tests.night import DAY, HAIKU, Night, rows
from batch_pipeline_tests.stages.watching import (
    Final,
    Watch,
    accepted,
    answering,
    chunk_states,
    finals,
    paid_twice,
    posts,
    rows_of,
    sendings,
    together,
)

MakeNight = Callable[..., Night]
Simulate = Callable[..., Simulator]

# Whether the API accepted the call whose answer was lost cannot be told from outside.
AMBIGUOUS: dict[str, dict[str, Any]] = {
    "500": {"fault": "status", "status": 500},
    "502": {"fault": "status", "status": 502},
    "529": {"fault": "status", "status": 529},
    "408": {"fault": "status", "status": 408},
    "409": {"fault": "status", "status": 409},
    "dropped before it was accepted": {"fault": "drop_before_accepting"},
    "dropped after it was accepted": {"fault": "drop_after_accepting"},
    "500 after it was accepted": {"fault": "error_after_accepting"},
    "no answer in time": {"fault": "hang", "seconds": 5},
    "accepted, but no answer in time": {
        "fault": "hang",
        "seconds": 5,
        "when": "after_accepting",
    },
}


def send(night: Night, watch: Watch | None = None) -> None:
    read_source(night.context)
    send_pending(night.context, watch or BatchesApi)


# What is sent


def test_the_server_receives_the_bytes_that_were_written(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator, n, watch = simulate(), night(limits={"max_requests": 6}), Watch()
    send(n, watch)
    chunks = n.ledger.chunks(n.context.record())
    received = [(b["sha256"], b["bytes"], b["requests"]) for b in accepted(simulator)]
    assert received == [(c.sha256, c.bytes, c.requests) for c in chunks]
    assert [len(body) for body in watch.bodies] == [c.bytes for c in chunks]


def test_a_request_holds_what_was_declared_and_nothing_else(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    n, watch = night(count=1, golden=0), Watch()
    send(n, watch)
    [[request]] = watch.requests
    assert set(request) == {"custom_id", "params"}
    assert request["params"] == {
        "model": HAIKU,
        "max_tokens": 64,
        "output_config": {
            "format": {"type": "json_schema", "schema": n.context.workload.contract.api_schema()}
        },
        "system": [{"type": "text", "text": "Say what the question is about."}],
        "messages": [{"role": "user", "content": "question number 0 of the night"}],
    }


def test_row_text_arrives_as_it_stands(simulate: Simulate, night: MakeNight) -> None:
    simulate()
    texts = [
        '"}]},{"custom_id":"x"',
        "a\\u0000b\\",
        "\u2028 \U0001f600 \x7f",
        "line\nbreak\ttab",
        "'; --",
    ]
    n = night(golden=0, source=[{"id": f"k{i}", "text": text} for i, text in enumerate(texts)])
    watch = Watch()
    send(n, watch)
    [requests] = watch.requests
    assert [r["params"]["messages"][0]["content"] for r in requests] == texts


def test_custom_ids_are_the_chunks_token_and_the_row(simulate: Simulate, night: MakeNight) -> None:
    simulate()
    n, watch = night(count=12, golden=0, limits={"max_requests": 5}), Watch()
    send(n, watch)
    ids = [[r["custom_id"] for r in requests] for requests in watch.requests]
    tokens = [c.token for c in n.ledger.chunks(n.context.record())]
    assert ids == [
        [f"{tokens[0]}-{row}" for row in range(5)],
        [f"{tokens[1]}-{row}" for row in range(5, 10)],
        [f"{tokens[2]}-{row}" for row in range(10, 12)],
    ]
    assert len(set(tokens)) == 3
    assert all(re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", each) for chunk in ids for each in chunk)


def test_the_shared_prefix_is_the_same_bytes_in_every_request(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    n = night(
        prompt={"system": "Sagt, “was” los ist.\n" * 50, "user": "{{ text }}", "cache": "1h"},
        limits={"max_requests": 9},
    )
    watch = Watch()
    send(n, watch)
    parts: Counter[tuple[bytes, bytes]] = Counter()
    for body in watch.bodies:
        for request in body[len(b'{"requests":[') : -2].split(b'{"custom_id":"')[1:]:
            before, _, rest = request.partition(b'"params":')[2].partition(b'"content":"')
            parts[before, rest.partition(b'"')[2].rstrip(b",")] += 1
    assert list(parts.values()) == [17]


# Chunks


@pytest.mark.parametrize(
    ("count", "most", "expected"),
    [(6, 6, [6]), (7, 6, [6, 1]), (12, 6, [6, 6]), (3, 1, [1, 1, 1])],
)
def test_a_chunk_holds_at_most_max_requests(
    simulate: Simulate, night: MakeNight, count: int, most: int, expected: list[int]
) -> None:
    simulator = simulate()
    send(night(count=count, golden=0, limits={"max_requests": most}))
    assert [b["requests"] for b in accepted(simulator)] == expected


def test_a_chunk_holds_at_most_max_bytes_to_the_byte(simulate: Simulate, night: MakeNight) -> None:
    simulator = simulate()
    source = rows(4)
    measure = night(golden=0, name="measure", source=source)
    send(measure)
    [[size]] = [[c.bytes for c in measure.ledger.chunks(measure.context.record())]]
    for name, most, expected in (
        ("fits", size, [4]),
        ("short", size - 1, [3, 1]),
    ):
        n = night(golden=0, name=name, source=source, limits={"max_bytes": most})
        send(n)
        assert [c.requests for c in n.ledger.chunks(n.context.record())] == expected
        assert max(b["bytes"] for b in accepted(simulator)) <= size


def test_a_row_that_fits_no_body_is_quarantined_and_the_load_goes_on(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate()
    source = rows(6)
    source[0]["text"] = source[3]["text"] = source[5]["text"] = "long " * 400
    n = night(source=source, golden=0, limits={"max_bytes": 1900})
    n.settle()
    assert {key: (f.disposition, f.reason) for key, f in finals(n).items()} == {
        "r00000": ("quarantined", "request_too_large"),
        "r00001": ("validated", None),
        "r00002": ("validated", None),
        "r00003": ("quarantined", "request_too_large"),
        "r00004": ("validated", None),
        "r00005": ("quarantined", "request_too_large"),
    }
    assert sum(b["requests"] for b in accepted(simulator)) == 3


def test_a_row_on_which_the_template_fails_is_quarantined_and_the_load_goes_on(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    template = "{{ 60 // (text | length - 5) }} {{ text }} {{ 'x'.nothing if label == 'bug' }}"
    source = rows(6)
    source[0]["text"] = "12345"
    n = night(source=source, golden=0, prompt={"user": template})
    n.settle()
    failed = {key for key, f in finals(n).items() if f.disposition == "quarantined"}
    assert failed == {"r00000", "r00001", "r00004"}
    assert {finals(n)[key].reason for key in failed} == {"template_failed"}


def test_a_load_of_which_nothing_can_be_sent_settles_and_is_held(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate()
    n = night(count=3, golden=0, prompt={"user": "{{ text.nothing }}"})
    card = n.settle()
    assert card.dispositions == {"validated": 0, "quarantined": 3, "human_review": 0}
    with pytest.raises(GateClosedError, match="not one row is validated"):
        n.publish()
    assert posts(simulator) == 0


# The intent comes first


def test_the_intent_is_committed_before_the_post(simulate: Simulate, night: MakeNight) -> None:
    simulate()
    n = night(count=8, golden=0, limits={"max_requests": 4})
    seen: list[tuple[int, ChunkState, bool, bool]] = []

    def look(body: Path) -> None:
        # Another connection sees only what was committed.
        ledger = Ledger(n.context.settings.state)
        record = ledger.load("questions", DAY)
        assert record is not None
        [chunk] = [c for c in ledger.chunks(record) if c.state is ChunkState.INTENT]
        folder = n.context.folder(record)
        seen.append(
            (
                chunk.requests,
                chunk.state,
                body == folder.body(chunk.chunk_id) and body.stat().st_size == chunk.bytes,
                folder.sent(chunk.chunk_id).is_file(),
            )
        )

    send(n, Watch(before=look))
    assert seen == [(4, ChunkState.INTENT, True, True)] * 2


def test_bodies_are_gone_once_their_batch_is_known(simulate: Simulate, night: MakeNight) -> None:
    simulate()
    n = night(limits={"max_requests": 6})
    send(n)
    folder = n.context.folder(n.context.record())
    assert list(folder.body("x").parent.iterdir()) == []


def test_sending_again_sends_nothing(simulate: Simulate, night: MakeNight) -> None:
    simulator, n = simulate(turnaround_seconds=60), night()
    send(n)
    for _ in range(2):
        send(n)
    assert posts(simulator) == 1


# An answer that was lost


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_a_lost_answer_is_followed_by_a_second_post_only_if_no_batch_appears(
    simulate: Simulate, night: MakeNight, name: str
) -> None:
    simulator = simulate(calls=[{"on": "create", "nth": 2, **AMBIGUOUS[name]}])
    n = night(count=9, golden=0, limits={"max_requests": 3})
    read_source(n.context)
    watch = Watch(timeout=0.5)
    summary = send_pending(n.context, watch)
    assert (summary.batches, posts(simulator)) == (1, 2)
    assert "looked for before anything more is sent" in str(summary.waits_for)
    again = Night(type(n.context).open(n.context.workload, DAY, n.context.settings))
    assert chunk_states(again) == {ChunkState.SUBMITTED: 1, ChunkState.INTENT: 1}
    assert again.next() in (Action.RESOLVE, Action.COLLECT)
    n.settle()
    was_accepted = "after" in name or name.startswith("accepted")
    assert posts(simulator) == (3 if was_accepted else 4)
    assert [b["requests"] for b in accepted(simulator)] == [3, 3, 3]
    assert paid_twice(simulator) == 0
    assert finals(n) == {row["id"]: Final("validated", None, 0, 1) for row in rows(9)}


def test_nothing_is_posted_while_a_lost_batch_is_looked_for(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "300")
    simulator = simulate(calls=[{"on": "create", "nth": 2, "fault": "drop_before_accepting"}])
    n = night(count=9, golden=0, limits={"max_requests": 3})
    for _ in range(3):
        read_source(n.context)
        summary = send_pending(n.context, BatchesApi)
        assert summary.waits_for is not None
    assert "its batch is looked for until 300 s have passed" in str(summary.waits_for)
    assert posts(simulator) == 2
    assert n.context.record().phase is Phase.SENDING


def test_what_was_sent_before_a_lost_answer_is_read_back_meanwhile(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCH_PIPELINE_GRACE_SECONDS", "300")
    simulate(calls=[{"on": "create", "nth": 2, "fault": "drop_before_accepting"}])
    n = night(count=4, golden=0, limits={"max_requests": 2})
    send(n)
    n.wait()
    n.collect()
    folder = n.context.folder(n.context.record())
    assert [len(rows_of(p)) for p in folder.verdicts("x").parent.glob("*")] == [2]
    assert n.next() is Action.RESOLVE


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>all is well</html>",
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b'{"id":"msgbatch_1","created_at":"2026-11-21T02:00:00Z","request_counts":{"processing":null}}',
        b'{"id":"msgbatch_1","request_counts":null}',
        b'{"id":"msgbatch_1","processing_status":"in_progress","created_at":"soon",'  # noqa: ISC004
        b'"request_counts":{"processing":2,"succeeded":0,"errored":0,"canceled":0,"expired":0}}',
        b'{"id":7,"processing_status":"in_progress","request_counts":{"processing":"many"}}',
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
def test_an_answer_that_cannot_be_read_is_a_lost_one(
    night: MakeNight, monkeypatch: pytest.MonkeyPatch, answer: bytes, kind: str
) -> None:
    n = night(count=2, golden=0)
    with answering(kind, answer) as address:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", address)
        send(n)
    assert chunk_states(n) == {ChunkState.INTENT: 1}
    [chunk] = n.ledger.chunks(n.context.record())
    assert "could not be read" in str(chunk.note)


# A definite refusal


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 413, 422])
def test_a_refusal_means_not_created_and_the_next_call_sends(
    simulate: Simulate, night: MakeNight, status: int
) -> None:
    simulator = simulate(
        calls=[{"on": "create", "nth": 2, "fault": "status", "status": status, "retry_after": 3600}]
    )
    n = night(count=6, golden=0, limits={"max_requests": 3})
    with pytest.raises(PipelineError, match=rf"not accepted.*{status}") as raised:
        send(n)
    stopped = n.context.record().stopped
    assert f"The API answered {status}" in str(stopped)
    assert "question number" not in f"{raised.value}{stopped}"
    assert posts(simulator) == 2
    send(n)
    assert n.context.record().stopped is None
    assert chunk_states(n) == {ChunkState.SUBMITTED: 2, ChunkState.NOT_CREATED: 1}
    assert sendings(n) == {row["id"]: [(0, 1)] for row in rows(6)}
    assert [b["requests"] for b in accepted(simulator)] == [3, 3]


def test_no_connection_means_not_created(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        monkeypatch.setenv("ANTHROPIC_BASE_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        n = night(count=2, golden=0)
        read_source(n.context)
        summary = send_pending(n.context, BatchesApi)
    assert "nothing was sent" in str(summary.waits_for)
    assert chunk_states(n) == {ChunkState.NOT_CREATED: 1}
    simulator = simulate()
    n.settle()
    assert [b["requests"] for b in accepted(simulator)] == [2]


def test_without_a_key_nothing_is_written_or_sent(
    simulate: Simulate, night: MakeNight, monkeypatch: pytest.MonkeyPatch
) -> None:
    simulator = simulate()
    n = night(count=2, golden=0)
    monkeypatch.setenv("ANTHROPIC_API_KEY", " ")
    with pytest.raises(ConfigurationError, match="ANTHROPIC_API_KEY"):
        send(n)
    assert posts(simulator) == 0
    assert not chunk_states(n)


# Several at once, and changes meanwhile


def test_two_that_submit_the_same_load_at_once_send_it_once(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(turnaround_seconds=60)
    n = night(count=20, limits={"max_requests": 5})
    again = Night(type(n.context).open(n.context.workload, DAY, n.context.settings))
    assert together(lambda: send(n), lambda: send(again)) == [None, None]
    assert [b["requests"] for b in accepted(simulator)] == [5] * 5
    assert set(map(tuple, sendings(n).values())) == {((0, 1),)}


def test_a_changed_prompt_stops_a_load_that_has_rows_to_send(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(calls=[{"on": "create", "nth": 2, "fault": "status", "status": 400}])
    options: dict[str, Any] = {"count": 4, "golden": 0, "limits": {"max_requests": 2}}
    n = night(**options)
    with pytest.raises(PipelineError):
        send(n)
    changed = night(**options, prompt={"user": "Answer: {{ text }}"})
    with pytest.raises(PipelineError, match=r"prompt.*changed.*--resend"):
        send(changed)
    assert posts(simulator) == 2
    send(n)
    assert [b["requests"] for b in accepted(simulator)] == [2, 2]


def test_a_source_that_changes_after_sending_does_not_change_the_load(
    simulate: Simulate, night: MakeNight
) -> None:
    simulate()
    n = night(count=4, golden=0)
    send(n)
    (n.folder / "source.csv").write_text("id,text\nother,question number 1 of the night\n")
    n.settle()
    assert set(finals(n)) == {row["id"] for row in rows(4)}


def test_a_lost_record_of_what_was_sent_stops_the_load(
    simulate: Simulate, night: MakeNight
) -> None:
    simulator = simulate(turnaround_seconds=60)
    n = night()
    send(n)
    folder = n.context.folder(n.context.record())
    [sent] = folder.sent("x").parent.glob("*")
    sent.unlink()
    with pytest.raises(PipelineError, match=r"is missing.*restore it"):
        send(n)
    assert posts(simulator) == 1


def test_an_error_never_holds_row_text(simulate: Simulate, night: MakeNight) -> None:
    simulate(
        calls=[{"on": "create", "fault": "status", "status": 400, "message": "requests.0: too bad"}]
    )
    secret = "4111 1111 1111 1111"
    n = night(golden=0, source=[{"id": "a", "text": secret}])
    with pytest.raises(PipelineError) as raised:
        send(n)
    noted = [c.note for c in n.ledger.chunks(n.context.record())]
    assert secret not in json.dumps([str(raised.value), n.context.record().stopped, *noted])
