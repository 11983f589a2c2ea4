"""The floor: one script, as tight as it can be written, that does for this one workload what a night must do.

It leaves what the pipeline leaves: bodies on disk with a digest before they are sent, which rows they carried,
the results verbatim and compressed, a verdict for every answer, a ledger, measures and a promoted table. It
knows its five fields by heart, recovers from nothing, looks for no equal rows and explains nothing.
"""

import hashlib
import http.client
import json
import secrets
import sqlite3
import sys
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
import orjson
import zstandard

from batch_pipeline_tests.bench.inputs import LABELS, MODEL, OUTPUT
from batch_pipeline_tests.bench.stopwatch import Stopwatch

_MOST_REQUESTS, _MOST_BYTES = 100_000, 200_000_000
_ROWS = 5_000


class _Floor:
    def __init__(self, source: Path, system: Path, state: Path, url: str, watch: Stopwatch) -> None:
        self.source, self.state, self.watch = source, state, watch
        self.system = system.read_text(encoding="utf-8")
        address = urlsplit(url)
        self.connection = http.client.HTTPConnection(address.hostname or "", address.port)
        self.duckdb = duckdb.connect(config={"memory_limit": "600MB"})
        self.duckdb.execute(f"SET temp_directory = '{state}'")
        self.ledger = sqlite3.connect(state / "ledger.sqlite")
        self.ledger.execute("CREATE TABLE chunks (token, requests, bytes, sha256, batch_id)")

    def run(self) -> dict[str, Any]:
        with self.watch("source"):
            self.duckdb.execute(
                f"COPY (SELECT row_number() OVER () - 1 AS row, * FROM '{self.source}') "
                f"TO '{self.state}/source.parquet' (FORMAT parquet, COMPRESSION zstd)"
            )
        with self.watch("submit"):
            batches = list(self._sent())
        for token, batch_id in batches:
            with self.watch("collect"):
                self._download(token, batch_id)
            with self.watch("validate"):
                self._judge(token)
        with self.watch("publish"):
            return self._publish()

    def _sent(self) -> Any:
        for n, (token, body, requests) in enumerate(self._bodies()):
            digest = hashlib.sha256()
            with body.open("rb") as file:
                while part := file.read(1 << 20):
                    digest.update(part)
            size = body.stat().st_size
            chunk = (token, requests, size, digest.hexdigest(), None)
            with self.ledger:
                self.ledger.execute("INSERT INTO chunks VALUES (?, ?, ?, ?, ?)", chunk)
            with body.open("rb") as file:
                self.connection.request(
                    "POST",
                    "/v1/messages/batches",
                    file,
                    {"content-type": "application/json", "content-length": str(size)},
                )
                batch_id = json.load(self.connection.getresponse())["id"]
            with self.ledger:
                self.ledger.execute(
                    "UPDATE chunks SET batch_id = ? WHERE rowid = ?", (batch_id, n + 1)
                )
            body.unlink()
            yield token, batch_id

    def _bodies(self) -> Any:
        """Body files, each with its token and number of requests; the rows it carries stand in a text file."""
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: {"type": field["type"]} for name, field in OUTPUT.items()},
            "required": list(OUTPUT),
            "additionalProperties": False,
        }
        schema["properties"]["intent"]["enum"] = LABELS
        params = {
            "model": MODEL,
            "max_tokens": 256,
            "output_config": {"format": {"type": "json_schema", "schema": schema}},
            "system": [{"type": "text", "text": self.system}],
            "messages": [{"role": "user", "content": "SLOT"}],
        }
        head, tail = orjson.dumps(params).split(b'"SLOT"')
        head, tail = b'","params":' + head, tail + b"}"
        reader = self.duckdb.sql(
            f"SELECT row, 'Channel: ' || channel || chr(10) || chr(10) || text "
            f"FROM '{self.state}/source.parquet'"
        ).to_arrow_reader(_ROWS)
        dumps = orjson.dumps
        token, file, requests, size = "", None, 0, 0
        for block in reader:
            rows, texts = (column.to_pylist() for column in block.columns)
            at = 0
            while at < len(rows):
                if file is None:
                    token, requests, size = secrets.token_hex(6), 0, 14
                    path = self.state / f"{token}.json"
                    file = path.open("wb", buffering=0)
                    sent = (self.state / f"{token}.rows").open("w")
                    start = f'{{"custom_id":"{token}-'.encode()
                made = [
                    b"%b%d%b%b%b" % (start, row, head, dumps(text), tail)
                    for row, text in zip(rows[at:], texts[at:], strict=True)
                ]
                sizes = list(accumulate(map(len, made), initial=size))
                fit = min(len(made), _MOST_REQUESTS - requests)
                while fit and sizes[fit] + requests + fit > _MOST_BYTES:
                    fit -= 1
                if fit:
                    file.write(b"," if requests else b'{"requests":[')
                    file.write(b",".join(made[:fit]))
                    sent.write("\n".join(map(str, rows[at : at + fit])) + "\n")
                    requests, size, at = requests + fit, sizes[fit], at + fit
                if at < len(rows):
                    file.write(b"]}")
                    file.close()
                    sent.close()
                    file = None
                    yield token, path, requests
        if file is not None:
            file.write(b"]}")
            file.close()
            sent.close()
            yield token, path, requests

    def _download(self, token: str, batch_id: str) -> None:
        self.connection.request("GET", f"/v1/messages/batches/{batch_id}/results")
        answer = self.connection.getresponse()
        compressor = zstandard.ZstdCompressor(level=3)
        with (
            (self.state / f"{token}.jsonl").open("wb") as plain,
            (self.state / f"{token}.jsonl.zst").open("wb") as kept,
            compressor.stream_writer(kept) as packed,
        ):
            while part := answer.read(1 << 20):
                plain.write(part)
                packed.write(part)

    def _judge(self, token: str) -> None:
        """Opens, checks and writes down the answers of a batch in one statement, row by row of what was sent."""
        labels = ", ".join(f"'{label}'" for label in LABELS)
        raw = self.state / f"{token}.jsonl"
        self.duckdb.execute(
            f"""COPY (
                WITH lines AS (
                    SELECT CAST(split_part(custom_id, '-', 2) AS BIGINT) AS row, result,
                           try_cast(result.message.content[1].text AS JSON) AS answer
                    FROM read_ndjson('{raw}', maximum_object_size = 1048576, columns = {{custom_id: 'VARCHAR',
                        result: 'STRUCT(type VARCHAR, message STRUCT(model VARCHAR, stop_reason VARCHAR,
                        content STRUCT(text VARCHAR)[], usage STRUCT(input_tokens BIGINT, output_tokens BIGINT,
                        cache_creation_input_tokens BIGINT, cache_read_input_tokens BIGINT)))'}})
                ), opened AS (
                    SELECT row, result.type AS type, result.message.model AS model, result.message.usage AS usage,
                           answer IS NOT NULL AND json_type(answer) = 'OBJECT' AND len(json_keys(answer)) = 5
                           AND json_type(answer, '$.intent') = 'VARCHAR'
                           AND json_type(answer, '$.urgency') = 'UBIGINT'
                           AND json_type(answer, '$.confidence') = 'DOUBLE'
                           AND json_type(answer, '$.refund') = 'BOOLEAN'
                           AND json_type(answer, '$.summary') = 'VARCHAR' AS typed,
                           answer ->> '$.intent' AS intent, try_cast(answer ->> '$.urgency' AS BIGINT) AS urgency,
                           try_cast(answer ->> '$.confidence' AS DOUBLE) AS confidence,
                           answer ->> '$.refund' = 'true' AS refund, answer ->> '$.summary' AS summary
                    FROM lines
                )
                SELECT sent.row, type, model, usage, typed AND intent IN ({labels}) AND urgency BETWEEN 1 AND 5
                       AND confidence BETWEEN 0 AND 1 AND len(summary) <= 300 AS valid,
                       intent, urgency, confidence, refund, summary
                FROM read_csv('{self.state}/{token}.rows', columns = {{row: 'BIGINT'}}, header = false) AS sent
                LEFT JOIN opened USING (row)
            ) TO '{self.state}/{token}.parquet' (FORMAT parquet, COMPRESSION zstd)"""
        )
        raw.unlink()

    def _publish(self) -> dict[str, Any]:
        run = self.duckdb.execute
        run(f"ATTACH '{self.state}/warehouse.duckdb' AS warehouse")
        verdicts = f"'{self.state}/[0-9a-f]*.parquet'"
        found = run(
            f"""SELECT count(*), count(DISTINCT row), count(*) FILTER (valid),
                   count(*) FILTER (type = 'succeeded'), sum(usage.input_tokens), sum(usage.output_tokens)
               FROM {verdicts} JOIN '{self.state}/source.parquet' USING (row)"""
        ).fetchall()[0]
        rows, distinct, valid, succeeded, tokens_in, tokens_out = found
        run(
            f"""CREATE TABLE warehouse.promoted AS
                SELECT s.id, v.intent, v.urgency, v.confidence, v.refund, v.summary, v.model
                FROM {verdicts} AS v JOIN '{self.state}/source.parquet' AS s USING (row) WHERE v.valid"""
        )
        measures = {
            "source_rows": rows,
            "coverage": distinct / rows,
            "validity": valid / succeeded,
            "cost_usd": (tokens_in * 1.0 + tokens_out * 5.0) / 2e6,
            "promoted_rows": valid,
        }
        run("CREATE TABLE warehouse.measures (measure VARCHAR, value DOUBLE)")
        self.duckdb.executemany(
            "INSERT INTO warehouse.measures VALUES (?, ?)", list(measures.items())
        )
        run("DETACH warehouse")
        return measures


def _main(source: str, system: str, state: str, url: str) -> None:
    watch = Stopwatch()
    measures = _Floor(Path(source), Path(system), Path(state), url, watch).run()
    print(json.dumps({"seconds": watch.seconds, "peak_mb": watch.peak_mb, "measures": measures}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
