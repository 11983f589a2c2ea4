"""A workload with a history of graded nights, written into the real stores without sending anything.

The numbers are drawn with a fixed seed; the tables, the copies and the ledger are the pipeline's own.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from batch_pipeline.ledger import Chunk, ChunkState
from batch_pipeline.ledger.records import Phase
from batch_pipeline.measure.gate import GateDecision
from batch_pipeline.measure.golden import GoldenScore
from batch_pipeline.measure.rates import Rate
from batch_pipeline.measure.spend import TOKENS, Spend
from batch_pipeline.stages.scorecard import Scorecard
from batch_pipeline.warehouse.connection import warehouse
from batch_pipeline.warehouse.metrics import _create, copy_metrics
from batch_pipeline_tests.night import DAY, Night

LAST = date.fromisoformat(DAY)
NOW = datetime(2026, 11, 21, 4, 0, tzinfo=UTC)
RATES = (
    "coverage",
    "validity",
    "validity_all_tiers",
    "escalation_rate",
    "truncation_rate",
    "refusal_rate",
    "errored_rate",
    "expired_rate",
)


@dataclass
class History:
    """How the nights went. `validity` gives the rate of the night that lies so many days back."""

    nights: int = 90
    rows: int = 12_000
    golden: int = 200
    baseline: float = 0.91
    slices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    labels: Sequence[str] = ("billing", "bug", "how_to", "shipping")
    missing: Sequence[int] = ()  # days back without a load
    changed: int | None = None  # days back on which the declaration changed
    held: Sequence[int] = ()
    validity: Callable[[int], float] = lambda _: 0.994
    slice_rate: Callable[[str, int], float] = lambda _slice, _back: 0.994
    exact: bool = False  # every night counts the very same
    seed: int = 7

    def days_back(self) -> list[int]:
        """The newest is 0; as many loads as `nights`."""
        found: list[int] = []
        back = 0
        while len(found) < self.nights:
            if back not in self.missing:
                found.append(back)
            back += 1
        return found[::-1]


def make(folder: Path, history: History, **changes: Any) -> Night:
    """Writes the history of a workload and its loads' records; the newest load is settled."""
    night = Night.make(folder, count=3, golden=1 if history.golden else 0, **changes)
    workload = night.context.workload.name
    tables = _tables(workload, history)
    with warehouse(night.context.settings.state) as connection:
        _create(connection)
        for name, rows in tables.items():
            if rows:
                columns = pa.Table.from_pylist(rows)
                connection.register("incoming", columns)
                connection.execute(f"INSERT INTO metrics.{name} BY NAME FROM incoming")
                connection.unregister("incoming")
        copy_metrics(connection, night.context.settings.state)
    for back in history.days_back()[-2:]:
        load = str(LAST - timedelta(days=back))
        night.ledger.record_load(
            workload,
            load,
            generation=1,
            fingerprint=night.context.workload.fingerprint(),
            source_rows=history.rows,
            golden_rows=history.golden,
            requested_by=None,
        )
        record = night.ledger.load(workload, load)
        assert record is not None
        night.ledger.set_phase(record, Phase.SETTLED)
        night.ledger.record_gate(record, promote=back not in history.held, fingerprint="f")
    return night


def add_batches(night: Night, hours: Sequence[float | None]) -> None:
    """Batches of the newest load that took so long; None for one that is open."""
    record = night.context.record()
    for n, took in enumerate(hours):
        chunk = Chunk(
            chunk_id=f"{record.workload}{n}",
            workload=record.workload,
            load=record.load,
            generation=1,
            wave=1,
            tier=n % 2,
            model="claude-haiku-4-5",
            token=f"{record.workload}{n}",
            requests=1000 + n,
            bytes=1,
            sha256="0",
            state=ChunkState.INTENT,
            api=None,
            intended_at=NOW,
            looked_for_since=None,
            closed_at=None,
            note=None,
        )
        night.ledger.record_intent(chunk)
        created = NOW - timedelta(hours=took or 3)
        batch_id = f"msgbatch_01{record.workload}{n:018}"
        night.ledger.record_submitted(
            chunk.chunk_id,
            batch_id=batch_id,
            request_id=None,
            api="https://api.anthropic.com",
            status="in_progress",
            created_at=created,
            expires_at=created + timedelta(hours=24),
        )
        if took is not None:
            night.ledger.update_batch(
                batch_id,
                status="ended",
                ended_at=NOW,
                collected_at=NOW,
                succeeded=1000 + n,
            )


