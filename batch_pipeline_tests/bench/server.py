"""A server that speaks just enough of the Message Batches API, as fast as Python can, for benchmarks only.

    python -m batch_pipeline_tests.bench.server

It prints its address and serves until its standard input is closed. Bodies are read and forgotten, but for
their custom_ids; every batch has ended when it is looked at; result lines are put together from ones made beforehand.
The simulator renders, validates and accounts for each request, which takes longer than what is measured.
"""

import json
import random
import sys
import threading
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from typing import Any

from batch_pipeline_tests.bench.inputs import LABELS, MODEL

_MARK = b'"custom_id":"'
# The SDK writes its bodies with a blank after each colon, or without: by version.
_SPACED = b'"custom_id": "'
_READ = 1 << 20
_ID_BYTES = 64
# Made beforehand; a prime, so that no period of the rows meets a period of theirs.
_TAILS = 9_973
_LINES_AT_ONCE = 2_000


def _tail(n: int) -> tuple[str, bytes]:
    """The n-th result line after its custom_id: 1% errored, 1% expired, 3% broken answers."""
    kind = n % 100
    if kind == 0:
        error = {
            "type": "error",
            "error": {"type": "api_error", "message": "Internal server error"},
        }
        return "errored", _line({"type": "errored", "error": error})
    if kind == 1:
        return "expired", _line({"type": "expired"})
    answer: dict[str, Any] = {
        "intent": LABELS[n % 77] if kind != 2 else "none_of_these",
        "urgency": 1 + n % 5 if kind != 3 else 9,
        "confidence": round(0.5 + n % 50 / 100, 2),
        "refund": n % 3 == 0,
        "summary": f"The customer of case {n} asks what became of a payment that was made twice last week.",
    }
    text = json.dumps(answer) if kind != 4 else json.dumps(answer)[:-9]
    usage = {
        "input_tokens": 700 + n % 90,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "output_tokens": 50 + n % 20,
        "service_tier": "batch",
        "inference_geo": "not_available",
    }
    message = {
        "model": MODEL,
        "id": f"msg_{n:024}",
        "type": "message",
        "role": "assistant",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }
    return "succeeded", _line({"type": "succeeded", "message": message})


def _line(result: dict[str, Any]) -> bytes:
    return b'","result":' + json.dumps(result, separators=(",", ":")).encode() + b"}\n"


class _Batches:
    """What was created: custom_ids by batch, shuffled, and what the API says of each."""

    def __init__(self) -> None:
        self.tails = [_tail(n) for n in range(_TAILS)]
        self.ids: dict[str, list[bytes]] = {}
        self.said: dict[str, dict[str, Any]] = {}
        self.lock = threading.Lock()

    def add(self, ids: list[bytes], url: str) -> dict[str, Any]:
        # Results come in any order.
        random.Random(len(ids)).shuffle(ids)
        counts = dict.fromkeys(("processing", "succeeded", "errored", "canceled", "expired"), 0)
        for custom_id in ids:
            counts[self.tails[self.tail_of(custom_id)][0]] += 1
        moment = datetime.now(UTC)
        with self.lock:
            batch_id = f"msgbatch_bench_{len(self.said):08}"
            self.ids[batch_id] = ids
            self.said[batch_id] = {
                "id": batch_id,
                "type": "message_batch",
                "processing_status": "ended",
                "request_counts": counts,
                "created_at": moment.isoformat(),
                "expires_at": (moment + timedelta(hours=24)).isoformat(),
                "ended_at": moment.isoformat(),
                "archived_at": None,
                "cancel_initiated_at": None,
                "results_url": f"{url}/v1/messages/batches/{batch_id}/results",
            }
            running = {**dict.fromkeys(counts, 0), "processing": len(ids)}
            return {
                **self.said[batch_id],
                "processing_status": "in_progress",
                "request_counts": running,
                "ended_at": None,
                "results_url": None,
            }

    def tail_of(self, custom_id: bytes) -> int:
        """Which line a row gets: by its number alone, so that every contestant reads the same."""
        return int(custom_id[custom_id.rfind(b"-") + 1 :]) % _TAILS


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    batches: _Batches

    def do_POST(self) -> None:
        length = int(self.headers["content-length"])
        if self.path != "/v1/messages/batches":
            self.rfile.read(length)
            self._say({"input_tokens": 500})
            return
        self._say(self.batches.add(self._custom_ids(length), f"http://{self.headers['host']}"))

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        batch_id, _, results = path.removeprefix("/v1/messages/batches").strip("/").partition("/")
        if not batch_id:
            newest = list(islice(reversed(self.batches.said.values()), 1000))
            self._say({"data": newest, "has_more": False, "first_id": None, "last_id": None})
        elif results:
            self._results(self.batches.ids[batch_id])
        else:
            self._say(self.batches.said[batch_id])

    def _custom_ids(self, length: int) -> list[bytes]:
        """All custom_ids of a body of `length` bytes, whatever its size, a part of it at a time."""
        found: list[bytes] = []
        kept, mark = b"", _MARK
        while length:
            read = self.rfile.read(min(_READ, length))
            length -= len(read)
            part = kept + read
            if not found and mark not in part and _SPACED in part:
                mark = _SPACED
            at, done = part.find(mark), 0
            while at >= 0:
                start = at + len(mark)
                end = part.find(b'"', start, start + _ID_BYTES + 1)
                if end < 0:
                    break
                found.append(part[start:end])
                done = end
                at = part.find(mark, end)
            kept = part[max(done, len(part) - len(mark) - _ID_BYTES) :]
        return found

    def _results(self, ids: list[bytes]) -> None:
        tails, tail_of = self.batches.tails, self.batches.tail_of
        self.send_response(200)
        self.send_header("content-type", "application/x-jsonl")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for start in range(0, len(ids), _LINES_AT_ONCE):
            lines = b"".join(
                b'{"custom_id":"' + custom_id + tails[tail_of(custom_id)][1]
                for custom_id in ids[start : start + _LINES_AT_ONCE]
            )
            self.wfile.write(b"%x\r\n%b\r\n" % (len(lines), lines))
        self.wfile.write(b"0\r\n\r\n")

    def _say(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def _main() -> None:
    _Handler.batches = _Batches()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    _main()
