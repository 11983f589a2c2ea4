"""What a night left behind, read from its files alone: none of the pipeline's own reading is trusted.

The ledger is read by sqlite3 or psycopg, the warehouse and the rows by DuckDB, and the API's side from the simulator's
folder: what it accepted, answered and billed.
"""

import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb

from batch_pipeline.claude.prices import CATEGORIES, price_for

# In a report, and in a scorecard that is kept.
_PROMOTED = re.compile(r'in the system of record|"promoted_rows": ?[1-9]')

Key = tuple[str, str]
"""Workload and load."""


@dataclass(frozen=True)
class Sent:
    """One batch that the API accepted."""

    batch_id: str
    requests: list[dict[str, Any]]
    tokens: dict[str, dict[str, int]]
    counts: dict[str, int]
    billed: int
    results: list[dict[str, Any]]
    created_at: float

    @property
    def texts(self) -> list[str]:
        return [request["params"]["messages"][-1]["content"] for request in self.requests]

    @property
    def tokens_of_ids(self) -> set[str]:
        """The chunk tokens in its custom_ids."""
        return {request["custom_id"].partition("-")[0] for request in self.requests}

    @property
    def cost(self) -> float:
        """US dollars, at the price table's batch prices."""
        on = datetime.fromtimestamp(self.created_at).astimezone().date()
        total = 0.0
        for model, spent in self.tokens.items():
            price = price_for(model, on, batch=True)
            named = {f"{category}_tokens": spent.get(category, 0) for category in CATEGORIES}
            total += float(price.cost(**named))
        return total


def accepted(api: Path) -> list[Sent]:
    """All batches of the simulator's folder, oldest first. Unparseable result lines are left out."""
    found = []
    for folder in (api / "batches").iterdir():
        record = json.loads((folder / "record.json").read_bytes())
        outcome_file, results_file = folder / "outcome.json", folder / "results.jsonl"
        outcome = json.loads(outcome_file.read_bytes()) if outcome_file.is_file() else {}
        found.append(
            Sent(
                record["id"],
                json.loads((folder / "body.json").read_bytes())["requests"],
                outcome.get("tokens", {}),
                outcome.get("counts", {}),
                outcome.get("billed", 0),
                list(_lines(results_file)) if results_file.is_file() else [],
                record["created_at"],
            )
        )
    return sorted(found, key=lambda sent: sent.created_at)


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    for line in path.read_bytes().splitlines():
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value


@dataclass(frozen=True)
class Left:
    """The pipeline's state folder after a night, and its ledger where that is in Postgres."""

    state: Path
    ledger: str | None = None

    @cached_property
    def loads(self) -> dict[Key, dict[str, Any]]:
        """The latest generation of each load."""
        rows = self._ledger("SELECT * FROM loads ORDER BY generation")
        return {(row["workload"], row["load"]): row for row in rows}

    @cached_property
    def chunks(self) -> list[dict[str, Any]]:
        return self._ledger("SELECT * FROM chunks")

    @cached_property
    def batches(self) -> list[dict[str, Any]]:
        """With workload, load, tier and token of their chunks."""
        return self._ledger(
            "SELECT b.*, c.workload, c.load, c.tier, c.token, c.requests, c.state FROM batches AS b "
            "LEFT JOIN chunks AS c USING (chunk_id)"
        )

    def _ledger(self, query: str) -> list[dict[str, Any]]:
        if self.ledger is not None:
            return self._from_postgres(self.ledger, query)
        path = self.state / "ledger.sqlite"
        if not path.is_file():
            return []
        with closing(sqlite3.connect(path)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query)]

    @staticmethod
    def _from_postgres(url: str, query: str) -> list[dict[str, Any]]:
        import psycopg
        from psycopg.rows import dict_row

        dsn = url.replace("+psycopg", "")
        options = "-c search_path=batch_pipeline"
        with closing(psycopg.connect(dsn, options=options, row_factory=dict_row)) as connection:
            try:
                return connection.execute(query.encode()).fetchall()
            except psycopg.errors.UndefinedTable:
                return []

    def dispositions(self, key: Key) -> dict[str, tuple[Any, ...]]:
        """By source key: disposition, reason, tier, attempt. Raises AssertionError for a key that is there twice."""
        lines = self._rows(
            key, "dispositions", "key, disposition, reason, tier, attempt", "NOT golden"
        )
        found = {line[0]: tuple(line[1:]) for line in lines}
        assert len(found) == len(lines), f"{key}: a key has two dispositions"
        return found

    def _rows(self, key: Key, name: str, columns: str, where: str) -> list[tuple[Any, ...]]:
        generation = self.loads[key]["generation"]
        path = self.state / "rows" / key[0] / key[1] / f"g{generation}" / f"{name}.parquet"
        with duckdb.connect() as connection:
            query = f"SELECT {columns} FROM read_parquet(?) WHERE {where} ORDER BY ALL"
            return connection.execute(query, [str(path)]).fetchall() if path.is_file() else []

    def promoted(self, key: Key) -> list[tuple[Any, ...]]:
        """id, label, tier and model of what the warehouse's table holds of the load."""
        return self._warehouse(
            f'SELECT id, label, _tier, _model FROM promoted."{key[0]}" WHERE _load = ? ORDER BY ALL',
            key[1],
        )

    def measures(self, key: Key) -> dict[str, tuple[float | None, float | None, float | None]]:
        """Numerator, denominator and value by name."""
        lines = self._warehouse(
            "SELECT measure, numerator, denominator, value FROM metrics.measures "
            "WHERE workload = ? AND load = ?",
            *key,
        )
        found = {name: (above, below, value) for name, above, below, value in lines}
        assert len(found) == len(lines), f"{key}: a measure is there twice"
        return found

    def _warehouse(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        path = self.state / "warehouse.duckdb"
        if not path.is_file():
            return []
        with duckdb.connect(str(path), read_only=True) as connection:
            try:
                return connection.execute(query, list(values)).fetchall()
            except duckdb.CatalogException:
                return []  # nothing of the kind was written yet

    def pages(self) -> dict[str, bool]:
        """What is written for people, the reports and the scorecards that are kept: do they speak of a promotion?"""
        folders = (self.state / "reports", self.state / "scorecards")
        found = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
        return {
            str(path.relative_to(self.state)): bool(_PROMOTED.search(path.read_text("utf-8")))
            for path in found
        }

    def leftovers(self) -> list[str]:
        """Files that only a crash leaves: half written, request bodies, downloads."""
        found = [
            path
            for path in self.state.rglob("*")
            if path.name.endswith((".tmp", ".wal"))
            or (path.parent.name == "chunks" and "rows" in path.parts)
            or path.parent == self.state / "tmp"
        ]
        return sorted(str(path.relative_to(self.state)) for path in found)


@dataclass(frozen=True)
class Result:
    """What a load came to: equal for two nights that ended alike.

    Not the number of batches: rows that a crash kept from being sent go out with those of the next wave.
    """

    dispositions: dict[str, tuple[Any, ...]]
    promoted: list[tuple[Any, ...]]
    measures: dict[str, tuple[Any, ...]]
    requests: int
    pages: dict[str, bool]

    def differences(self, other: "Result") -> list[str]:
        """Sentences on how `other` is not like this one."""
        said = []
        for name in ("dispositions", "promoted", "requests", "pages"):
            mine, others = getattr(self, name), getattr(other, name)
            if mine != others:
                said.append(f"{name}: {mine} became {others}")
        for name in sorted({*self.measures, *other.measures}):
            mine, others = self.measures.get(name), other.measures.get(name)
            said += [f"{name}: {mine} became {others}"] if mine != others else []
        return said


def result(left: Left, sent: list[Sent], key: Key) -> Result:
    """What a load came to, in a place where nothing else ran."""
    return Result(
        left.dispositions(key),
        left.promoted(key),
        {name: value for name, value in left.measures(key).items() if name != "batches"},
        sum(len(batch.requests) for batch in sent),
        left.pages(),
    )


def billed_twice(left: Left, sent: list[Sent]) -> list[str]:
    """Requests of one load, the same to the letter, that were billed more than once.

    A row is asked the same again only after an outcome that nobody pays.
    """
    load_of = {chunk["token"]: (chunk["workload"], chunk["load"]) for chunk in left.chunks}
    count: Counter[tuple[Any, ...]] = Counter()
    for batch in sent:
        asked = {request["custom_id"]: request["params"] for request in batch.requests}
        # A line that stands in the file twice was billed once.
        for custom_id in {line["custom_id"] for line in batch.results if _is_billed(line)}:
            params = asked[custom_id]
            load = load_of.get(custom_id.partition("-")[0])
            if load is not None:
                text = params["messages"][-1]["content"]
                count[*load, text, params["model"], params["max_tokens"]] += 1
    return [f"{key} was billed {n} times" for key, n in sorted(count.items()) if n > 1]


def _is_billed(line: dict[str, Any]) -> bool:
    result_of = line.get("result", {})
    if result_of.get("type") != "succeeded":
        return False
    return bool(result_of["message"]["stop_reason"] != "refusal")