def card_of(night: Night, history: History, **changes: Any) -> Scorecard:
    """The scorecard of the newest load, with the very numbers of its last night."""
    tables = _tables(night.context.workload.name, history)
    last = {row["measure"]: row for row in tables["measures"] if row["load"] == night.context.load}

    def rate(name: str) -> Rate:
        return Rate(int(last[name]["numerator"]), int(last[name]["denominator"]))

    n = history.rows
    usd = {kind: last[f"usd_{kind}"]["value"] for kind in TOKENS}
    card = Scorecard(
        workload=night.context.workload.name,
        load=night.context.load,
        settled=True,
        source_rows=n,
        golden_rows=history.golden,
        dispositions={"validated": n - 130, "quarantined": 18, "human_review": 112},
        reasons=[
            ("human_review", "contract: urgency is above its maximum of 5", 71),
            ("human_review", "refusal", 41),
            ("quarantined", "invalid_request_error", 11),
            ("quarantined", "expired", 7),
        ],
        rates={name: rate(name) for name in RATES},
        spend=Spend(
            tokens={kind: int(last[f"tokens_{kind}"]["value"]) for kind in TOKENS},
            usd=usd,
            usd_by_tier={0: sum(usd.values()) * 0.7, 1: sum(usd.values()) * 0.3},
        ),
        golden=GoldenScore(
            int(last["golden_score"]["numerator"]), history.golden, Decimal(str(history.baseline))
        )
        if history.golden
        else None,
        gate=GateDecision(True, ["all source rows have a disposition", "golden score holds"], "f"),
        batches=14,
        requests=n + history.golden,
        results={"succeeded": n - 18, "errored": 11, "canceled": 0, "expired": 7},
        batches_reconciled=True,
        promoted_rows=n - 130,
        answered_by=("https://api.anthropic.com",),
        requests_by_tier={0: n, 1: 900},
    )
    return replace(card, **changes)


def _tables(workload: str, history: History) -> dict[str, list[dict[str, Any]]]:
    draw = random.Random(history.seed)
    rows: dict[str, list[dict[str, Any]]] = {
        name: [] for name in ("loads", "measures", "slices", "labels", "gates")
    }
    for back in history.days_back():
        here = {"workload": workload, "load": str(LAST - timedelta(days=back))}
        at = {"measured_at": NOW.replace(tzinfo=None)}
        old = history.changed is not None and back > history.changed
        rows["loads"].append(
            {
                **here,
                **at,
                "generation": 1,
                "declaration": "old" if old else "new",
                "cancelled": False,
                "verdict": "pass",
                "baseline_score": history.baseline - (0.02 if old else 0),
                "golden_set": "g",
            }
        )
        rows["gates"].append(
            {
                **here,
                "fingerprint": "f",
                "promote": back not in history.held,
                "reasons": ["said"],
                "decided_at": NOW.replace(tzinfo=None),
            }
        )
        for name, good, n, value in _measures(history, back, draw):
            rows["measures"].append(
                {**here, **at, "measure": name, "numerator": good, "denominator": n, "value": value}
                | {"fingerprint": "f"}
            )
        for column, names in history.slices.items() if back < 20 else ():
            for name in names:
                for measure, size in (
                    ("validity", history.rows // len(names)),
                    ("golden_score", 25),
                ):
                    good = _drawn(draw, size, history.slice_rate(name, back), exact=history.exact)
                    facts = {"slice_column": column, "slice": name, "measure": measure}
                    rows["slices"].append(
                        {**here, **facts, "good": good, "n": size, "broken": False}
                    )
        for n, label in enumerate(history.labels):
            count = round(history.rows * (0.4 + draw.uniform(-0.02, 0.02)) / (n + 1))
            rows["labels"].append({**here, "field": "label", "label": label, "rows": count})
    return rows


def _measures(
    history: History, back: int, draw: random.Random
) -> list[tuple[str, float | None, float | None, float | None]]:
    n = history.rows
    wobble = 0.0 if history.exact else draw.gauss(0, 0.0008)
    validity = min(history.validity(back) + wobble, 1.0)
    shares = {
        "coverage": 1.0,
        "validity": validity,
        "validity_all_tiers": min(validity + 0.004, 1.0),
        "escalation_rate": min(0.06 + 2 * (0.994 - validity), 1.0),
        "truncation_rate": 0.002,
        "refusal_rate": 0.0,
        "errored_rate": 0.001,
        "expired_rate": 0.05 if back == 40 else 0.0,
    }
    found: list[tuple[str, float | None, float | None, float | None]] = []
    for name, share in shares.items():
        good = _drawn(draw, n, share, exact=history.exact)
        found.append((name, good, n, good / n))
    if history.golden:
        share = history.baseline - (0.02 if back == 0 else 0.0)
        good = _drawn(draw, history.golden, share, exact=history.exact)
        found.append(("golden_score", good, history.golden, good / history.golden))
    tokens = dict(zip(TOKENS, (n * 60, 0, 1200, n * 480, n * 35), strict=True))
    prices = dict(zip(TOKENS, (0.5e-6, 0.625e-6, 1e-6, 0.05e-6, 2.5e-6), strict=True))
    wave = 1.0 if history.exact else draw.uniform(0.97, 1.03)
    usd = {kind: tokens[kind] * prices[kind] * wave for kind in TOKENS}
    cost = sum(usd.values())
    inputs = sum(tokens[kind] for kind in TOKENS if kind != "output")
    found += [
        ("cost_usd", cost, None, cost),
        ("cost_per_good_row_usd", cost, n - 130, cost / (n - 130)),
        ("cache_hit_rate", tokens["cache_read"], inputs, tokens["cache_read"] / inputs),
        ("source_rows", n, None, n),
        ("turnaround_hours_max", 1, None, 1.0 if history.exact else draw.uniform(0.6, 5.5)),
        *((f"tokens_{kind}", float(k), None, float(k)) for kind, k in tokens.items()),
        *((f"usd_{kind}", k, None, k) for kind, k in usd.items()),
    ]
    return found


def _drawn(draw: random.Random, n: int, share: float, *, exact: bool) -> int:
    if exact:
        return round(n * share)
    spread = (n * share * (1 - share)) ** 0.5
    return max(0, min(n, round(draw.gauss(n * share, spread))))
