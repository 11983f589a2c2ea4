"""What a load left behind, read from outside: request bodies, files, the ledger, the simulator's account."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import duckdb
import httpx2
import zstandard

from batch_pipeline.claude.client import BatchesApi, BatchStatus
from batch_pipeline.ledger import Chunk, ChunkState
from batch_pipeline.rows import LoadFolder, Place
from batch_pipeline.simulator import Simulator
from batch_pipeline_tests.night import HAIKU, Night, account_of


@dataclass
class Watch:
    """Makes API clients that keep a copy of every body they send, and may do something beforehand."""

    before: Callable[[Path], None] = lambda _body: None
    timeout: float | None = None
    bodies: list[bytes] = field(default_factory=list)

    def __call__(self) -> BatchesApi:
        return _Watched(self)

    @property
    def requests(self) -> list[list[dict[str, Any]]]:
        """The requests of each body, as JSON."""
        return [json.loads(body)["requests"] for body in self.bodies]


class _Watched(BatchesApi):
    def __init__(self, watch: Watch) -> None:
        super().__init__()
        self._watch = watch
        if watch.timeout is not None:
            self._client = self._client.with_options(timeout=watch.timeout)

    def create(self, body: Path) -> BatchStatus:
        self._watch.before(body)
        self._watch.bodies.append(body.read_bytes())
        return super().create(body)


def posts(simulator: Simulator) -> int:
    """How many create calls arrived, whatever became of them."""
    arrived: int = account_of(simulator)["arrived"].get("create", 0)
    return arrived


def downloads(simulator: Simulator) -> int:
    return sum(account_of(simulator)["calls"].get("results", {}).values())


def accepted(simulator: Simulator) -> list[dict[str, Any]]:
    """The batches that the API holds, oldest first."""
    batches: list[dict[str, Any]] = account_of(simulator)["batches"]
    return batches[::-1]


def paid_twice(simulator: Simulator) -> int:
    """How many distinct requests were billed more than once."""
    return sum(n for times, n in account_of(simulator)["params_billed"].items() if int(times) > 1)


def ask(simulator: Simulator, method: str, path: str) -> bytes:
    """The answer to one call of somebody else, in the Console say."""
    response = httpx2.request(
        method,
        f"{simulator.base_url}/v1/messages/batches/{path}",
        headers={"authorization": "Bearer test-key", "anthropic-version": "2026-10-21"},
    )
    assert response.status_code == 200, response.text
    return response.content


def create(simulator: Simulator, requests: int) -> str:
    """Somebody else's batch in the same workspace; its id."""
    params = {"model": HAIKU, "max_tokens": 8, "messages": [{"role": "user", "content": "hello"}]}
    body = {"requests": [{"custom_id": f"theirs-{n}", "params": params} for n in range(requests)]}
    response = httpx2.post(
        f"{simulator.base_url}/v1/messages/batches",
        headers={"authorization": "Bearer other-key", "anthropic-version": "2026-10-21"},
        json=body,
    )
    assert response.status_code == 200, response.text
    return str(response.json()["id"])


def chunk_states(night: Night) -> Counter[ChunkState]:
    return Counter(chunk.state for chunk in night.ledger.chunks(night.context.record()))


def rows_of(path: Place | Sequence[Place], columns: str = "*", where: str = "true") -> list[Any]:
    """Lines of Parquet files, as tuples in order."""
    paths = [str(each) for each in ([path] if isinstance(path, Place) else path)]
    with duckdb.connect() as connection:
        return connection.execute(
            f"SELECT {columns} FROM read_parquet(?) WHERE {where} ORDER BY ALL", [paths]
        ).fetchall()


def results(folder: LoadFolder, chunk: Chunk) -> dict[int, dict[str, Any]]:
    """The result of each row of a chunk that has one."""
    with folder.raw(chunk.chunk_id).open("rb") as file:
        content = zstandard.ZstdDecompressor().stream_reader(file).read()
    found: dict[int, dict[str, Any]] = {}
    for line in content.splitlines():
        parsed = json.loads(line)
        token, _, row = parsed["custom_id"].partition("-")
        assert token == chunk.token
        found.setdefault(int(row), parsed["result"])
    return found


@dataclass(frozen=True)
class Final:
    """The end of one row."""

    disposition: str
    reason: str | None
    tier: int | None
    attempts: int


def finals(night: Night, *, golden: bool = False) -> dict[str, Final]:
    """The dispositions that were written down, by key."""
    path = night.context.folder(night.context.record()).dispositions
    return {
        key: Final(*rest)
        for key, *rest in rows_of(
            path, "key, disposition, reason, tier, attempts", f"golden = {golden}"
        )
    }


def sendings(night: Night) -> dict[str, list[tuple[int, int]]]:
    """(tier, attempt) of every sending of every row, in order, by key; golden rows included."""
    folder = night.context.folder(night.context.record())
    live = [
        folder.sent(chunk.chunk_id)
        for chunk in night.ledger.chunks(night.context.record())
        if chunk.state is not ChunkState.NOT_CREATED
    ]
    keys = dict(rows_of(folder.source, "_row, _key"))
    sent: dict[str, list[tuple[int, int]]] = {key: [] for key in keys.values()}
    for row, _sending, tier, attempt in rows_of(live, "row, sending, tier, attempt"):
        sent[keys[row]].append((tier, attempt))
    return sent


@contextmanager
def answering(kind: str, answer: bytes) -> Iterator[str]:
    """The address of a server that gives every call the same answer, with status 200."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"] or 0))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def together(*works: Callable[[], object]) -> list[BaseException | None]:
    """Runs the works at the same time, in threads, and returns what each raised."""
    raised: list[BaseException | None] = [None] * len(works)

    def run(n: int, work: Callable[[], object]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001
            raised[n] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised
