"""Works through a batch: every request answered once, the lines in an order that the seed decides."""

from __future__ import annotations

import mmap
import random
from array import array
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import orjson

from .api_errors import error_body
from .responder import Call, Responder
from .responder import Outcome as RequestOutcome
from .scenario import Scenario
from .store import Outcome, Record, Store, Tokens

RESULT_TYPES = ("succeeded", "errored", "canceled", "expired")
_LINES_AT_ONCE = 500


class AbandonedError(Exception):
    """The batch was canceled meanwhile, or the simulator stops."""


def work_through(
    store: Store,
    record: Record,
    scenario: Scenario,
    responder: Responder,
    abandoned: Callable[[], bool],
) -> tuple[Outcome, Path, array[int]]:
    """Answer a whole batch.

    Returns:
        The outcome, the results in a file beside the body, and the digests of the billed params.

    Raises:
        AbandonedError: as soon as `abandoned()` is true.
    """
    index = store.index(record)
    order = list(range(record.requests))
    chance = random.Random(f"{scenario.seed} {record.sequence}")  # noqa: S311 - a simulation
    chance.shuffle(order)
    call = Call(record.version, frozenset(record.betas), record.created_at, record.sequence)
    stopped = record.stopped
    outcome = Outcome(stopped, dict.fromkeys(RESULT_TYPES, 0))
    billed = array("Q")
    digest = ParamsDigest()
    path = store.path(record.id, "results.tmp")
    with (
        store.path(record.id, "body.json").open("rb") as body,
        mmap.mmap(body.fileno(), 0, access=mmap.ACCESS_READ) as data,
        path.open("wb") as file,
    ):
        lines: list[bytes] = []
        for at in order:
            offset, size, rule = index[3 * at], index[3 * at + 1], index[3 * at + 2]
            request = orjson.loads(data[offset : offset + size])
            if stopped is not None and chance.random() >= scenario.done_when_stopped:
                one = RequestOutcome(stopped)
            else:
                name = blake2b(f"{record.id} {at}".encode(), digest_size=12).hexdigest()
                scripted = scenario.rows[rule - 1].fault if 0 < rule <= len(scenario.rows) else None
                one = responder.respond(request["params"], call, f"msg_{name}", scripted)
            outcome.counts[one.type] += 1
            outcome.from_key += one.keyed
            if one.billed and one.message is not None:
                billed.append(digest.of(request["params"]))
                add_tokens(outcome.tokens, request["params"]["model"], one.message["usage"])
            lines.append(_line(request["custom_id"], one))
            if len(lines) >= _LINES_AT_ONCE:
                file.write(b"".join(lines))
                lines.clear()
                if abandoned():
                    raise AbandonedError
        file.write(b"".join(lines))
    outcome.billed = len(billed)
    return outcome, path, billed


class ParamsDigest:
    """Digests of params. A batch repeats all but the messages, which may be long: it is read once."""

    def __init__(self) -> None:
        self._rest: dict[str, Any] | None = None
        self._state = blake2b(digest_size=8)

    def of(self, params: dict[str, Any]) -> int:
        """64 bits that stand for what was asked, whatever the custom_id and the order of keys."""
        rest = {name: value for name, value in params.items() if name != "messages"}
        if rest != self._rest:
            self._rest = rest
            self._state = blake2b(_canonical(rest), digest_size=8)
        state = self._state.copy()
        state.update(_canonical(params["messages"]))
        return int.from_bytes(state.digest(), "little")


def _canonical(value: object) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def add_tokens(tokens: Tokens, model: str, usage: dict[str, Any]) -> None:
    """Add one message's usage to the billed tokens of a model."""
    created = usage["cache_creation"]
    spent = {
        "input": usage["input_tokens"],
        "cache_write_5m": created["ephemeral_5m_input_tokens"],
        "cache_write_1h": created["ephemeral_1h_input_tokens"],
        "cache_read": usage["cache_read_input_tokens"],
        "output": usage["output_tokens"],
    }
    known = tokens.setdefault(model, {})
    for name, count in spent.items():
        known[name] = known.get(name, 0) + count


def _line(custom_id: str, outcome: RequestOutcome) -> bytes:
    result: dict[str, Any] = {"type": outcome.type}
    if outcome.message is not None:
        result["message"] = outcome.message
    elif outcome.error is not None:
        mark = blake2b(custom_id.encode(), digest_size=12).hexdigest()
        result["error"] = error_body(*outcome.error, request_id=f"req_{mark}")
    line = orjson.dumps({"custom_id": custom_id, "result": result}) + b"\n"
    if outcome.line is None:
        return line
    match outcome.line:
        case "absent":
            return b""
        case "unparseable":
            return line[: len(line) // 2].rstrip(b"\n") + b"\n"
        case "foreign":
            stranger = {"custom_id": "nobody-sent-this", "result": {"type": "expired"}}
            return line + orjson.dumps(stranger) + b"\n"
        case _:
            return line + line
