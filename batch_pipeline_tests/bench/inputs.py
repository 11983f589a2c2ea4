"""The rows of a benchmark and the workload that asks about them, made anew from a number of rows and a shape."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import yaml

NAME = "bench"
MODEL = "claude-haiku-4-5"
LABELS = [f"intent_{n:02}" for n in range(77)]
# Words of the texts and of the long prompts; what they say matters to nobody, how well they compress does.
_ENGLISH = (
    "account address app balance bank billing cancel card change charge check code confirm country currency "
    "customer daily date declined delivery deposit device details direct exchange expired extra failed fee "
    "found freeze identity invoice late limit link lost money month name number online order passcode payment "
    "pending phone pin please plan post price question rate receipt refund renew request reset return send "
    "statement status stolen support ticket top transfer travel twice update upgrade verify virtual week why"
)
_WORDS = _ENGLISH.split()
# Some 4 bytes of such English are a token.
PREFIX_BYTES = {"short": 2_000, "long": 160_000}
TEXT_WORDS = 95

OUTPUT: dict[str, Any] = {
    "intent": {"type": "string", "enum": LABELS},
    "urgency": {"type": "integer", "minimum": 1, "maximum": 5},
    "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    "refund": {"type": "boolean"},
    "summary": {"type": "string", "maxLength": 300},
}


@dataclass(frozen=True)
class Inputs:
    """Where the rows and the declaration lie."""

    folder: Path
    rows: int
    shape: str

    @property
    def source(self) -> Path:
        return self.folder / "source.parquet"

    @property
    def workloads(self) -> Path:
        return self.folder / "workloads"

    @property
    def system(self) -> Path:
        return self.workloads / NAME / "system.md"


def make_inputs(folder: Path, rows: int, shape: str) -> Inputs:
    """Writes `rows` rows of some 600 bytes, and a workload with a prefix of the shape `short` or `long`.

    One tier, one attempt and no pilot, so that each contestant sends each row once.
    """
    inputs = Inputs(folder, rows, shape)
    inputs.system.parent.mkdir(parents=True, exist_ok=True)
    write_source(inputs.source, rows)
    inputs.system.write_text(prefix(PREFIX_BYTES[shape]), encoding="utf-8")
    declaration = {
        "type": "batch_pipeline.BatchWorkload",
        "attributes": {
            "name": NAME,
            "source": {"path": str(inputs.source), "key": "id"},
            "prompt": {"system": "system.md", "user": "Channel: {{ channel }}\n\n{{ text }}"},
            "output": OUTPUT,
            "tiers": [{"model": MODEL, "max_tokens": 256}],
            "gates": {"min_validity": 0.9},
            "limits": {"attempts": 1},
            "pilot": False,
        },
    }
    path = inputs.workloads / NAME / "defs.yaml"
    path.write_text(yaml.safe_dump(declaration, sort_keys=False), encoding="utf-8")
    return inputs


def write_source(path: Path, rows: int, first: int = 0) -> None:
    """Parquet of id, channel and text; every text is one of its own, and the same in every run.

    What it is about stands in it, so that a simulator's answer key needs a line per label only.
    """
    words = ", ".join(f"'{word}'" for word in _WORDS)
    with duckdb.connect() as connection:
        connection.execute("SET memory_limit = '2GB'")
        connection.execute(f"SET VARIABLE words = [{words}]")
        connection.execute(
            f"""COPY (
                SELECT 'r' || lpad(CAST(n AS VARCHAR), 8, '0') AS id,
                       ['mail', 'chat', 'phone', 'app'][1 + n % 4] AS channel,
                       'Question ' || n || ' about intent_' || lpad(CAST(n % {len(LABELS)} AS VARCHAR), 2, '0') || ': ' || array_to_string(list_transform(range({TEXT_WORDS}), lambda i:
                           getvariable('words')[CAST(1 + hash(n * 1000 + i) % {len(_WORDS)} AS BIGINT)]), ' ') AS text
                FROM range({first}, {first + rows}) AS t(n)
            ) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"""
        )


def prefix(size: int) -> str:
    """Instructions of `size` bytes, as they might be written for real: the labels, and examples without end."""
    lines = [
        "You sort what customers of an online bank write. Answer with the fields of the schema only."
    ]
    lines += [
        f"- {label}: about {_WORDS[n % 70]} and {_WORDS[-1 - n % 60]}"
        for n, label in enumerate(LABELS)
    ]
    text, n = "\n".join(lines)[:size], 0
    while len(text) < size:
        sentence = " ".join(_WORDS[(n * 7 + i * (1 + n % 5)) % len(_WORDS)] for i in range(12))
        text, n = f"{text}\nExample {n}: {sentence} is {LABELS[n % 77]}.", n + 1
    return text[:size]
